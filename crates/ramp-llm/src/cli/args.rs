//! Arguments that several commands share.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use burn::tensor::Device;
use clap::{Args, ValueEnum, builder::RangedU64ValueParser};
use ramp::{
    gguf::GgmlType,
    model::Precision,
    pipeline::{AllocatorKind, NamedDevice, QuantizeOptions, fold_of_mode},
    quant::{Budget, GptqConfig, Rounding},
    search::{
        ActionSet, Fixed, Mode,
        reward::{RewardSplit, RewardText, RewardTokens},
    },
};
use serde::Serialize;

use super::{
    device::{DeviceArg, open_all},
    failure::{Failure, Result},
    output, size,
    table::Table,
};

/// The budget; the three units exclude each other.
#[derive(Clone, Copy, Debug, Args)]
#[group(multiple = false)]
pub(crate) struct BudgetArgs {
    /// Bytes of the whole file, such as 6125440, 6.1MB or 5.8MiB.
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    size: Option<u64>,
    /// Bits per weight over all matrices, scales included: llama.cpp's unit.
    #[arg(long, value_name = "BITS", value_parser = bits)]
    bpw: Option<f64>,
    /// Mean of the nominal bits over the matrices of the blocks: the paper's unit.
    #[arg(long, value_name = "BITS", value_parser = bits)]
    mean_bits: Option<f64>,
}

impl BudgetArgs {
    /// The budget, if one was given.
    pub(crate) fn given(self) -> Option<Budget> {
        self.size
            .map(Budget::Bytes)
            .or(self.bpw.map(Budget::BitsPerWeight))
            .or(self.mean_bits.map(Budget::MeanBits))
    }
}

/// A number of bits above zero.
pub(crate) fn parse_bits(text: &str) -> std::result::Result<f64, String> {
    bits(text)
}

fn bits(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(bits) if bits.is_finite() && bits > 0.0 => Ok(bits),
        _ => Err(format!("`{text}` is not a number above zero")),
    }
}

/// Types of the matrices outside of the blocks.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct FixedArgs {
    /// Store the embedding as this type instead of searching one.
    #[arg(long, value_name = "TYPE")]
    token_embd_type: Option<GgmlType>,
    /// Store the head as this type instead of searching one.
    #[arg(long, value_name = "TYPE")]
    output_type: Option<GgmlType>,
}

impl FixedArgs {
    /// What the library takes.
    pub(crate) const fn types(self) -> Fixed {
        Fixed { token_embd: self.token_embd_type, output: self.output_type }
    }
}

/// The text that the search is rewarded on.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct RewardArgs {
    /// Tokens that every tried allocation is scored on, at most, or `all` that the text has for it.
    #[arg(long, value_name = "TOKENS", default_value = "4096", value_parser = reward_tokens)]
    search_tokens: RewardTokens,
    /// Score allocations on the test windows while searching. The report is marked.
    #[arg(long)]
    reward_on_test_text: bool,
}

impl RewardArgs {
    /// What the library takes.
    pub(crate) const fn text(self) -> RewardText {
        let split = if self.reward_on_test_text { RewardSplit::Test } else { RewardSplit::Search };
        RewardText { split, tokens: self.search_tokens }
    }
}

fn reward_tokens(text: &str) -> std::result::Result<RewardTokens, String> {
    match text.parse::<u32>() {
        _ if text == "all" => Ok(RewardTokens::Full),
        Ok(tokens) if tokens > 0 => Ok(RewardTokens::AtMost(tokens as usize)),
        _ => Err(format!("`{text}` is neither a number of tokens above zero nor `all`")),
    }
}

