//! Q4_K: 4-bit codes with a 6-bit scale and minimum per 32 weights, in super-blocks of 256.
//!
//! [`BlockQ4K`] has the layout.

use super::affine_block::{
    self, AffineFormat, SuperBlock, pack_k4, rms_plus_magnitude, sub_block_grids, unpack_k4,
};
use super::search::{AffineSearch, Rows};
use super::vector::Vector;
use super::{BlockCodec, F16_MAX, Importance, QK_K, scale_nibbles};
use crate::block::BlockQ4K;

pub(super) struct Q4K;

impl AffineFormat<8, 32> for Q4K {
    const NMAX: f32 = 15.0;
    const SCALE_MAX: f32 = 63.0;
    const SEARCH: AffineSearch = AffineSearch { rmin: -1.0, rdelta: 0.1, nstep: 20 };
    const MAD: bool = false;
    const SIGMA: f32 = 2.0;
    type Packed = [u8; 12];
    type Block = BlockQ4K;

    #[inline(always)]
    fn own_weights<V: Vector>(x: &Rows<V, 32>) -> Rows<V, 32> {
        rms_plus_magnitude(x)
    }

    /// Codes that the search with importance leaves outside 6 bits spill into their neighbour's: upstream's
    /// oversight, and its bytes.
    #[inline(always)]
    fn pack(scales: [u8; 8], mins: [u8; 8], weighted: bool) -> [u8; 12] {
        let limit = if weighted { 255 } else { 63 };
        pack_k4(scales.map(|code| code.min(limit)), mins.map(|code| code.min(limit)))
    }

    #[inline(always)]
    fn unpack(packed: &[u8; 12], j: usize) -> (u8, u8) {
        unpack_k4(packed, j)
    }

    #[inline(always)]
    fn write(fit: &SuperBlock<[u8; 12]>, block: &mut BlockQ4K) {
        (block.d, block.dmin, block.scales) = (fit.d, fit.dmin, fit.packed);
        pack_codes(&fit.codes, block);
    }
}

/// Stores the codes of a super-block; its other bytes stay.
#[inline(always)]
pub(super) fn pack_codes(codes: &[u8; QK_K], block: &mut BlockQ4K) {
    let groups = block.qs.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<64>().0);
    for (bytes, codes) in groups {
        for l in 0..32 {
            bytes[l] = codes[l] | codes[l + 32] << 4;
        }
    }
}

impl BlockCodec<QK_K> for Q4K {
    type Block = BlockQ4K;

    const MAX: f32 = F16_MAX * 63.0 * 15.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; QK_K]],
        importance: Importance<'_, QK_K>,
        blocks: &mut [BlockQ4K],
    ) -> bool {
        affine_block::encode::<Self, V, 8, 32>(weights, importance, blocks)
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &BlockQ4K, weights: &mut [f32; QK_K]) {
        let (d, m) = sub_block_grids(block.d, block.dmin, &block.scales);
        let groups = block.qs.as_chunks::<32>().0.iter().zip(weights.as_chunks_mut::<64>().0);
        for (g, (bytes, weights)) in groups.enumerate() {
            let at = 2 * g;
            scale_nibbles::<V>([d[at], d[at + 1]], [m[at], m[at + 1]], bytes, weights);
        }
    }
}
