//! The grid of an encoded block: which weights its codes stand for, and how to exchange the codes.
//!
//! A rounding method that looks beyond one block (GPTQ and its kin) takes the scales that [`crate::encode`] found
//! and chooses the codes itself.

use std::sync::LazyLock;

use bytemuck::{from_bytes, from_bytes_mut};

use super::affine_block::sub_block_grids;
use super::legacy::pack_nibbles;
use super::{QK_K, iq4_xs, q2_k, q3_k, q4_k, q5_k, q6_k};
use crate::block::{BlockIQ4XS, BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K, KVALUES};
use crate::{Error, GgmlType, Result};

/// Most sub-blocks in a block.
const MAX_SUB_BLOCKS: usize = 16;

/// The levels of types whose steps are even: the code itself, less the code of zero.
static EVEN: LazyLock<[f32; 128]> = LazyLock::new(|| std::array::from_fn(|at| at as f32 - 64.0));

/// What the codes of one block stand for: `scale[j] * levels[code] + offset[j]` in sub-block `j`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockGrid {
    /// Weights of a sub-block; weight `e` of the block is in sub-block `e / sub_block`.
    pub sub_block: usize,
    /// The multiples of the scale, one for each code, rising.
    pub levels: &'static [f32],
    /// Scale of each sub-block; may be negative or zero. Unused entries are zero.
    pub scale: [f32; MAX_SUB_BLOCKS],
    /// Offset of each sub-block.
    pub offset: [f32; MAX_SUB_BLOCKS],
}

impl BlockGrid {
    fn new(sub_block: usize, levels: &'static [f32]) -> Self {
        Self { sub_block, levels, scale: [0.0; MAX_SUB_BLOCKS], offset: [0.0; MAX_SUB_BLOCKS] }
    }

    /// The largest code.
    #[must_use]
    pub fn max_code(&self) -> u8 {
        // At most 64 levels.
        (self.levels.len() - 1) as u8
    }

    /// The weight that a code stands for at place `e` of the block.
    ///
    /// # Panics
    /// When there is no such place or code.
    #[must_use]
    pub fn weight(&self, e: usize, code: u8) -> f32 {
        let j = e / self.sub_block;
        self.scale[j] * self.levels[usize::from(code)] + self.offset[j]
    }

    /// The code whose weight is nearest at place `e`. Where the scale is zero all are alike, and it is the code of
    /// the least level.
    ///
    /// # Panics
    /// When there is no such place.
    #[must_use]
    pub fn nearest(&self, e: usize, weight: f32) -> u8 {
        let (j, levels) = (e / self.sub_block, self.levels);
        if self.scale[j] == 0.0 {
            return 0;
        }
        let level = (weight - self.offset[j]) / self.scale[j];
        let even = levels[1] - levels[0] == 1.0;
        if even {
            // A NaN becomes 0 here.
            (level - levels[0]).round_ties_even().clamp(0.0, f32::from(self.max_code())) as u8
        } else {
            levels.windows(2).take_while(|pair| level > (pair[0] + pair[1]) / 2.0).count() as u8
        }
    }
}

/// `n` even levels around zero, which is the level of code `zero`.
fn even(n: usize, zero: usize) -> &'static [f32] {
    &EVEN[64 - zero..64 - zero + n]
}

/// Whether [`block_grid`] and [`set_codes`] know a type.
#[must_use]
pub const fn has_grid(ty: GgmlType) -> bool {
    matches!(
        ty,
        GgmlType::Q2_K | GgmlType::Q3_K | GgmlType::Q4_K | GgmlType::Q5_K | GgmlType::Q6_K | GgmlType::IQ4_XS
    )
}

/// Reads the grid of one encoded block.
///
/// # Errors
/// [`Error::NoGrid`] for types that have none here; [`Error::EncodedLength`] when `block` is not one block.
pub fn block_grid(ty: GgmlType, block: &[u8]) -> Result<BlockGrid> {
    check(ty, block)?;
    let affine = |mut grid: BlockGrid, (scales, mins): ([f32; 8], [f32; 8])| {
        grid.scale[..8].copy_from_slice(&scales);
        grid.offset[..8].copy_from_slice(&mins.map(|min| -min));
        grid
    };
    Ok(match ty {
        GgmlType::Q2_K => {
            let BlockQ2K { d, dmin, scales, .. } = *from_bytes(block);
            let mut grid = BlockGrid::new(16, even(4, 0));
            grid.scale = scales.map(|packed| d.to_f32() * f32::from(packed & 0xf));
            grid.offset = scales.map(|packed| -(dmin.to_f32() * f32::from(packed >> 4)));
            grid
        }
        GgmlType::Q3_K => {
            let BlockQ3K { d, scales, .. } = *from_bytes(block);
            let mut grid = BlockGrid::new(16, even(8, 4));
            grid.scale = std::array::from_fn(|j| d.to_f32() * q3_k::unpack_scale(j, &scales));
            grid
        }
        GgmlType::Q4_K => {
            let BlockQ4K { d, dmin, scales, .. } = *from_bytes(block);
            affine(BlockGrid::new(32, even(16, 0)), sub_block_grids(d, dmin, &scales))
        }
        GgmlType::Q5_K => {
            let BlockQ5K { d, dmin, scales, .. } = *from_bytes(block);
            affine(BlockGrid::new(32, even(32, 0)), sub_block_grids(d, dmin, &scales))
        }
        GgmlType::Q6_K => {
            let BlockQ6K { d, scales, .. } = *from_bytes(block);
            let mut grid = BlockGrid::new(16, even(64, 32));
            grid.scale = scales.map(|scale| d.to_f32() * f32::from(scale));
            grid
        }
        _ => {
            let mut grid = BlockGrid::new(32, &KVALUES);
            grid.scale[..QK_K / 32].copy_from_slice(&iq4_xs::sub_block_scales(from_bytes(block)));
            grid
        }
    })
}

