//! Q2_K: 2-bit codes with a 4-bit scale and minimum per 16 weights, in super-blocks of 256.
//!
//! [`BlockQ2K`] has the layout.

use super::affine_block::{self, AffineFormat, SuperBlock};
use super::search::{AffineSearch, Rows};
use super::vector::Vector;
use super::{BlockCodec, F16_MAX, Importance, QK_K, scale_codes};
use crate::block::BlockQ2K;

pub(super) struct Q2K;

impl AffineFormat<16, 16> for Q2K {
    const NMAX: f32 = 3.0;
    const SCALE_MAX: f32 = 15.0;
    const SEARCH: AffineSearch = AffineSearch { rmin: -0.5, rdelta: 0.1, nstep: 15 };
    const MAD: bool = true;
    const SIGMA: f32 = 1.0;
    type Packed = [u8; 16];
    type Block = BlockQ2K;

    #[inline(always)]
    fn own_weights<V: Vector>(x: &Rows<V, 16>) -> Rows<V, 16> {
        let mut w = *x;
        for w in &mut w {
            *w = w.abs();
        }
        w
    }

    /// Codes outside 4 bits spill into their neighbour's, as upstream.
    #[inline(always)]
    fn pack(scales: [u8; 16], mins: [u8; 16], _weighted: bool) -> [u8; 16] {
        std::array::from_fn(|j| scales[j] | mins[j] << 4)
    }

    #[inline(always)]
    fn unpack(packed: &[u8; 16], j: usize) -> (u8, u8) {
        (packed[j] & 0xf, packed[j] >> 4)
    }

    #[inline(always)]
    fn write(fit: &SuperBlock<[u8; 16]>, block: &mut BlockQ2K) {
        (block.d, block.dmin, block.scales) = (fit.d, fit.dmin, fit.packed);
        pack_codes(&fit.codes, block);
    }
}

/// Stores the codes of a super-block; its other bytes stay.
#[inline(always)]
pub(super) fn pack_codes(codes: &[u8; QK_K], block: &mut BlockQ2K) {
    let halves = block.qs.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<128>().0);
    for (bytes, codes) in halves {
        for l in 0..32 {
            bytes[l] = codes[l] | codes[l + 32] << 2 | codes[l + 64] << 4 | codes[l + 96] << 6;
        }
    }
}

impl BlockCodec<QK_K> for Q2K {
    type Block = BlockQ2K;

    const MAX: f32 = F16_MAX * 15.0 * 3.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; QK_K]],
        importance: Importance<'_, QK_K>,
        blocks: &mut [BlockQ2K],
    ) -> bool {
        affine_block::encode::<Self, V, 16, 16>(weights, importance, blocks)
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &BlockQ2K, weights: &mut [f32; QK_K]) {
        let (d, dmin) = (block.d.to_f32(), block.dmin.to_f32());
        let mut codes = [0; QK_K];
        let halves = block.qs.as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<128>().0);
        for (bytes, codes) in halves {
            for l in 0..32 {
                let byte = bytes[l];
                (codes[l], codes[l + 32]) = (byte & 3, byte >> 2 & 3);
                (codes[l + 64], codes[l + 96]) = (byte >> 4 & 3, byte >> 6);
            }
        }
        let sub_blocks = codes.as_chunks::<16>().0.iter().zip(weights.as_chunks_mut::<16>().0);
        for ((codes, weights), packed) in sub_blocks.zip(&block.scales) {
            let (d, m) = (d * f32::from(packed & 0xf), dmin * f32::from(packed >> 4));
            scale_codes::<V>(d, m, codes, weights);
        }
    }
}
