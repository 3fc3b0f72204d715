#![doc = include_str!("../README.md")]

mod divergence;
mod error;
mod moments;
mod perplexity;
mod protocol;
pub mod rows;

pub use divergence::{Comparison, compare};
pub use error::{Error, Result};
pub use moments::Moments;
pub use perplexity::{Perplexity, perplexity};
pub use protocol::{Bos, Protocol, Scored, Windows, gptq_text};
