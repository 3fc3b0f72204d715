//! The codes of one matrix.

use ramp_gguf::{BlockGrid, GgmlType, block_grid, has_grid, set_codes};
use rayon::prelude::*;

use super::LearnStart;
use crate::{
    error::Result,
    format::Format,
    quantize::{Quantized, check_length, dequantize},
};

/// A matrix on its way.
#[derive(Debug)]
pub(super) struct Codes {
    format: Format,
    shape: [usize; 2],
    start: Quantized,
    /// `None` where there is nothing to learn.
    shifted: Option<Shifted>,
}

/// A matrix in blocks of a type with a grid, whose scales stay.
///
/// The code of a weight `w` is the one nearest to `w + v s`, where `s` is the mean step of its sub-block's grid. `v` begins
/// at the least shift that gives the code of the start, so that a code that was chosen for more than its own weight stays until
/// the gradient says otherwise.
#[derive(Debug)]
struct Shifted {
    ty: GgmlType,
    weight: Vec<f32>,
    grids: Vec<BlockGrid>,
    /// Of each weight, in steps of its grid.
    v: Vec<f32>,
    /// The shifts to finish with.
    kept: Vec<f32>,
}

/// How far inside the cell of its code a shifted weight begins, in steps.
const MARGIN: f32 = 1e-3;

/// How far a weight may be shifted, in steps: to the second code from its own.
const REACH: f32 = 1.5;

impl Codes {
    pub(super) fn new(start: LearnStart, shape: [usize; 2]) -> Result<Self> {
        let LearnStart { weight, format, quantized: start } = start;
        check_length(&weight, shape)?;
        check_length(&start.dequantized, shape)?;
        let shifted = match format {
            Format::Ggml(ty) if has_grid(ty) => {
                let (expected, found) = (format.bytes(shape)?, start.bytes.len() as u64);
                if expected != found {
                    return Err(ramp_gguf::Error::EncodedLength { ty, expected, found }.into());
                }
                Some(Shifted::new(weight, ty, &start)?)
            }
            _ => None,
        };
        Ok(Self { format, shape, start, shifted })
    }

    /// The weights that the codes stand for.
    pub(super) fn dequantized(&self) -> Vec<f32> {
        self.shifted.as_ref().map_or_else(|| self.start.dequantized.clone(), Shifted::dequantized)
    }

    /// A step of signed gradient descent. `gradient` is that of the dequantized weights; rounding lets it pass.
    pub(super) fn step(&mut self, gradient: &[f32], learning_rate: f32) {
        let Some(Shifted { v, .. }) = &mut self.shifted else { return };
        v.par_iter_mut().zip(gradient).for_each(|(v, &g)| {
            // The sign of zero is no direction.
            if g != 0.0 {
                *v = (*v - learning_rate * g.signum()).clamp(-REACH, REACH);
            }
        });
    }

    /// Remembers the codes as they are.
    pub(super) fn keep(&mut self) {
        if let Some(Shifted { v, kept, .. }) = &mut self.shifted {
            kept.copy_from_slice(v);
        }
    }

    /// The codes that were kept.
    pub(super) fn finish(self) -> Result<(Format, Quantized)> {
        let Some(shifted) = self.shifted else { return Ok((self.format, self.start)) };
        let bytes = shifted.encode(self.start.bytes)?;
        let dequantized = dequantize(&bytes, self.shape, self.format)?;
        Ok((self.format, Quantized { bytes, dequantized }))
    }
}

impl Shifted {
    fn new(weight: Vec<f32>, ty: GgmlType, start: &Quantized) -> Result<Self> {
        let grids = start.bytes.par_chunks(ty.type_size()).map(|encoded| Ok(block_grid(ty, encoded)?));
        let grids: Vec<BlockGrid> = grids.collect::<Result<_>>()?;
        let mut v = vec![0.0; weight.len()];
        let block = ty.block_size();
        let values = weight.par_chunks(block).zip(start.dequantized.par_chunks(block));
        v.par_chunks_mut(block).zip(&grids).zip(values).for_each(|((v, grid), (weight, value))| {
            for (e, v) in v.iter_mut().enumerate() {
                *v = least_shift(grid, e, weight[e], value[e]);
            }
        });
        Ok(Self { ty, weight, grids, kept: v.clone(), v })
    }

    fn dequantized(&self) -> Vec<f32> {
        let block = self.ty.block_size();
        let mut dequantized = vec![0.0; self.weight.len()];
        let shifted = self.weight.par_chunks(block).zip(self.v.par_chunks(block));
        dequantized.par_chunks_mut(block).zip(&self.grids).zip(shifted).for_each(
            |((dequantized, grid), (weight, v))| {
                for (e, dequantized) in dequantized.iter_mut().enumerate() {
                    *dequantized = grid.weight(e, code(grid, e, weight[e], v[e]));
                }
            },
        );
        dequantized
    }

