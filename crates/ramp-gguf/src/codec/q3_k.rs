//! Q3_K: 3-bit codes with a 6-bit signed scale per 16 weights, in super-blocks of 256.
//!
//! [`BlockQ3K`] has the layout.

use super::affine_block::importance_weights;
use super::search::{Rows, make_q3_quants, make_qx_quants, rows, sum, symmetric_code};
use super::vector::{MAX_LANES, Vector, nearest_int};
use super::{BlockCodec, F16_MAX, GROUP, Importance, QK_K, scale_centered_codes};
use crate::block::{BlockQ3K, Half};

/// Sub-blocks per super-block, and weights per sub-block.
const N: usize = 16;

pub(super) struct Q3K;

impl BlockCodec<QK_K> for Q3K {
    type Block = BlockQ3K;

    const MAX: f32 = F16_MAX * 32.0 * 4.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; QK_K]],
        importance: Importance<'_, QK_K>,
        blocks: &mut [BlockQ3K],
    ) -> bool {
        let mut finite = true;
        for (group, (weights, blocks)) in weights.chunks(GROUP).zip(blocks.chunks_mut(GROUP)).enumerate() {
            if let Some(importance) = importance {
                let found = Weighted::fit::<V>(weights, group * GROUP, importance);
                for (i, (weights, block)) in weights.iter().zip(blocks).enumerate() {
                    let codes = |j: usize| found.codes(weights, i, j);
                    finite &= write(found.d[i], &found.packed[i], weights, codes, block);
                }
            } else {
                let found = Own::fit::<V>(weights);
                for (i, (weights, block)) in weights.iter().zip(blocks).enumerate() {
                    finite &= write(found.d[i], &found.packed[i], weights, |j| found.codes(i, j), block);
                }
            }
        }
        finite
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &BlockQ3K, weights: &mut [f32; QK_K]) {
        let d = block.d.to_f32();
        let (high, low) = (&block.hmask, &block.qs);
        let mut codes = [0; QK_K];
        for l in 0..32 {
            // Shifts by constants, once the loop is unrolled.
            for half in 0..2 {
                for quarter in 0..4 {
                    let third = high[l] >> (4 * half + quarter) & 1;
                    codes[128 * half + 32 * quarter + l] =
                        (low[32 * half + l] >> (2 * quarter) & 3) | third << 2;
                }
            }
        }
        let sub_blocks = codes.as_chunks::<N>().0.iter().zip(weights.as_chunks_mut::<N>().0);
        for (j, (codes, weights)) in sub_blocks.enumerate() {
            scale_centered_codes::<V>(d * unpack_scale(j, &block.scales), 4.0, codes, weights);
        }
    }
}

/// Super-blocks fitted without importance: `d`, packed scales, and the codes of the search, as the rows of
/// one vector of sub-blocks after the other.
struct Own {
    d: [Half; GROUP],
    packed: [[u8; 12]; GROUP],
    rows: [f32; GROUP * QK_K],
    lanes: usize,
}

impl Own {
    #[inline(always)]
    fn fit<V: Vector>(weights: &[[f32; QK_K]]) -> Self {
        let mut scales = [[0.0; N]; GROUP];
        let mut out = Self {
            d: [Half::default(); GROUP],
            packed: [[0; 12]; GROUP],
            rows: [0.0; GROUP * QK_K],
            lanes: V::LANES,
        };
        let all = weights.as_flattened();
        for at in (0..weights.len() * N).step_by(V::LANES) {
            let x: Rows<V, N> = rows(&all[at * N..]);
            let mut codes = x;
            make_q3_quants(4.0, &x, &mut codes).store(&mut scales.as_flattened_mut()[at..]);
            for (codes, stored) in codes.iter().zip(out.rows[at * N..].chunks_exact_mut(V::LANES)) {
                codes.store(stored);
            }
        }
        for (i, scales) in scales[..weights.len()].iter().enumerate() {
            let (d, integers) = nearest_scales(scales);
            (out.d[i], out.packed[i]) = (d, pack_scales(&integers));
        }
        out
    }

    /// The codes of sub-block `j` of super-block `i`.
    #[inline(always)]
    fn codes(&self, i: usize, j: usize) -> [u8; N] {
        let (sub_block, lanes) = (i * N + j, self.lanes);
        let rows = &self.rows[sub_block / lanes * lanes * N..];
        std::array::from_fn(|l| (rows[l * lanes + sub_block % lanes] + 4.0) as u8)
    }
}

/// Super-blocks fitted with errors weighted by `importance * sqrt(sigma^2 + x^2)`: `d`, packed scales, and what
/// codes come from.
struct Weighted {
    d: [Half; GROUP],
    packed: [[u8; 12]; GROUP],
    iscales: [[f32; N]; GROUP],
}