/// What the search does and how much it may look at.
#[derive(Clone, Debug, Args)]
pub(crate) struct SearchArgs {
    /// How the allocation is found.
    #[arg(long, value_enum, default_value_t = AllocatorArg::Sac)]
    pub(crate) allocator: AllocatorArg,
    /// Follow the paper to the letter, or with its errors mended.
    #[arg(long, value_enum, default_value_t = ModeArg::Sound)]
    pub(crate) mode: ModeArg,
    /// The tensor types to choose from, such as Q3_K,IQ4_XS,Q5_K [default: Q3_K,IQ4_XS,Q4_K,Q5_K,Q6_K, or without
    /// IQ4_XS with --mode paper].
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    pub(crate) types: Option<Vec<GgmlType>>,
    #[command(flatten)]
    pub(crate) fixed: FixedArgs,
    /// How codes are chosen: each weight to its nearest, or with error feedback (GPTQ) [default: gptq, or nearest
    /// with --mode paper].
    #[arg(long, value_enum)]
    pub(crate) rounding: Option<RoundingArg>,
    /// Episodes of the search [default: 64 for sac, or 250 with --mode paper; 200 for discrete and ppo].
    #[arg(long, value_name = "N", value_parser = at_least(1))]
    pub(crate) episodes: Option<usize>,
    /// Length of the windows that the text is cut into, in tokens.
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = at_least(2))]
    pub(crate) ctx: usize,
    /// Tokens for activation statistics, at most.
    #[arg(long, value_name = "TOKENS", default_value_t = 131_072, value_parser = at_least(1))]
    pub(crate) calibration_tokens: usize,
    #[command(flatten)]
    pub(crate) reward: RewardArgs,
    /// Held-out tokens for the final report, at most.
    #[arg(long, value_name = "TOKENS", default_value_t = 8192, value_parser = at_least(1))]
    pub(crate) report_tokens: usize,
}

impl SearchArgs {
    /// The formats that the search may choose from.
    pub(crate) fn actions(&self) -> Result<ActionSet> {
        match &self.types {
            Some(types) => {
                ActionSet::new(types.clone()).map_err(|error| Failure::User(format!("--types: {error}")))
            }
            None => Ok(ActionSet::of_mode(self.mode.into())),
        }
    }

    /// How codes are chosen; the paper rounds to nearest.
    pub(crate) fn rounding(&self) -> Rounding {
        let default = match self.mode {
            ModeArg::Sound => RoundingArg::Gptq,
            ModeArg::Paper => RoundingArg::Nearest,
        };
        self.rounding.unwrap_or(default).into()
    }
}

/// Text, formats and tokens of the commands that study policies.
#[derive(Clone, Debug, Args)]
pub(crate) struct StudyArgs {
    /// Text to calibrate, measure and score on, in disjoint windows [default: a small text that comes with RAMP].
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// The tensor types to choose from [default: Q3_K,IQ4_XS,Q4_K,Q5_K,Q6_K].
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    pub(crate) types: Option<Vec<GgmlType>>,
    /// How codes are chosen.
    #[arg(long, value_enum, default_value_t = RoundingArg::Gptq)]
    rounding: RoundingArg,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Length of the windows that the text is cut into, in tokens.
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = at_least(2))]
    ctx: usize,
    /// Tokens for activation statistics, at most.
    #[arg(long, value_name = "TOKENS", default_value_t = 32_768, value_parser = at_least(1))]
    calibration_tokens: usize,
    /// Tokens that sensitivities and episodes are measured on, at most.
    #[arg(long, value_name = "TOKENS", default_value_t = 4096, value_parser = at_least(1))]
    search_tokens: usize,
    /// Held-out tokens that transfers are scored on, at most.
    #[arg(long, value_name = "TOKENS", default_value_t = 8192, value_parser = at_least(1))]
    report_tokens: usize,
    #[command(flatten)]
    precision: PrecisionArgs,
}

impl StudyArgs {
    /// The text, if one was given.
    pub(crate) const fn text(&self) -> Option<&PathBuf> {
        self.text.as_ref()
    }