    /// Puts the kept codes into blocks.
    fn encode(&self, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
        let (block, size) = (self.ty.block_size(), self.ty.type_size());
        let shifted = self.weight.par_chunks(block).zip(self.kept.par_chunks(block));
        bytes.par_chunks_mut(size).zip(&self.grids).zip(shifted).try_for_each(
            |((encoded, grid), (weight, v))| {
                let codes: Vec<u8> = (0..block).map(|e| code(grid, e, weight[e], v[e])).collect();
                set_codes(self.ty, &codes, encoded)
            },
        )?;
        Ok(bytes)
    }
}

/// The code of a shifted weight at place `e` of its block.
fn code(grid: &BlockGrid, e: usize, weight: f32, v: f32) -> u8 {
    grid.nearest(e, weight + v * step(grid, e))
}

/// The shift of least size with which the code at place `e` becomes that of `value`.
fn least_shift(grid: &BlockGrid, e: usize, weight: f32, value: f32) -> f32 {
    let (j, step) = (e / grid.sub_block, step(grid, e));
    if step == 0.0 {
        return 0.0;
    }
    let (code, levels) = (usize::from(grid.nearest(e, value)), grid.levels);
    let between = |low: usize| (levels[low] + levels[low + 1]) / 2.0;
    let margin = MARGIN * step / grid.scale[j].abs();
    // What is beyond the first or the last level has its code.
    let low = if code == 0 { f32::NEG_INFINITY } else { between(code - 1) + margin };
    let high = if code + 1 == levels.len() { f32::INFINITY } else { between(code) - margin };
    let level = (weight - grid.offset[j]) / grid.scale[j];
    (level.clamp(low, high) - level) * grid.scale[j] / step
}

/// Mean size of the steps of a place's grid.
fn step(grid: &BlockGrid, e: usize) -> f32 {
    let (first, last) = (grid.levels[0], grid.levels[grid.levels.len() - 1]);
    grid.scale[e / grid.sub_block].abs() * (last - first) / f32::from(grid.max_code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::quantize;

    #[test]
    fn a_shift_begins_with_the_codes_of_the_start() {
        let weight: Vec<f32> = (0..512).map(|i| (i as f32 * 0.71).sin() * 0.1 - 0.02).collect();
        for ty in [GgmlType::Q2_K, GgmlType::Q3_K, GgmlType::Q4_K, GgmlType::Q6_K, GgmlType::IQ4_XS] {
            let (format, shape) = (Format::Ggml(ty), [2, 256]);
            let mut start = quantize(&weight, shape, format, None).unwrap();
            let codes: Vec<u8> = (0..256).map(|e| (e * 7 % 4) as u8).collect();
            // One row as it is rounded, one with codes that have nothing to do with the weights.
            set_codes(ty, &codes, &mut start.bytes[ty.type_size()..]).unwrap();
            start.dequantized = dequantize(&start.bytes, shape, format).unwrap();
            let begun = LearnStart { weight: weight.clone(), format, quantized: start.clone() };
            let codes = Codes::new(begun, shape).unwrap();
            assert_eq!(codes.dequantized(), start.dequantized, "{ty}");
            let v = &codes.shifted.as_ref().unwrap().v;
            // An encoder may leave a weight that is close to the middle in the other cell.
            let shifted = v[..256].iter().filter(|v| **v != 0.0).count();
            assert!(shifted < 26 && v[..256].iter().all(|v| v.abs() < 0.5), "{ty}: {shifted} {v:?}");
            assert_eq!(codes.finish().unwrap(), (format, start), "{ty}");
        }
    }

    #[test]
    fn a_step_goes_against_the_gradient_as_far_as_it_may() {
        let weight: Vec<f32> = (0..256).map(|i| (i as f32 * 0.71).sin() * 0.1).collect();
        let (format, shape) = (Format::Ggml(GgmlType::Q4_K), [1, 256]);
        let quantized = quantize(&weight, shape, format, None).unwrap();
        let begun = LearnStart { weight, format, quantized: quantized.clone() };
        let mut codes = Codes::new(begun, shape).unwrap();
        codes.step(&[0.0; 256], 9.0);
        assert_eq!(codes.dequantized(), quantized.dequantized);
        let mut gradient = vec![1e-30; 256];
        gradient[7] = -3.0;
        codes.step(&gradient, 9.0);
        let moved = codes.dequantized();
        for (at, (moved, before)) in moved.iter().zip(&quantized.dequantized).enumerate() {
            assert!(if at == 7 { moved >= before } else { moved <= before }, "{at}: {before} {moved}");
        }
        assert!(moved.iter().zip(&quantized.dequantized).filter(|(a, b)| a != b).count() > 200);
        // Nothing was kept.
        assert_eq!(codes.finish().unwrap().1, quantized);
    }
}
