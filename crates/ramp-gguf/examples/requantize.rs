//! What llama-quantize does: `requantize IN.gguf OUT.gguf MIX [IMATRIX [TENSOR_TYPES]]`.
//!
//! `MIX` is a file type such as `Q4_K_M`. `IMATRIX` is an importance matrix of either form, or `-` for none;
//! `TENSOR_TYPES` a file as for `llama-quantize --tensor-type-file`. One tensor is in memory at a time.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use std::error::Error;

use ramp_gguf::mix::{self, LlamaFtype, MixOptions};
use ramp_gguf::{GgufFile, GgufWriter, Imatrix, ModelFacts, Recipe, TensorSpec, check_vocabulary, keys};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [input, output, ftype, rest @ ..] = args.as_slice() else {
        return Err("usage: requantize IN.gguf OUT.gguf MIX [IMATRIX [TENSOR_TYPES]]".into());
    };
    let ftype: LlamaFtype = ftype.parse()?;
    let imatrix_path = rest.first().filter(|path| *path != "-");
    let imatrix = imatrix_path.map(Imatrix::open).transpose()?;
    let recipe = rest.get(1).map(Recipe::open).transpose()?.unwrap_or_default();

    let file = GgufFile::open(input)?;
    let facts = ModelFacts::read(file.metadata())?;
    check_vocabulary(file.metadata())?;
    let mut specs: Vec<TensorSpec> = file
        .tensors()
        .iter()
        .map(|info| TensorSpec::new(info.name.as_str(), info.dims.as_slice(), info.ty))
        .collect();
    let options = MixOptions { has_imatrix: imatrix.is_some(), recipe, ..MixOptions::default() };
    let types = mix::types(&facts, ftype, &specs, &options)?;
    specs.iter_mut().zip(types).for_each(|(spec, ty)| spec.ty = ty);

    let mut metadata = file.metadata().clone();
    metadata.insert(keys::FILE_TYPE, ftype.id());
    metadata.insert(keys::QUANTIZATION_VERSION, keys::QUANTIZATION_VERSION_VALUE);
    if let (Some(imatrix), Some(path)) = (&imatrix, imatrix_path) {
        imatrix.quantize_keys(path, &mut metadata);
    }

    let mut writer = GgufWriter::create(output, metadata, specs.clone())?;
    for spec in &specs {
        let tensor = file.view(&spec.name)?;
        if tensor.ty() == spec.ty {
            writer.write_tensor(&spec.name, tensor.bytes())?;
            continue;
        }
        let columns = spec.dims[0] * spec.dims.iter().skip(2).product::<u64>();
        let importance = match &imatrix {
            Some(imatrix) => imatrix.importance(&spec.name, usize::try_from(columns)?)?,
            None => None,
        };
        println!("{:<40} {} -> {}", spec.name, tensor.ty(), spec.ty);
        writer.encode_tensor(&spec.name, &tensor.decode()?, importance.as_deref())?;
    }
    println!("{} bytes", writer.finish()?);
    Ok(())
}
