//! Methods that learn all matrices of a block together.

use ramp_model::{CausalLm, LayerId, SubBlock};

use super::{Applied, LrqConfig, Matrix, block_output::BlockOutput, lrq_by, stream::Stream};
use crate::error::{Error, Result};

/// LRQ on every block, from the first to the last: what goes in comes from the quantized blocks before, and what should come
/// out from the unquantized model. Only the two residual streams of the windows are kept.
pub(super) fn lrq_blocks(
    model: &mut CausalLm,
    windows: &[&[u32]],
    config: &LrqConfig,
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<Applied> {
    let base = model.clone(); // handles only
    let (shape, roles) = (model.config().clone(), model.config().architecture.roles());
    let total = shape.n_blocks * roles.len();
    let (mut quantized, mut expected) = (Stream::new(model, windows)?, Stream::new(model, windows)?);
    let tracked = base.to(&base.device().clone().autodiff(), base.precision())?;
    let mut applied = Applied::default();
    for block in 0..shape.n_blocks {
        for half in SubBlock::ALL {
            expected.advance(&base, block, half)?;
        }
        let layers: Vec<LayerId> = roles.iter().map(|&role| LayerId::Block { block, role }).collect();
        let named = |id: LayerId| move |error: Error| Error::InLayer { layer: id, source: Box::new(error) };
        let weights: Vec<Vec<f32>> =
            layers.iter().map(|&id| base.weight_data(id)).collect::<Result<_, _>>()?;
        let matrices = layers.iter().zip(&weights);
        let matrices: Vec<Matrix<'_>> = matrices
            .map(|(&id, weight)| Matrix::new(weight, shape.shape(id)).map_err(named(id)))
            .collect::<Result<_>>()?;

        let output = BlockOutput::new(&base, &tracked, block, &layers, quantized.beside(&expected));
        let outcomes = lrq_by(
            &matrices,
            config,
            |step, weights| output.slope(step, weights),
            |weights| output.error(weights),
        );
        for (&id, outcome) in layers.iter().zip(outcomes.map_err(named(layers[0]))?) {
            applied.replace(model, id, outcome)?;
        }
        for half in SubBlock::ALL {
            quantized.advance(model, block, half)?;
        }
        if !progress(applied.layers.len(), total) {
            return Err(ramp_model::Error::Interrupted.into());
        }
    }
    Ok(applied)
}
