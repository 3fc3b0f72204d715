//! A GGUF file without this crate's writer, byte by byte: all there is to the format. The crate then reads it.
//!
//! `write_by_hand [FILE]`; without a name the file is not kept.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use std::error::Error;

use ramp_gguf::{GgufFile, Header};

/// A text is its length in bytes as u64, and then its bytes in UTF-8 without a terminating zero.
fn push_string(file: &mut Vec<u8>, text: &str) {
    file.extend((text.len() as u64).to_le_bytes());
    file.extend(text.as_bytes());
}

/// Zeros up to the next multiple of 32, where the alignment is the default one.
fn pad(file: &mut Vec<u8>) {
    file.resize(file.len().next_multiple_of(32), 0);
}

fn main() -> Result<(), Box<dyn Error>> {
    // All numbers are little-endian.
    let mut file: Vec<u8> = Vec::new();

    // 1. The magic number, the version, the number of tensors and the number of keys.
    file.extend(b"GGUF");
    file.extend(3_u32.to_le_bytes());
    file.extend(2_u64.to_le_bytes());
    file.extend(3_u64.to_le_bytes());

    // 2. Keys: the name, the id of the value's type, the value. 8 is a string, 4 a u32, 9 an array, which has the
    //    id of its elements' type and their number in front of them.
    push_string(&mut file, "general.architecture");
    file.extend(8_u32.to_le_bytes());
    push_string(&mut file, "example");
    push_string(&mut file, "example.block_count");
    file.extend(4_u32.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    push_string(&mut file, "example.ratios");
    file.extend(9_u32.to_le_bytes());
    file.extend(6_u32.to_le_bytes()); // f32
    file.extend(2_u64.to_le_bytes());
    file.extend([0.5_f32, 0.25].into_iter().flat_map(f32::to_le_bytes));

    // 3. Tensor infos: name, number of dimensions, dimensions with the row length first, the id of the type, and
    //    where the data starts, counted from the start of the data section. Data follows data in the order of the
    //    infos, and each starts at a multiple of the alignment.
    let norm: [f32; 3] = [1.0, 2.0, 3.0];
    push_string(&mut file, "norm.weight");
    file.extend(1_u32.to_le_bytes());
    file.extend(3_u64.to_le_bytes());
    file.extend(0_u32.to_le_bytes()); // F32
    file.extend(0_u64.to_le_bytes()); // 12 bytes from here, so that the next starts at 32
    push_string(&mut file, "matrix.weight");
    file.extend(2_u32.to_le_bytes());
    file.extend(32_u64.to_le_bytes()); // one block per row
    file.extend(2_u64.to_le_bytes()); // two rows
    file.extend(8_u32.to_le_bytes()); // Q8_0
    file.extend(32_u64.to_le_bytes());

    // 4. The data section. A block of Q8_0 is a scale in binary16 and 32 signed bytes: 34 bytes for 32 weights.
    pad(&mut file);
    file.extend(norm.into_iter().flat_map(f32::to_le_bytes));
    pad(&mut file);
    for row in 0..2_i8 {
        file.extend([0x00, 0x38]); // 0.5 in binary16
        file.extend((0..32_i8).map(|column| (column - 16 + row) as u8));
    }
    pad(&mut file);

    // What has been written is what is read.
    let header = Header::parse(&file)?;
    println!(
        "{} keys, {} tensors, data from byte {}",
        header.metadata.len(),
        header.tensors.len(),
        header.data_start
    );
    let folder = tempfile::tempdir()?;
    let path = std::env::args().nth(1).map_or_else(|| folder.path().join("by-hand.gguf"), Into::into);
    std::fs::write(&path, &file)?;
    let read = GgufFile::open(&path)?;
    assert_eq!(read.metadata().get_str("general.architecture")?, "example");
    assert_eq!(read.decode_tensor("norm.weight")?, norm);
    let matrix = read.view("matrix.weight")?;
    assert_eq!(matrix.decode_rows(1..2)?[..3], [-7.5, -7.0, -6.5]);
    println!("{}: {} bytes, as expected", path.display(), read.file_len());
    Ok(())
}