    /// What the library takes; the model, the output and the budget are named elsewhere.
    pub(crate) fn settings(&self, (device, others): (Device, Vec<NamedDevice>)) -> Result<QuantizeOptions> {
        let actions = match &self.types {
            Some(types) => {
                ActionSet::new(types.clone()).map_err(|error| Failure::User(format!("--types: {error}")))?
            }
            None => ActionSet::default(),
        };
        let nowhere = PathBuf::new();
        let defaults = QuantizeOptions::new(nowhere.clone(), nowhere, Budget::BitsPerWeight(4.0), device);
        Ok(QuantizeOptions {
            text: self.text.clone(),
            fold: fold_of_mode(Mode::Sound, &actions),
            actions,
            rounding: self.rounding.into(),
            seed: self.seed,
            precision: self.precision.precision,
            ctx: self.ctx,
            calibration_tokens: self.calibration_tokens,
            reward_text: RewardText {
                split: RewardSplit::Search,
                tokens: RewardTokens::AtMost(self.search_tokens),
            },
            report_tokens: self.report_tokens,
            others,
            ..defaults
        })
    }
}

/// `--rounding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoundingArg {
    /// As llama-quantize does with an importance matrix.
    Nearest,
    /// A column's rounding error is made good by the columns that follow.
    Gptq,
}

impl From<RoundingArg> for Rounding {
    fn from(rounding: RoundingArg) -> Self {
        match rounding {
            RoundingArg::Nearest => Self::Nearest,
            RoundingArg::Gptq => Self::Gptq(GptqConfig::default()),
        }
    }
}

/// What becomes of a table, and of everything that it was made from.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArgs {
    /// Write everything that was measured as JSON.
    #[arg(long, value_name = "REPORT")]
    json: Option<PathBuf>,
    /// Print a Markdown table.
    #[arg(long)]
    pub(crate) markdown: bool,
}

impl ReportArgs {
    /// Finds out before a long run that the report cannot be written.
    pub(crate) fn check(&self) -> Result {
        self.json.iter().try_for_each(|path| output::check_writable(path))
    }

    /// Writes the report, where it is asked for, and gives the table as text.
    pub(crate) fn render(&self, report: &impl Serialize, table: &Table) -> Result<String> {
        if let Some(path) = &self.json {
            output::write_json(path, report)?;
        }
        Ok(if self.markdown { table.markdown() } else { table.to_string() })
    }
}

/// `--token-file`.
#[derive(Clone, Debug, Args)]
struct TokenArgs {
    /// File with the token of remote devices; without it, the variable RAMP_TOKEN.
    #[cfg(feature = "remote")]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl TokenArgs {
    #[cfg(feature = "remote")]
    fn file(&self) -> Option<&Path> {
        self.token_file.as_deref()
    }

    #[cfg(not(feature = "remote"))]
    #[allow(clippy::unused_self, reason = "there is one in builds with remote devices")]
    const fn file(&self) -> Option<&Path> {
        None
    }
}

/// `--device`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DeviceArgs {
    /// Where the model runs: cpu, or cuda:N in a build with --features cuda.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = DeviceArg::from_str)]
    device: DeviceArg,
    #[command(flatten)]
    token: TokenArgs,
}

impl DeviceArgs {
    /// The device.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) fn open(&self) -> Result<Device> {
        self.device.open(self.token.file())
    }
}

/// `--device` of commands that search.
#[derive(Clone, Debug, Args)]
pub(crate) struct DevicesArgs {
    /// Where the model runs: cpu, cuda:N in a build with --features cuda, or
    /// ws://HOST:PORT, where ramp serve runs, with --features remote. Of several devices, as cuda:0,cuda:1 or
    /// cuda:all, each evaluates a part of the text for every allocation; all else is done by the first. One that fails in
    /// a search is left out, and the others do its part.
    #[arg(
        long = "device", value_name = "DEVICE,...", value_delimiter = ',', default_values = ["cpu"],
        value_parser = DeviceArg::from_str
    )]
    devices: Vec<DeviceArg>,
    #[command(flatten)]
    token: TokenArgs,
}

