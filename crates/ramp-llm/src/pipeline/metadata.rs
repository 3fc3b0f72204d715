//! Metadata of the output file.

use ramp_gguf::{Calibration, GgmlType, Metadata, Provenance, QuantizeKeys};
use ramp_model::{ModelConfig, TensorTypes, gguf_tensors};
use ramp_quant::{Allocation, Format, Rounding};
use ramp_search::Mode;

use crate::error::Result;

/// Bytes for the keys whose texts differ from run to run. The command is cut to what is left of them.
const RESERVED: usize = 1024;
/// Of these, for the command.
const COMMAND: usize = 384;

/// How the file is made, as far as is known before the search.
pub(super) struct Making<'a> {
    pub(super) mode: Mode,
    /// `sac`, `knapsack`, `uniform` or `policy`.
    pub(super) allocator: &'a str,
    pub(super) seed: u64,
    pub(super) folded: bool,
    pub(super) rounding: Rounding,
    /// Whether the codes are learned afterwards.
    pub(super) learned: bool,
    /// The command that makes the same file again.
    pub(super) command: String,
    /// Of the policy's file.
    pub(super) policy_sha256: Option<String>,
    /// The name of the text.
    pub(super) dataset: String,
}

/// What is known at the end.
pub(super) struct Made<'a> {
    pub(super) types: &'a TensorTypes,
    /// Windows of the calibration, and tokens in each.
    pub(super) samples: usize,
    pub(super) sequence_length: usize,
}

impl Making<'_> {
    /// The metadata of the file: the model's own, `md`, and the keys about the making. Its size depends on the model
    /// alone: budgets are exact before a search begins, and so are plans.
    pub(super) fn metadata(
        &self,
        mut md: Metadata,
        config: &ModelConfig,
        made: Option<&Made<'_>>,
    ) -> Result<Metadata> {
        let any_type = Allocation::uniform(config, Format::Ggml(GgmlType::F16)).tensor_types()?;
        let types = made.map_or(&any_type, |made| made.types);
        let count = |n: Option<usize>| n.map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX));
        let samples = count(made.map(|made| made.samples));
        let provenance = Provenance {
            version: Some(env!("CARGO_PKG_VERSION").into()),
            command: Some(first_chars(&self.command, COMMAND)),
            mode: Some(self.mode.name().into()),
            allocator: Some(self.allocator.to_owned()),
            seed: Some(self.seed),
            rounding: Some(self.rounding.name().to_owned() + if self.learned { "+learned" } else { "" }),
            folded: Some(self.folded),
            allocation: Some(gguf_tensors(config, types)?.iter().map(|spec| spec.ty).collect()),
            policy_sha256: self.policy_sha256.clone(),
            calibration: Some(Calibration {
                dataset: first_chars(&self.dataset, 127),
                samples,
                sequence_length: count(made.map(|made| made.sequence_length)),
            }),
        };
        provenance.write(&mut md);
        let imatrix = QuantizeKeys {
            file: None,
            dataset: Some(&self.dataset),
            entries: config.layers().len(),
            // Not written when 0; the size must not depend on it.
            chunks: samples.max(1),
        };
        imatrix.write(&mut md);
        Provenance::pad(&mut md, RESERVED);
        Ok(md)
    }
}

/// The beginning of a text, in whole characters, of at most so many bytes.
fn first_chars(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}
