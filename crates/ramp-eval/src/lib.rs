#![doc = include_str!("../README.md")]

mod divergence;
mod error;
mod language_model;
mod moments;
#[cfg(test)]
mod nano;
mod perplexity;
mod protocol;
mod python;
mod quantiles;
pub mod rows;
mod significance;
pub mod tasks;
mod wikitext;
mod window_losses;

pub use divergence::{Comparison, DeltaP, compare, compare_by_window};
pub use error::{Error, Result};
pub use language_model::{LanguageModel, Pace};
pub use moments::Moments;
pub use perplexity::{Perplexity, TextPerplexity, TextSize, perplexity};
pub use protocol::{Bos, Protocol, Scored, Windows, gptq_text};
pub use quantiles::{Quantile, Quantiles};
pub use significance::{MeanInterval, PairedTest, Verdict};
pub use wikitext::{detokenize, pages};
pub use window_losses::WindowLosses;
