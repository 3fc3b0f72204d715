//! Q5_K: 5-bit codes with a 6-bit scale and minimum per 32 weights, in super-blocks of 256.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..4 | `dmin`, binary16 |
//! | 4..16 | 8 scales and 8 minima of 6 bits, as in Q4_K |
//! | 16..48 | fifth bits: bit `j` of byte `l` belongs to weight `l` of sub-block `j` |
//! | 48..176 | low 4 bits, as the codes of Q4_K |
//!
//! Weight: `d * scale * code - dmin * min`.

use super::affine_block::{self, AffineFormat, SuperBlock, pack_k4, rms_plus_magnitude, unpack_k4};
use super::search::{AffineSearch, Rows};
use super::vector::Vector;
use super::{BlockCodec, F16_MAX, Importance, QK_K, binary16, scale_codes};

pub(super) struct Q5K;

impl AffineFormat<8, 32, 176> for Q5K {
    const NMAX: f32 = 31.0;
    const SCALE_MAX: f32 = 63.0;
    const SEARCH: AffineSearch = AffineSearch { rmin: -0.5, rdelta: 0.1, nstep: 15 };
    const MAD: bool = false;
    const SIGMA: f32 = 2.0;
    type Packed = [u8; 12];

    #[inline(always)]
    fn own_weights<V: Vector>(x: &Rows<V, 32>) -> Rows<V, 32> {
        rms_plus_magnitude(x)
    }

    #[inline(always)]
    fn pack(scales: [u8; 8], mins: [u8; 8], _weighted: bool) -> [u8; 12] {
        pack_k4(scales.map(|code| code.min(63)), mins.map(|code| code.min(63)))
    }

    #[inline(always)]
    fn unpack(packed: &[u8; 12], j: usize) -> (u8, u8) {
        unpack_k4(packed, j)
    }

    #[inline(always)]
    fn write(fit: &SuperBlock<[u8; 12]>, block: &mut [u8; 176]) {
        block[0..2].copy_from_slice(&fit.d.to_le_bytes());
        block[2..4].copy_from_slice(&fit.dmin.to_le_bytes());
        block[4..16].copy_from_slice(&fit.packed);
        pack_codes(&fit.codes, block);
    }
}

/// Stores the codes of a super-block; its other bytes stay.
#[inline(always)]
pub(super) fn pack_codes(codes: &[u8; QK_K], block: &mut [u8; 176]) {
    let (high, low) = block[16..].split_at_mut(32);
    high.fill(0);
    let groups = low.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<64>().0);
    for (g, (low, codes)) in groups.enumerate() {
        for l in 0..32 {
            let (a, b) = (codes[l], codes[l + 32]);
            low[l] = (a & 0xf) | (b & 0xf) << 4;
            high[l] |= (a >> 4) << (2 * g) | (b >> 4) << (2 * g + 1);
        }
    }
}

impl BlockCodec<QK_K, 176> for Q5K {
    const MAX: f32 = F16_MAX * 63.0 * 31.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; QK_K]],
        importance: Importance<'_, QK_K>,
        blocks: &mut [[u8; 176]],
    ) -> bool {
        affine_block::encode::<Self, V, 8, 32, 176>(weights, importance, blocks)
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &[u8; 176], weights: &mut [f32; QK_K]) {
        let (d, dmin) = (binary16::read(&block[0..]), binary16::read(&block[2..]));
        let mut scales = [0; 12];
        scales.copy_from_slice(&block[4..16]);
        let (high, low) = block[16..].split_at(32);
        let mut codes = [0; QK_K];
        for l in 0..32 {
            // Shifts by constants, once the loop is unrolled.
            for g in 0..4 {
                let (low, high) = (low[32 * g + l], high[l] >> (2 * g));
                codes[64 * g + l] = (low & 0xf) | (high & 1) << 4;
                codes[64 * g + 32 + l] = (low >> 4) | (high & 2) << 3;
            }
        }
        let sub_blocks = codes.as_chunks::<32>().0.iter().zip(weights.as_chunks_mut::<32>().0);
        for (j, (codes, weights)) in sub_blocks.enumerate() {
            let (scale, min) = unpack_k4(&scales, j);
            scale_codes::<V>(d * f32::from(scale), dmin * f32::from(min), codes, weights);
        }
    }
}
