//! How much memory the writer needs: `bounded_memory OUT.gguf [MiB]` writes a model of that many MiB (2048) and
//! prints the largest resident size of the process (`VmHWM`, Linux only).
//!
//! The model has Q8_0 matrices of 64 MiB, with bytes from a counter. They are written in parts of 1 MiB, and the
//! last is encoded from weights, so that both ways are in the number.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use std::error::Error;

use ramp_gguf::{GgmlType, GgufWriter, Metadata, TensorSpec};

const N_PER_ROW: u64 = 4096;
/// Rows in 64 MiB of Q8_0: 4352 bytes each.
const N_ROWS: u64 = (64 << 20) / (N_PER_ROW / 32 * 34);

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: bounded_memory OUT.gguf [MiB]")?;
    let mib: u64 = args.next().map_or(Ok(2048), |mib| mib.parse())?;

    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "llama");
    let specs: Vec<TensorSpec> = (0..mib.div_ceil(64))
        .map(|i| TensorSpec::new(format!("blk.{i}.weight"), [N_PER_ROW, N_ROWS], GgmlType::Q8_0))
        .collect();
    let largest =
        specs.iter().map(TensorSpec::n_bytes).try_fold(0, |largest, bytes| bytes.map(|b| b.max(largest)))?;
    let (last, others) = specs.split_last().ok_or("no tensors")?;

    let start = peak_kib();
    let mut writer = GgufWriter::create(&path, metadata, specs.clone())?;
    let mut part = vec![0_u8; 1 << 20];
    for (at, spec) in others.iter().enumerate() {
        let mut left = usize::try_from(spec.n_bytes()?)?;
        while left > 0 {
            part.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 31 + at) as u8);
            let n = left.min(part.len());
            writer.append(&spec.name, &part[..n])?;
            left -= n;
        }
    }
    let appended = peak_kib();
    let weights: Vec<f32> = (0..N_PER_ROW * N_ROWS).map(|i| (i % 1013) as f32 * 0.001).collect();
    let with_weights = peak_kib();
    writer.encode_tensor(&last.name, &weights, None)?;
    let encoded = peak_kib();
    let bytes = writer.finish()?;

    println!("{bytes} bytes in {} tensors, the largest of {largest}", specs.len());
    println!("peak resident size, KiB");
    println!("  before the writer         {start:>8}");
    println!("  after appending in parts  {appended:>8}");
    println!("  with {:>9} f32 weights {with_weights:>7}", weights.len());
    println!("  after encoding them       {encoded:>8}");
    println!("  after finishing           {:>8}", peak_kib());
    Ok(())
}

/// The largest resident size so far, 0 where the system does not say.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
