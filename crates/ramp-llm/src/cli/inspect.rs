//! `ramp inspect`.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    path::{Path, PathBuf},
};

use ramp::gguf::{Array, GgmlType, GgufFile, TensorInfo, Value};
use serde::Serialize;
use serde_json::json;

use super::{
    failure::Result,
    output,
    size::{grouped, human},
    table::{
        Align::{Left, Right},
        Table,
    },
};

/// Elements of an array that are shown.
const SHOWN: usize = 6;
/// Characters of a string that are shown in a table.
const MAX_TEXT: usize = 72;

/// Arguments of `ramp inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The GGUF file.
    file: PathBuf,
    /// Print a JSON object. Long arrays are abbreviated there, too.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the file cannot be read or is not a valid GGUF file.
pub(crate) fn run(args: &Args) -> Result {
    let file = GgufFile::open(&args.file)?;
    if args.json { output::print_json(&object(&args.file, &file)) } else { output::print(&render(&file)) }
}

/// Sums over tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Totals {
    tensors: usize,
    weights: u64,
    bytes: u64,
}

impl Totals {
    fn add(&mut self, tensor: &TensorInfo) {
        self.tensors += 1;
        // Each was checked to fit the file; their number of weights need not fit together.
        self.weights = self.weights.saturating_add(tensor.n_elements());
        self.bytes = self.bytes.saturating_add(tensor.n_bytes);
    }

    fn bits_per_weight(self) -> f64 {
        if self.weights == 0 { 0.0 } else { 8.0 * self.bytes as f64 / self.weights as f64 }
    }
}

fn totals(file: &GgufFile) -> (Totals, BTreeMap<GgmlType, Totals>) {
    let (mut all, mut by_type) = (Totals::default(), BTreeMap::<_, Totals>::new());
    for tensor in file.tensors() {
        all.add(tensor);
        by_type.entry(tensor.ty).or_default().add(tensor);
    }
    (all, by_type)
}

fn object(path: &Path, file: &GgufFile) -> serde_json::Value {
    let metadata: serde_json::Map<_, _> =
        file.metadata().iter().map(|(key, value)| (key.to_owned(), json_value(value))).collect();
    let tensors: Vec<_> = file
        .tensors()
        .iter()
        .map(|tensor| {
            json!({
                "name": tensor.name,
                "type": tensor.ty,
                "shape": tensor.dims,
                "weights": tensor.n_elements(),
                "bytes": tensor.n_bytes,
                "offset": tensor.offset,
            })
        })
        .collect();
    let (all, by_type) = totals(file);
    let types: serde_json::Map<_, _> =
        by_type.into_iter().map(|(ty, totals)| (ty.to_string(), json!(totals))).collect();
    json!({
        "file": path,
        "version": file.version(),
        "alignment": file.alignment(),
        "file_bytes": file.file_len(),
        "data_start": file.data_start(),
        "metadata": metadata,
        "tensors": tensors,
        "types": types,
        "total": all,
        "bits_per_weight": all.bits_per_weight(),
    })
}

/// A short array as it is, a long one as its type, length and first elements.
fn json_value(value: &Value) -> serde_json::Value {
    match value {
        Value::Array(array) if array.len() > SHOWN => {
            json!({ "array_of": element_name(value), "len": array.len(), "first": first(array) })
        }
        other => json!(other),
    }
}

/// `u32` of `array of u32`.
fn element_name(value: &Value) -> &'static str {
    let name = value.type_name();
    name.strip_prefix("array of ").unwrap_or(name)
}

/// The first elements. Whole vocabularies are never copied.
fn first(array: &Array) -> serde_json::Value {
    match array {
        Array::U8(v) => json!(&v[..v.len().min(SHOWN)]),
        Array::I8(v) => json!(&v[..v.len().min(SHOWN)]),
        Array::U16(v) => json!(&v[..v.len().min(SHOWN)]),
        Array::I16(v) => json!(&v[..v.len().min(SHOWN)]),
        Array::U32(v) => json!(&v[..v.len().min(SHOWN)]),
        Array::I32(v) => json!(&v[..v.len().min(SHOWN)]),
        Array::F32(v) => json!(&v[..v.len().min(SHOWN)]),
        Array::Bool(v) => json!(&v[..v.len().min(SHOWN)]),
        Array::String(v) => json!(&v[..v.len().min(SHOWN)]),
        Array::U64(v) => json!(&v[..v.len().min(SHOWN)]),
        Array::I64(v) => json!(&v[..v.len().min(SHOWN)]),
        Array::F64(v) => json!(&v[..v.len().min(SHOWN)]),
        _ => json!([]),
    }
}

