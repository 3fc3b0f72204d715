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
mod quantize;
mod tensor_type_file;

pub use allocation::Allocation;
pub use budget::Budget;
pub use error::{Error, Result};
pub use fold::{ActStatistic, BlockFold, EXPONENTS, FoldConfig, FoldReport, fold};
pub use format::Format;
pub use gptq::{GptqConfig, Hessian, gptq};
pub use layer_quantizer::{LayerQuantizer, Rounding, imatrix};
pub use quantize::{Quantized, dequantize, quantize};
