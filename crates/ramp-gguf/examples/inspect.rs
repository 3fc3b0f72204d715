//! What is in a GGUF file, or in a model of several: `inspect MODEL.gguf [--check]`.
//!
//! With `--check` every weight is decoded, and one that is not a finite number is an error.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use std::collections::BTreeMap;
use std::error::Error;

use ramp_gguf::{Array, GgmlType, GgufFile, ModelFacts, Value, check_vocabulary};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: inspect MODEL.gguf [--check]")?;
    let check = args.next().is_some_and(|arg| arg == "--check");

    let file = GgufFile::open(&path)?;
    println!("GGUF version {}, {} bytes, alignment {}", file.version(), file.file_len(), file.alignment());
    for part in file.part_paths() {
        println!("  {}", part.display());
    }

    println!("\nmetadata");
    for (key, value) in file.metadata().iter() {
        println!("  {key:<44} {:<16} {}", value.type_name(), short(value));
    }
    match ModelFacts::read(file.metadata()) {
        Ok(facts) => println!("\n{facts:?}"),
        Err(reason) => println!("\nnot a whole model: {reason}"),
    }
    check_vocabulary(file.metadata())?;

    println!("\ntensors");
    let mut by_type: BTreeMap<GgmlType, (usize, u64, u64)> = BTreeMap::new();
    for tensor in file.views() {
        let info = tensor.info();
        println!("  {:<44} {:<8} {:?}", info.name, info.ty.name(), info.dims);
        let totals = by_type.entry(info.ty).or_default();
        *totals = (totals.0 + 1, totals.1 + info.n_elements(), totals.2 + info.n_bytes);
        if check {
            tensor.check_finite()?;
        }
    }

    println!("\ntypes");
    let (mut weights, mut bytes) = (0, 0);
    for (ty, (n, n_weights, n_bytes)) in by_type {
        println!("  {:<8} {n:>5} tensors {n_weights:>14} weights {n_bytes:>14} bytes", ty.name());
        weights += n_weights;
        bytes += n_bytes;
    }
    if weights > 0 {
        println!("  {:.4} bits per weight", 8.0 * bytes as f64 / weights as f64);
    }
    Ok(())
}

/// A value in a few words.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
        Value::Array(Array::String(texts)) => {
            format!("{} of {:?}", texts.len(), texts.iter().take(3).collect::<Vec<_>>())
        }
        Value::Array(array) => format!("{} elements", array.len()),
        other => format!("{other:?}"),
    }
}