fn render(file: &GgufFile) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut out, file);
    out
}

fn write(out: &mut String, file: &GgufFile) -> fmt::Result {
    let (bytes, version) = (file.file_len(), file.version());
    writeln!(
        out,
        "{}: GGUF v{version}, {} bytes ({}), alignment {}, tensor data from byte {}\n",
        file.path().display(),
        grouped(bytes),
        human(bytes),
        file.alignment(),
        grouped(file.data_start())
    )?;

    let mut metadata = Table::new([("metadata", Left), ("type", Left), ("value", Left)]);
    for (key, value) in file.metadata().iter() {
        metadata.row([safe(key), value.type_name().to_owned(), short(value)]);
    }
    writeln!(out, "{metadata}")?;

    let mut tensors =
        Table::new([("tensor", Left), ("type", Left), ("shape", Left), ("bytes", Right), ("bpw", Right)]);
    for tensor in file.tensors() {
        let mut totals = Totals::default();
        totals.add(tensor);
        let dims: Vec<String> = tensor.dims.iter().map(u64::to_string).collect();
        tensors.row([
            safe(&tensor.name),
            tensor.ty.to_string(),
            dims.join(" x "),
            grouped(tensor.n_bytes),
            format!("{:.4}", totals.bits_per_weight()),
        ]);
    }
    writeln!(out, "{tensors}")?;

    let mut sums = Table::new([
        ("type", Left),
        ("tensors", Right),
        ("weights", Right),
        ("bytes", Right),
        ("bpw", Right),
    ]);
    let mut row = |name: String, totals: Totals| {
        sums.row([
            name,
            totals.tensors.to_string(),
            grouped(totals.weights),
            grouped(totals.bytes),
            format!("{:.4}", totals.bits_per_weight()),
        ]);
    };
    let (all, by_type) = totals(file);
    by_type.into_iter().for_each(|(ty, totals)| row(ty.to_string(), totals));
    row("all".into(), all);
    write!(out, "{sums}")
}

/// A value on one line.
fn short(value: &Value) -> String {
    let text = match value {
        Value::Array(array) => {
            let shown = first(array).to_string();
            let left = array.len().saturating_sub(SHOWN);
            let open = shown.strip_suffix(']').unwrap_or(&shown);
            if left == 0 { shown } else { format!("{open}, ... {left} more]") }
        }
        Value::String(text) => format!("\"{text}\""),
        Value::F32(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        other => json!(other).to_string(),
    };
    safe(&text)
}

/// Text from a file must not move the cursor, and is cut where a line would be too long.
fn safe(text: &str) -> String {
    let escaped: String = text
        .chars()
        .take(MAX_TEXT)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(MAX_TEXT).is_some() { escaped + "..." } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_short_and_harmless() {
        assert_eq!(short(&Value::from("a\n\u{1b}[2J")), "\"a\\n\\u{1b}[2J\"");
        assert_eq!(short(&Value::from("x".repeat(200))).len(), MAX_TEXT + 3);
        assert_eq!(short(&Value::from(vec![1_u32, 2])), "[1,2]");
        assert_eq!(short(&Value::from((0..9_i32).collect::<Vec<_>>())), "[0,1,2,3,4,5, ... 3 more]");
        assert_eq!(short(&Value::from(true)), "true");
        assert_eq!(short(&Value::from(f32::INFINITY)), "inf");
    }

    #[test]
    fn long_arrays_are_objects_in_json() {
        assert_eq!(json_value(&Value::from(vec![1_u32, 2])), json!([1, 2]));
        let long = json_value(&Value::from(vec![0.5_f32; 100]));
        assert_eq!(long, json!({ "array_of": "f32", "len": 100, "first": [0.5, 0.5, 0.5, 0.5, 0.5, 0.5] }));
    }
}
