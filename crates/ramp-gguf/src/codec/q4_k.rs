//! Q4_K: 4-bit codes with a 6-bit scale and minimum per 32 weights, in super-blocks of 256.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..4 | `dmin`, binary16 |
//! | 4..16 | 8 scales and 8 minima of 6 bits |
//! | 16..144 | codes: 32 bytes for each 64 weights; byte `l` has weight `l` in its low, weight `l + 32` in its high nibble |
//!
//! Scales and minima `j < 4` are the low 6 bits of bytes `4 + j` and `8 + j`. Those of `j + 4` have their low 4 bits
//! in the low and the high nibble of byte `12 + j`, and their top 2 bits at the top of bytes `4 + j` and `8 + j`.
//!
//! Weight: `d * scale * code - dmin * min`.

use super::affine_block::{self, AffineFormat, SuperBlock, pack_k4, rms_plus_magnitude, unpack_k4};
use super::search::{AffineSearch, Rows};
use super::vector::Vector;
use super::{BlockCodec, F16_MAX, Importance, QK_K, binary16, scale_codes};

pub(super) struct Q4K;

impl AffineFormat<8, 32, 144> for Q4K {
    const NMAX: f32 = 15.0;
    const SCALE_MAX: f32 = 63.0;
    const SEARCH: AffineSearch = AffineSearch { rmin: -1.0, rdelta: 0.1, nstep: 20 };
    const MAD: bool = false;
    const SIGMA: f32 = 2.0;
    type Packed = [u8; 12];

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
    fn write(fit: &SuperBlock<[u8; 12]>, block: &mut [u8; 144]) {
        block[0..2].copy_from_slice(&fit.d.to_le_bytes());
        block[2..4].copy_from_slice(&fit.dmin.to_le_bytes());
        block[4..16].copy_from_slice(&fit.packed);
        pack_codes(&fit.codes, block);
    }
}

/// Stores the codes of a super-block; its other bytes stay.
#[inline(always)]
pub(super) fn pack_codes(codes: &[u8; QK_K], block: &mut [u8; 144]) {
    let groups = block[16..].as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<64>().0);
    for (bytes, codes) in groups {
        for l in 0..32 {
            bytes[l] = codes[l] | codes[l + 32] << 4;
        }
    }
}

impl BlockCodec<QK_K, 144> for Q4K {
    const MAX: f32 = F16_MAX * 63.0 * 15.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; QK_K]],
        importance: Importance<'_, QK_K>,
        blocks: &mut [[u8; 144]],
    ) -> bool {
        affine_block::encode::<Self, V, 8, 32, 144>(weights, importance, blocks)
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &[u8; 144], weights: &mut [f32; QK_K]) {
        let (d, dmin) = (binary16::read(&block[0..]), binary16::read(&block[2..]));
        let mut scales = [0; 12];
        scales.copy_from_slice(&block[4..16]);
        let mut codes = [0; QK_K];
        for (bytes, codes) in block[16..].as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<64>().0) {
            for l in 0..32 {
                (codes[l], codes[l + 32]) = (bytes[l] & 0xf, bytes[l] >> 4);
            }
        }
        let sub_blocks = codes.as_chunks::<32>().0.iter().zip(weights.as_chunks_mut::<32>().0);
        for (j, (codes, weights)) in sub_blocks.enumerate() {
            let (scale, min) = unpack_k4(&scales, j);
            scale_codes::<V>(d * f32::from(scale), dmin * f32::from(min), codes, weights);
        }
    }
}
