//! The residual stream of the calibration windows, half a block at a time.

use burn::tensor::Tensor;
use ramp_model::{CalibrationStats, CausalLm, Error as ModelError, Gathering, LayerId, SubBlock, Tap};

use super::block_output::place;
use crate::error::{Error, Result};

/// Tokens that a search over outputs looks at, at most: those of AWQ's program, 128 windows of 512.
const SEARCH_TOKENS: usize = 65_536;

/// What goes into a half of a block, for each calibration window. Of the whole model only this is kept, one f32 for each
/// token and channel, whatever the number of blocks.
pub(crate) struct Stream {
    /// `[1, seq, hidden]` each.
    hidden: Vec<Tensor<3>>,
}

impl Stream {
    /// In front of the first block.
    pub(crate) fn new(model: &CausalLm, windows: &[&[u32]]) -> Result<Self> {
        Ok(Self { hidden: windows.iter().map(|window| model.embed(&[window])).collect::<Result<_, _>>()? })
    }

    /// Statistics of the input that `layers` share, with the Gram matrix. What follows them in their half is not run.
    pub(crate) fn gather(
        &self,
        model: &CausalLm,
        block: usize,
        half: SubBlock,
        layers: &[LayerId],
    ) -> Result<CalibrationStats> {
        let mut until = Until { layers, gathering: Gathering::new(true), seen: false };
        for hidden in &self.hidden {
            until.seen = false;
            match model.run_sub_block(block, half, hidden.clone(), &mut until) {
                Err(ModelError::Interrupted) if until.seen => {}
                other => {
                    other?;
                }
            }
        }
        Ok(until.gathering.finish()?)
    }

    /// Goes behind a half of a block.
    pub(crate) fn advance(&mut self, model: &CausalLm, block: usize, half: SubBlock) -> Result<()> {
        for hidden in &mut self.hidden {
            *hidden = model.run_sub_block(block, half, hidden.clone(), &mut ramp_model::NoTap)?;
        }
        Ok(())
    }

    /// Each window's stream, and another's at the same place.
    pub(super) fn beside(&self, other: &Self) -> Vec<(Tensor<3>, Tensor<3>)> {
        self.hidden.iter().cloned().zip(other.hidden.iter().cloned()).collect()
    }

    /// What `base` makes of the stream in a half of a block, to measure other weights against.
    pub(crate) fn reference(&self, base: &CausalLm, block: usize, half: SubBlock) -> Result<Reference> {
        let seq = self.hidden.first().map_or(1, |hidden| hidden.dims()[1]);
        let step = self.hidden.len().div_ceil((SEARCH_TOKENS / seq).max(1)).max(1);
        let pairs = self.hidden.iter().step_by(step).map(|hidden| {
            let behind = base.run_sub_block(block, half, hidden.clone(), &mut ramp_model::NoTap)?;
            Ok((hidden.clone(), host(behind)?))
        });
        Ok(Reference { base: base.clone(), block, half, windows: pairs.collect::<Result<_>>()? })
    }
}

/// The output of a half of a block of the unquantized model.
pub(crate) struct Reference {
    base: CausalLm,
    block: usize,
    half: SubBlock,
    /// What goes in, `[1, seq, hidden]`, and the stream behind, row-major.
    windows: Vec<(Tensor<3>, Vec<f32>)>,
}

impl Reference {
    /// Mean squared error of the half's output when some of its matrices are replaced.
    pub(crate) fn error(&self, layers: &[LayerId], weights: &[Vec<f32>]) -> Result<f64> {
        let mut model = self.base.clone(); // handles only
        place(&mut model, layers, weights)?;
        let (mut sum, mut n) = (0.0, 0);
        for (hidden, expected) in &self.windows {
            let behind =
                model.run_sub_block(self.block, self.half, hidden.clone(), &mut ramp_model::NoTap)?;
            let squares =
                host(behind)?.into_iter().zip(expected).map(|(a, b)| f64::from(a - b) * f64::from(a - b));
            sum += squares.sum::<f64>();
            n += expected.len();
        }
        Ok(sum / n.max(1) as f64)
    }
}

/// Gathers at one place, and ends the forward pass there.
struct Until<'a> {
    layers: &'a [LayerId],
    gathering: Gathering,
    seen: bool,
}

impl Tap for Until<'_> {
    fn observe(&mut self, layers: &[LayerId], input: &Tensor<2>) -> ramp_model::Result<()> {
        if layers != self.layers {
            return Ok(());
        }
        self.gathering.observe(layers, input)?;
        self.seen = true;
        // The one way to say that the rest is not needed; `gather` knows.
        Err(ModelError::Interrupted)
    }
}

fn host(tensor: Tensor<3>) -> Result<Vec<f32>> {
    tensor.try_into_vec_as::<f32>().map_err(Error::device)
}
