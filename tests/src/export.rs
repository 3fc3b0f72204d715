//! A Hugging Face folder as a GGUF file without any search: the input of llama.cpp's own quantizer.

use std::path::Path;

use anyhow::Result;
use burn::tensor::Device;
use ramp_gguf::GgmlType;
use ramp_model::{CausalLm, LayerId, ModelFiles, TensorTypes, gguf_metadata, write_gguf};

/// Writes the model of `folder` to `output`, every matrix in the type that `choose` gives it, and returns the
/// model.
///
/// # Errors
/// When the folder cannot be read, a type does not fit a matrix, or the file cannot be written.
pub fn export(folder: &Path, output: &Path, choose: impl Fn(LayerId) -> GgmlType) -> Result<CausalLm> {
    let files = ModelFiles::open(folder)?;
    let config = files.config();
    let model = files.load(&Device::flex())?;
    let types: TensorTypes = config.layers().into_iter().map(|id| (id, choose(id))).collect();
    let encode = |id: LayerId, ty: GgmlType| {
        let weight = model.weight_data(id)?;
        Ok::<_, ramp_model::Error>(ramp_gguf::encode(ty, &weight, config.shape(id)[1], None)?)
    };
    write_gguf(output, &model, &types, gguf_metadata(&files)?, encode, |_, _| true)?;
    Ok(model)
}
