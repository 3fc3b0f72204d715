//! Q5_K: 5-bit codes with a 6-bit scale and minimum per 32 weights, in super-blocks of 256.
//!
//! [`BlockQ5K`] has the layout.

use super::affine_block::{
    self, AffineFormat, SuperBlock, pack_k4, rms_plus_magnitude, sub_block_grids, unpack_k4,
};
use super::search::{AffineSearch, Rows};
use super::vector::Vector;
use super::{BlockCodec, F16_MAX, Importance, QK_K, scale_codes};
use crate::block::BlockQ5K;

pub(super) struct Q5K;

impl AffineFormat<8, 32> for Q5K {
    const NMAX: f32 = 31.0;
    const SCALE_MAX: f32 = 63.0;
    const SEARCH: AffineSearch = AffineSearch { rmin: -0.5, rdelta: 0.1, nstep: 15 };
    const MAD: bool = false;
    const SIGMA: f32 = 2.0;
    type Packed = [u8; 12];
    type Block = BlockQ5K;

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
    fn write(fit: &SuperBlock<[u8; 12]>, block: &mut BlockQ5K) {
        (block.d, block.dmin, block.scales) = (fit.d, fit.dmin, fit.packed);
        pack_codes(&fit.codes, block);
    }
}

/// Stores the codes of a super-block; its other bytes stay.
#[inline(always)]
pub(super) fn pack_codes(codes: &[u8; QK_K], block: &mut BlockQ5K) {
    block.qh = [0; 32];
    let high = &mut block.qh;
    let groups = block.qs.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<64>().0);
    for (g, (low, codes)) in groups.enumerate() {
        for l in 0..32 {
            let (a, b) = (codes[l], codes[l + 32]);
            low[l] = (a & 0xf) | (b & 0xf) << 4;
            high[l] |= (a >> 4) << (2 * g) | (b >> 4) << (2 * g + 1);
        }
    }
}

impl BlockCodec<QK_K> for Q5K {
    type Block = BlockQ5K;

    const MAX: f32 = F16_MAX * 63.0 * 31.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; QK_K]],
        importance: Importance<'_, QK_K>,
        blocks: &mut [BlockQ5K],
    ) -> bool {
        affine_block::encode::<Self, V, 8, 32>(weights, importance, blocks)
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &BlockQ5K, weights: &mut [f32; QK_K]) {
        let (d, m) = sub_block_grids(block.d, block.dmin, &block.scales);
        let (low, high) = (&block.qs, &block.qh);
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
            scale_codes::<V>(d[j], m[j], codes, weights);
        }
    }
}