impl Weighted {
    #[inline(always)]
    fn fit<V: Vector>(weights: &[[f32; QK_K]], first: usize, importance: &[[f32; QK_K]]) -> Self {
        let mut w = [0.0; GROUP * QK_K];
        importance_weights(2.0, weights, first, importance, &mut w);
        let zero = [[0.0; N]; GROUP];
        let (mut scales, mut iscales, mut sum_w) = (zero, zero, zero);
        let all = weights.as_flattened();
        for at in (0..weights.len() * N).step_by(V::LANES) {
            let (x, w): (Rows<V, N>, Rows<V, N>) = (rows(&all[at * N..]), rows(&w[at * N..all.len()]));
            let fit = make_qx_quants(4.0, &x, &w);
            fit.scale.store(&mut scales.as_flattened_mut()[at..]);
            fit.iscale.store(&mut iscales.as_flattened_mut()[at..]);
            sum(&w).store(&mut sum_w.as_flattened_mut()[at..]);
        }
        // The scales of a super-block are fitted as if they were a sub-block.
        let mut out = Self { d: [Half::default(); GROUP], packed: [[0; 12]; GROUP], iscales };
        for at in (0..weights.len()).step_by(V::LANES) {
            let x: Rows<V, N> = rows(scales[at..].as_flattened());
            let w: Rows<V, N> = rows(sum_w[at..].as_flattened());
            let fit = make_qx_quants(32.0, &x, &w);
            let (mut d, mut iscale) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
            fit.scale.store(&mut d);
            fit.iscale.store(&mut iscale);
            for (lane, i) in (at..weights.len()).take(V::LANES).enumerate() {
                let integers = scales[i].map(|scale| symmetric_code(scale, iscale[lane], 32));
                (out.d[i], out.packed[i]) = (Half::from_f32(d[lane]), pack_scales(&integers));
            }
        }
        out
    }

    /// The codes of sub-block `j` of super-block `i`, whose weights are given.
    #[inline(always)]
    fn codes(&self, weights: &[f32; QK_K], i: usize, j: usize) -> [u8; N] {
        std::array::from_fn(|l| symmetric_code(weights[N * j + l], self.iscales[i][j], 4))
    }
}

/// 6-bit codes of the scales relative to the one of the largest magnitude, and the factor that multiplies them.
#[inline(always)]
fn nearest_scales(scales: &[f32; N]) -> (Half, [u8; N]) {
    let (mut amax, mut max) = (0.0, 0.0);
    for &scale in scales {
        if scale.abs() > amax {
            (amax, max) = (scale.abs(), scale);
        }
    }
    if max == 0.0 {
        // Codes of zero bits, which read as a scale of -32 times nothing.
        return (Half::default(), [0; N]);
    }
    let iscale = -32.0 / max;
    let codes = scales.map(|scale| (i32::from(nearest_int(iscale * scale) as i8).clamp(-32, 31) + 32) as u8);
    (Half::from_f32(1.0 / iscale), codes)
}

/// Rounds the weights with the scales as they are stored and stores the block. `found` gives the codes of a sub-block
/// of scale 0. Says whether the block decodes to finite weights.
#[inline(always)]
fn write(
    d: Half,
    packed: &[u8; 12],
    weights: &[f32; QK_K],
    found: impl Fn(usize) -> [u8; N],
    block: &mut BlockQ3K,
) -> bool {
    let mut codes = [0; QK_K];
    let scale = d.to_f32();
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
    pack_codes(&codes, block);
    (block.scales, block.d) = (*packed, d);
    d.is_finite()
}

/// Stores the codes of a super-block; its other bytes stay.
#[inline(always)]
pub(super) fn pack_codes(codes: &[u8; QK_K], block: &mut BlockQ3K) {
    block.hmask = [0; 32];
    let high = &mut block.hmask;
    let halves = block.qs.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<128>().0);
    for (half, (low, codes)) in halves.enumerate() {
        for l in 0..32 {
            let [a, b, c, d] = [codes[l], codes[l + 32], codes[l + 64], codes[l + 96]];
            low[l] = (a & 3) | (b & 3) << 2 | (c & 3) << 4 | (d & 3) << 6;
            high[l] |= (a >> 2 | (b >> 2) << 1 | (c >> 2) << 2 | (d >> 2) << 3) << (4 * half);
        }
    }
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
pub(super) fn unpack_scale(j: usize, packed: &[u8; 12]) -> f32 {
    let low = packed[j % 8] >> (j / 8 * 4) & 0xf;
    let high = packed[8 + j % 4] >> (j / 4 * 2) & 3;
    f32::from(low | high << 4) - 32.0
}
