#![doc = include_str!("../README.md")]

mod atomic;
pub mod block;
mod codec;
mod cursor;
mod error;
mod facts;
mod file;
mod ggml_type;
mod header;
mod imatrix;
pub mod keys;
mod metadata;
pub mod mix;
mod mmap;
mod provenance;
mod recipe;
mod rope;
mod split;
mod tokenizer;
mod value;
mod view;
mod writer;

pub use atomic::write_atomically;
pub use codec::{
    BlockGrid, Vectorize, block_grid, decode, encode, encode_into, has_grid, set_codes, vectorized,
};
pub use error::{Error, Result};
pub use facts::{ModelFacts, check_vocabulary};
pub use file::GgufFile;
pub use ggml_type::{GgmlType, QUANTIZED, fallback};
pub use header::{Header, TensorInfo};
pub use imatrix::{Imatrix, ImatrixEntry, QuantizeKeys};
pub use keys::check_key_types;
pub use metadata::{FromValue, Metadata};
pub use mmap::MappedFile;
pub use provenance::{Calibration, Provenance};
pub use recipe::Recipe;
pub use rope::{permute_rope_rows, unpermute_rope_rows};
pub use tokenizer::{
    PRE_TOKENIZERS, VocabOptions, chat_template, sentencepiece_metadata, tokenizer_metadata,
};
pub use value::{Array, Value};
pub use view::TensorView;
pub use writer::{GgufWriter, TensorSpec, file_bytes};
