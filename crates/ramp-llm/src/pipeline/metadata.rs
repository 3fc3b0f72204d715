//! Metadata of the output file.

use ramp_gguf::{Metadata, Value};
use ramp_model::{ModelFiles, gguf_metadata};
use ramp_quant::Rounding;
use ramp_search::Mode;

use crate::error::Result;

/// What a file says about its making, under `ramp.*`.
pub(super) struct Making<'a> {
    pub(super) mode: Mode,
    /// `sac`, `knapsack`, `uniform` or `policy`.
    pub(super) allocator: &'a str,
    pub(super) seed: u64,
    pub(super) folded: bool,
    pub(super) rounding: Rounding,
}

/// The metadata of the file. Its size does not depend on what a search finds: the budget is exact before it
/// begins, and so is a plan.
pub(super) fn metadata(files: &ModelFiles, making: &Making<'_>) -> Result<Metadata> {
    let mut md = gguf_metadata(files)?;
    md.insert("ramp.version", Value::String(env!("CARGO_PKG_VERSION").into()));
    md.insert("ramp.mode", Value::String(format!("{:?}", making.mode).to_lowercase()));
    md.insert("ramp.allocator", Value::String(making.allocator.to_owned()));
    md.insert("ramp.seed", Value::U64(making.seed));
    md.insert("ramp.rounding", Value::String(making.rounding.name().into()));
    md.insert("ramp.folded", Value::Bool(making.folded));
    Ok(md)
}
