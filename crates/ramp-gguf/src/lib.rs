#![doc = include_str!("../README.md")]

mod atomic;
mod codec;
mod cursor;
mod error;
mod file;
mod ggml_type;
mod header;
mod imatrix;
mod metadata;
mod mmap;
mod rope;
mod tokenizer;
mod value;
mod writer;

pub use atomic::write_atomically;
pub use codec::{BlockGrid, block_grid, decode, encode, encode_into, has_grid, set_codes};
pub use error::{Error, Result};
pub use file::GgufFile;
pub use ggml_type::{GgmlType, QUANTIZED, fallback};
pub use header::{Header, TensorInfo};
pub use imatrix::{Imatrix, ImatrixEntry};
pub use metadata::{FromValue, Metadata};
pub use mmap::MappedFile;
pub use rope::{permute_rope_rows, unpermute_rope_rows};
pub use tokenizer::{VocabOptions, tokenizer_metadata};
pub use value::{Array, Value};
pub use writer::{GgufWriter, TensorSpec, file_bytes};
