//! Q3_K: 3-bit codes with a 6-bit signed scale per 16 weights, in super-blocks of 256.
//!
//! | bytes | what |
//! |---|---|
//! | 0..32 | third bits: bit `k` of byte `l` belongs to weight `32 k + l` |
//! | 32..96 | low 2 bits: 32 bytes for each 128 weights; byte `l` has weights `l`, `l + 32`, `l + 64`, `l + 96`, from its lowest bits on |
//! | 96..108 | 16 scales of 6 bits |
//! | 108..110 | `d`, binary16 |
//!
//! The low 4 bits of scale `j < 8` are the low nibble of byte `96 + j`, those of scale `j + 8` its high nibble; byte
//! `104 + j`, `j < 4`, has the top 2 bits of scales `j`, `j + 4`, `j + 8`, `j + 12`, from its lowest bits on.
//!
//! Weight: `d * (scale - 32) * (code - 4)`.

use super::search::{Rows, column, make_q3_quants, make_qx_quants, rows, symmetric_code};
use super::vector::{MAX_LANES, Vector, nearest_int};
use super::{BlockCodec, F16_MAX, GROUP, Importance, QK_K, binary16, sums_of_squares};

/// Sub-blocks per super-block, and weights per sub-block.
const N: usize = 16;

pub(super) struct Q3K;

impl BlockCodec<QK_K, 110> for Q3K {
    const MAX: f32 = F16_MAX * 32.0 * 4.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; QK_K]],
        importance: Importance<'_, QK_K>,
        blocks: &mut [[u8; 110]],
    ) -> bool {
        let mut finite = true;
        for (group, (weights, blocks)) in weights.chunks(GROUP).zip(blocks.chunks_mut(GROUP)).enumerate() {
            match importance {
                None => own_fit::<V>(weights, |i, d, packed, codes| {
                    finite &= write(d, &packed, &weights[i], codes, &mut blocks[i]);
                }),
                Some(importance) => {
                    weighted_fit::<V>(weights, group * GROUP, importance, |i, d, packed, codes| {
                        finite &= write(d, &packed, &weights[i], codes, &mut blocks[i]);
                    });
                }
            }
        }
        finite
    }

    #[inline(always)]
    fn decode(block: &[u8; 110], weights: &mut [f32; QK_K]) {
        let d = binary16::read(&block[108..]);
        let mut packed = [0; 12];
        packed.copy_from_slice(&block[96..108]);
        let (high, low) = block[..96].split_at(32);
        let halves = low.as_chunks::<32>().0.iter().zip(weights.as_chunks_mut::<128>().0);
        for (half, (low, weights)) in halves.enumerate() {
            for (quarter, weights) in weights.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                for (part, weights) in weights.as_chunks_mut::<N>().0.iter_mut().enumerate() {
                    let d = d * unpack_scale(8 * half + 2 * quarter + part, &packed);
                    for l in 0..N {
                        let at = N * part + l;
                        let code = (low[at] >> (2 * quarter) & 3) | (high[at] >> (4 * half + quarter) & 1) << 2;
                        weights[l] = d * (f32::from(code) - 4.0);
                    }
                }
            }
        }
    }
}

/// Fits super-blocks without importance. `emit` gets their number, the bits of `d`, packed scales, and a function for
/// the codes of a sub-block whose stored scale is 0.
#[inline(always)]
fn own_fit<V: Vector>(weights: &[[f32; QK_K]], mut emit: impl FnMut(usize, u16, [u8; 12], &dyn Fn(usize) -> [u8; N])) {
    let mut scales = [[0.0; N]; GROUP];
    let mut found = [[V::zero(); N]; GROUP];
    let all = weights.as_flattened();
    for (at, codes) in (0..weights.len() * N).step_by(V::LANES).zip(&mut found) {
        let x: Rows<V, N> = rows(&all[at * N..]);
        make_q3_quants(4.0, &x, codes).store(&mut scales.as_flattened_mut()[at..]);
    }
    for (i, scales) in scales[..weights.len()].iter().enumerate() {
        let (d, integers) = nearest_scales(scales);
        emit(i, d, pack_scales(&integers), &|j| {
            let sub_block = i * N + j;
            column(&found[sub_block / V::LANES], sub_block % V::LANES).map(|code| (code + 4.0) as u8)
        });
    }
}

