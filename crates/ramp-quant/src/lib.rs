#![doc = include_str!("../README.md")]

pub mod affine;
mod allocation;
pub mod baseline;
mod budget;
mod error;
mod fold;
mod format;
mod gptq;
mod layer_quantizer;
mod learned;
mod quantize;
mod reconstruction;
mod tensor_type_file;

pub use allocation::Allocation;
pub use budget::Budget;
pub use error::{Error, Result};
pub use fold::{ActStatistic, BlockFold, EXPONENTS, FoldConfig, FoldReport, fold};
pub use format::Format;
pub use gptq::{GptqConfig, Hessian, gptq};
pub use layer_quantizer::{LayerQuantizer, Rounding, imatrix};
pub use learned::{JUDGES, LearnConfig, LearnStart, LearnedBlock, LearnedLayer, learn_rounding};
pub use quantize::{Quantized, dequantize, quantize};
