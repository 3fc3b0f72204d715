//! `ramp ablate`.

use std::path::PathBuf;

use clap::Subcommand;
use ramp::pipeline::{AblateOptions, Ablated, ablate_folding};

use super::{
    args::{DeviceArgs, ReportArgs, RoundingArg},
    compare::TextArgs,
    failure::Result,
    output,
    progress::Progress,
    summary::with_error,
    table::{
        Align::{Left, Right},
        Table,
    },
};

/// What is left out or changed.
#[derive(Debug, Subcommand)]
pub(crate) enum Ablate {
    /// Scale folding: off, as the paper prints it, and its extensions, under Q3_K, Q4_K and a mix of types.
    Folding(Args),
}

/// Arguments of `ramp ablate folding`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Hugging Face folder or GGUF file.
    model: PathBuf,
    #[command(flatten)]
    texts: TextArgs,
    /// How codes are chosen: each weight to its nearest, with the imatrix, or with error feedback (GPTQ).
    #[arg(long, value_enum, default_value_t = RoundingArg::Nearest)]
    rounding: RoundingArg,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// Runs the command.
///
/// # Errors
/// When the arguments, the model or a text cannot be used, or on Ctrl-C.
pub(crate) fn run(ablate: &Ablate) -> Result {
    let Ablate::Folding(args) = ablate;
    args.report.check()?;
    let options = AblateOptions {
        model: args.model.clone(),
        texts: args.texts.options()?,
        rounding: args.rounding.into(),
        device: args.device.open()?,
    };
    let mut progress = Progress::start("load");
    let rows = ablate_folding(&options, &mut |step| progress.step(step))?;
    drop(progress);
    output::print(&args.report.render(&rows, &table(&rows))?)
}

fn table(rows: &[Ablated]) -> Table {
    let mut table = Table::new([
        ("types", Left),
        ("folding", Left),
        ("mean exponent", Right),
        ("perplexity", Right),
        ("ln PPL ratio", Right),
        ("KL divergence", Right),
        ("against off", Right),
        ("p", Right),
    ]);
    for row in rows {
        let against = &row.against_base;
        let (off, p) = row.against_off.map_or_else(Default::default, |(ratio, test)| {
            (with_error(ratio, test.se, 4), format!("{:.4}", test.p_value))
        });
        table.row([
            row.types.name().into(),
            row.folding.into(),
            row.mean_exponent.map_or_else(String::new, |exponent| format!("{exponent:.2}")),
            with_error(against.model.perplexity, against.model.perplexity_se, 3),
            with_error(against.ln_ppl_ratio, against.ln_ppl_ratio_se, 4),
            with_error(against.mean_kld, against.mean_kld_se, 4),
            off,
            p,
        ]);
    }
    table
}
