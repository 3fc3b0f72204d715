//! Block after block of a model against the output of the same block of the unquantized model.
//!
//! # Source
//! Li et al., "BRECQ" (arXiv 2102.05426): block by block is a good compromise between matrices alone, which do not know of
//! each other, and the whole model, which too little text determines.

mod block_output;
mod stream;

use ramp_model::{CausalLm, LayerId, SubBlock};

pub(crate) use self::{
    block_output::BlockOutput,
    stream::{Reference, Stream},
};
use crate::error::Result;

/// Quantizes the matrices of each block together, from the first block to the last.
///
/// What goes into a block comes from the quantized blocks before, and what should come out from the unquantized model. Only
/// the two residual streams of the windows are kept, besides the model and the block's matrices.
///
/// `quantize` is given the block's matrices and what measures the error of its output, and gives the weights to compute with
/// from then on, row-major `[out, in]`. `progress` is told the matrices done and their number, and may stop by returning
/// `false`.
///
/// # Errors
/// When `quantize` or the device fails, or [`ramp_model::Error::Interrupted`].
pub(crate) fn reconstruct(
    model: &mut CausalLm,
    windows: &[&[u32]],
    mut quantize: impl FnMut(&[LayerId], &BlockOutput<'_>) -> Result<Vec<Vec<f32>>>,
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<()> {
    let base = model.clone(); // handles only
    let (config, roles) = (model.config().clone(), model.config().architecture.roles());
    let total = config.n_blocks * roles.len();
    let (mut quantized, mut expected) = (Stream::new(model, windows)?, Stream::new(model, windows)?);
    let tracked = base.to(&base.device().clone().autodiff(), base.precision())?;
    for block in 0..config.n_blocks {
        for half in SubBlock::ALL {
            expected.advance(&base, block, half)?;
        }
        let layers: Vec<LayerId> = roles.iter().map(|&role| LayerId::Block { block, role }).collect();
        let output = BlockOutput::new(&base, &tracked, block, &layers, quantized.beside(&expected));
        for (&id, weight) in layers.iter().zip(quantize(&layers, &output)?) {
            let weight = model.place(id, weight, config.shape(id));
            model.set_weight(id, weight)?;
        }
        for half in SubBlock::ALL {
            quantized.advance(model, block, half)?;
        }
        if !progress((block + 1) * roles.len(), total) {
            return Err(ramp_model::Error::Interrupted.into());
        }
    }
    Ok(())
}