impl DevicesArgs {
    /// The first device, and the others.
    ///
    /// # Errors
    /// When one cannot be used or is named twice.
    pub(crate) fn open(&self) -> Result<(Device, Vec<NamedDevice>)> {
        open_all(&self.devices, self.token.file())
    }
}

/// `--precision`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct PrecisionArgs {
    /// What the blocks multiply in: f32, bf16 or f16. Half floats are for GPUs.
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = precision)]
    pub(crate) precision: Precision,
}

fn precision(name: &str) -> std::result::Result<Precision, String> {
    name.parse().map_err(|error: ramp::model::Error| error.to_string())
}

/// A whole number with a least value.
pub(crate) fn at_least(least: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..=u64::from(u32::MAX))
}

/// `--allocator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AllocatorArg {
    /// Soft Actor-Critic.
    Sac,
    /// Soft Actor-Critic that chooses among the formats.
    Discrete,
    /// Proximal Policy Optimisation.
    Ppo,
    /// Measured sensitivities and an exact knapsack.
    Knapsack,
    /// The measured knapsack, then exchanges between two layers as long as they help.
    Polish,
    /// EvoPress, an evolutionary search.
    Evopress,
    /// Relative errors of the weights and an exact knapsack: no evaluation.
    Proxy,
    /// The same density of bits everywhere.
    Uniform,
}

impl From<AllocatorArg> for AllocatorKind {
    fn from(allocator: AllocatorArg) -> Self {
        match allocator {
            AllocatorArg::Sac => Self::Sac,
            AllocatorArg::Discrete => Self::Discrete,
            AllocatorArg::Ppo => Self::Ppo,
            AllocatorArg::Knapsack => Self::Knapsack,
            AllocatorArg::Polish => Self::Polish,
            AllocatorArg::Evopress => Self::Evopress,
            AllocatorArg::Proxy => Self::Proxy,
            AllocatorArg::Uniform => Self::Uniform,
        }
    }
}

/// `--mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// Measured decisions that hold a budget.
    Sound,
    /// The paper's text, flaws included.
    Paper,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Sound => Self::Sound,
            ModeArg::Paper => Self::Paper,
        }
    }
}

#[cfg(test)]
mod tests {
    use ramp::search::SacSearchConfig;

    use super::*;

    #[test]
    fn bits_are_numbers_above_zero() {
        assert_eq!(bits("4.25"), Ok(4.25));
        for bad in ["", "0", "-4", "nan", "inf", "four"] {
            assert!(bits(bad).unwrap_err().contains(&format!("`{bad}`")));
        }
    }

    #[test]
    fn rewards_are_on_some_tokens_or_all() {
        assert_eq!(reward_tokens("all"), Ok(RewardTokens::Full));
        assert_eq!(reward_tokens("512"), Ok(RewardTokens::AtMost(512)));
        for bad in ["0", "-1", "All", "", "1e4"] {
            assert!(reward_tokens(bad).unwrap_err().contains(&format!("`{bad}`")));
        }
    }

    #[test]
    fn the_help_tells_the_true_number_of_episodes() {
        let command = SearchArgs::augment_args(clap::Command::new("ramp"));
        let episodes = command.get_arguments().find(|argument| argument.get_id() == "episodes").unwrap();
        let help = episodes.get_help().unwrap().to_string();
        let default = |mode| SacSearchConfig::new(mode, 0).episodes;
        let (sound, paper) = (default(Mode::Sound), default(Mode::Paper));
        let walks = ramp::search::WalkSearchConfig::discrete(0).episodes;
        let expected =
            format!("[default: {sound} for sac, or {paper} with --mode paper; {walks} for discrete and ppo]");
        assert!(help.contains(&expected), "{help}");
    }
}