/// Replaces the codes of one encoded block and keeps its scales. `codes` has one code per weight.
///
/// # Errors
/// As [`block_grid`]; [`Error::CodeRange`] when a code is above the grid's largest, [`Error::CodeCount`] when
/// there are not as many codes as weights.
pub fn set_codes(ty: GgmlType, codes: &[u8], block: &mut [u8]) -> Result<()> {
    let max = block_grid(ty, block)?.max_code();
    let Ok(codes) = <&[u8; QK_K]>::try_from(codes) else {
        return Err(Error::CodeCount { ty, expected: QK_K, found: codes.len() });
    };
    if let Some(at) = codes.iter().position(|&code| code > max) {
        return Err(Error::CodeRange { ty, at, code: codes[at], max });
    }
    // `block_grid` has seen the length of the block.
    match ty {
        GgmlType::Q2_K => q2_k::pack_codes(codes, from_bytes_mut(block)),
        GgmlType::Q3_K => q3_k::pack_codes(codes, from_bytes_mut(block)),
        GgmlType::Q4_K => q4_k::pack_codes(codes, from_bytes_mut(block)),
        GgmlType::Q5_K => q5_k::pack_codes(codes, from_bytes_mut(block)),
        GgmlType::Q6_K => q6_k::pack_codes(codes, from_bytes_mut(block)),
        _ => {
            let block: &mut BlockIQ4XS = from_bytes_mut(block);
            for (bytes, codes) in block.qs.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<32>().0) {
                *bytes = pack_nibbles(codes);
            }
        }
    }
    Ok(())
}

fn check(ty: GgmlType, block: &[u8]) -> Result<()> {
    if !has_grid(ty) {
        return Err(Error::NoGrid { ty });
    }
    let (expected, found) = (ty.type_size() as u64, block.len() as u64);
    if expected == found { Ok(()) } else { Err(Error::EncodedLength { ty, expected, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{QUANTIZED, decode, encode};

    fn wave(n: usize) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.71).sin() * 0.1 + (i as f32 * 0.013).cos() * 0.05).collect()
    }

    #[test]
    fn the_grid_holds_what_decode_gives() {
        for ty in QUANTIZED.iter().copied().filter(|&ty| has_grid(ty)) {
            let n = ty.block_size();
            let mut block = encode(ty, &wave(n), n, None).unwrap();
            let grid = block_grid(ty, &block).unwrap();
            let mut weights = vec![0.0; n];
            // Every code at some place, independent of what the encoder chose.
            let codes: Vec<u8> = (0..n).map(|e| (e * 5 % grid.levels.len()) as u8).collect();
            set_codes(ty, &codes, &mut block).unwrap();
            decode(ty, &block, &mut weights).unwrap();
            for (e, (&code, &weight)) in codes.iter().zip(&weights).enumerate() {
                assert_eq!(grid.weight(e, code), weight, "{ty}, weight {e}");
                if grid.scale[e / grid.sub_block] != 0.0 {
                    assert_eq!(grid.nearest(e, weight), code, "{ty}, weight {e}");
                }
            }
            assert_eq!(block_grid(ty, &block).unwrap(), grid, "{ty}: the scales stay");
        }
    }

    #[test]
    fn nearest_codes_restore_the_encoding() {
        let ty = GgmlType::Q4_K;
        let block = encode(ty, &wave(256), 256, None).unwrap();
        let grid = block_grid(ty, &block).unwrap();
        let codes: Vec<u8> = wave(256).iter().enumerate().map(|(e, &w)| grid.nearest(e, w)).collect();
        let mut again = block.clone();
        set_codes(ty, &codes, &mut again).unwrap();
        assert_eq!(again, block);
    }

    #[test]
    fn a_weight_beyond_the_grid_gets_its_end() {
        let block = encode(GgmlType::Q4_K, &wave(256), 256, None).unwrap();
        let grid = block_grid(GgmlType::Q4_K, &block).unwrap();
        assert_eq!((grid.nearest(0, 9.0), grid.nearest(0, -9.0), grid.nearest(0, f32::NAN)), (15, 0, 0));
    }

    #[test]
    fn what_is_no_block_or_no_code_is_refused() {
        let mut block = encode(GgmlType::Q4_K, &wave(256), 256, None).unwrap();
        assert!(matches!(block_grid(GgmlType::F16, &[0; 2]), Err(Error::NoGrid { .. })));
        assert!(matches!(block_grid(GgmlType::Q4_K, &block[1..]), Err(Error::EncodedLength { .. })));
        let set = |codes: &[u8], block: &mut [u8]| set_codes(GgmlType::Q4_K, codes, block);
        assert!(matches!(set(&[0; 255], &mut block), Err(Error::CodeCount { found: 255, .. })));
        let mut codes = [0; 256];
        codes[7] = 16;
        assert!(matches!(set(&codes, &mut block), Err(Error::CodeRange { at: 7, code: 16, max: 15, .. })));
    }
}