/// As [`own_fit`], with errors weighted by `importance * sqrt(sigma^2 + x^2)`.
#[inline(always)]
fn weighted_fit<V: Vector>(
    weights: &[[f32; QK_K]],
    first: usize,
    importance: &[[f32; QK_K]],
    mut emit: impl FnMut(usize, u16, [u8; 12], &dyn Fn(usize) -> [u8; N]),
) {
    let mut w = [0.0; GROUP * QK_K];
    let each = weights.iter().zip(sums_of_squares(weights)).zip(w.as_chunks_mut::<QK_K>().0);
    for (i, ((weights, sum), w)) in each.enumerate() {
        let sigma2 = 2.0 * sum / QK_K as f32;
        let importance = &importance[(first + i) % importance.len()];
        for ((w, &x), &importance) in w.iter_mut().zip(weights).zip(importance) {
            *w = importance * (sigma2 + x * x).sqrt();
        }
    }
    let zero = [[0.0; N]; GROUP];
    let (mut scales, mut iscales, mut sum_w) = (zero, zero, zero);
    let all = weights.as_flattened();
    for at in (0..weights.len() * N).step_by(V::LANES) {
        let (x, w): (Rows<V, N>, Rows<V, N>) = (rows(&all[at * N..]), rows(&w[at * N..all.len()]));
        let fit = make_qx_quants(4.0, &x, &w);
        fit.scale.store(&mut scales.as_flattened_mut()[at..]);
        fit.iscale.store(&mut iscales.as_flattened_mut()[at..]);
        w.iter().fold(V::zero(), |sum, &w| sum + w).store(&mut sum_w.as_flattened_mut()[at..]);
    }
    // The scales of a super-block are fitted as if they were a sub-block.
    for at in (0..weights.len()).step_by(V::LANES) {
        let x: Rows<V, N> = rows(scales[at..].as_flattened());
        let w: Rows<V, N> = rows(sum_w[at..].as_flattened());
        let fit = make_qx_quants(32.0, &x, &w);
        let (mut d, mut iscale) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        fit.scale.store(&mut d);
        fit.iscale.store(&mut iscale);
        for (lane, i) in (at..weights.len()).take(V::LANES).enumerate() {
            let integers = scales[i].map(|scale| symmetric_code(scale, iscale[lane], 32));
            emit(i, binary16::from_f32(d[lane]), pack_scales(&integers), &|j| {
                std::array::from_fn(|l| symmetric_code(weights[i][N * j + l], iscales[i][j], 4))
            });
        }
    }
}

/// 6-bit codes of the scales relative to the one of the largest magnitude, and the bits of the factor that multiplies
/// them.
#[inline(always)]
fn nearest_scales(scales: &[f32; N]) -> (u16, [u8; N]) {
    let (mut amax, mut max) = (0.0, 0.0);
    for &scale in scales {
        if scale.abs() > amax {
            (amax, max) = (scale.abs(), scale);
        }
    }
    if max == 0.0 {
        // Codes of zero bits, which read as a scale of -32 times nothing.
        return (0, [0; N]);
    }
    let iscale = -32.0 / max;
    let codes = scales.map(|scale| (i32::from(nearest_int(iscale * scale) as i8).clamp(-32, 31) + 32) as u8);
    (binary16::from_f32(1.0 / iscale), codes)
}

/// Rounds the weights with the scales as they are stored and stores the block. `found` gives the codes of a sub-block
/// of scale 0. Says whether the block decodes to finite weights.
#[inline(always)]
fn write(
    d: u16,
    packed: &[u8; 12],
    weights: &[f32; QK_K],
    found: &dyn Fn(usize) -> [u8; N],
    block: &mut [u8; 110],
) -> bool {
    let mut codes = [0; QK_K];
    let scale = binary16::to_f32(d);
    let sub_blocks = codes.as_chunks_mut::<N>().0.iter_mut().zip(weights.as_chunks::<N>().0);
    for (j, (codes, weights)) in sub_blocks.enumerate() {
        let d = scale * unpack_scale(j, packed);
        if d == 0.0 {
            *codes = found(j);
            continue;
        }
        for (code, &weight) in codes.iter_mut().zip(weights) {
            *code = (nearest_int(weight / d).clamp(-4, 3) + 4) as u8;
        }
    }
    let (high, rest) = block.split_at_mut(32);
    let halves = rest[..64].as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<128>().0);
    high.fill(0);
    for (half, (low, codes)) in halves.enumerate() {
        for l in 0..32 {
            let [a, b, c, d] = [codes[l], codes[l + 32], codes[l + 64], codes[l + 96]];
            low[l] = (a & 3) | (b & 3) << 2 | (c & 3) << 4 | (d & 3) << 6;
            high[l] |= (a >> 2 | (b >> 2) << 1 | (c >> 2) << 2 | (d >> 2) << 3) << (4 * half);
        }
    }
    rest[64..76].copy_from_slice(packed);
    rest[76..].copy_from_slice(&d.to_le_bytes());
    binary16::is_finite(d)
}

/// Packs 16 scales of 6 bits: low nibbles of two scales per byte 0..8, high bits of four per byte 8..12.
#[inline(always)]
fn pack_scales(scales: &[u8; N]) -> [u8; 12] {
    let mut packed = [0; 12];
    for (j, scale) in scales.iter().enumerate() {
        packed[j % 8] |= (scale & 0xf) << (j / 8 * 4);
        packed[8 + j % 4] |= (scale >> 4) << (j / 4 * 2);
    }
    packed
}

/// The signed scale of sub-block `j`.
#[inline(always)]
fn unpack_scale(j: usize, packed: &[u8; 12]) -> f32 {
    let low = packed[j % 8] >> (j / 8 * 4) & 0xf;
    let high = packed[8 + j % 4] >> (j / 4 * 2) & 3;
    f32::from(low | high << 4) - 32.0
}
