//! `ramp plan`.

use std::{
    fmt::{self, Write},
    path::PathBuf,
};

use ramp::{
    pipeline::{Plan, PlanOptions, PlannedSize, QuantizeOptions, Rates, plan},
    search::reward::RewardTokens,
};

use super::{
    args::{BudgetArgs, DeviceArgs, SearchArgs},
    failure::{Failure, Result},
    output,
    quantize::DEFAULT_BUDGET,
    size::{grouped, human},
    table::{
        Align::{Left, Right},
        Table,
    },
};

/// Arguments of `ramp plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Hugging Face folder; its safetensors files may be absent.
    model: PathBuf,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    search: SearchArgs,
    /// Name the pre-tokenizer in the file, as for `quantize`.
    #[arg(long, value_name = "NAME")]
    pre: Option<String>,
    /// Plan without scale folding.
    #[arg(long)]
    no_fold: bool,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the model's configuration or tokenizer cannot be used, or no file can have the budget.
pub(crate) fn run(args: Args) -> Result {
    let RewardTokens::AtMost(search_tokens) = args.search.reward.text().tokens else {
        let why = "--search-tokens all depends on the text, which a plan does not read: give a number";
        return Err(Failure::User(why.into()));
    };
    // The devices that a run with these arguments would have.
    let device = args.device.open()?;
    let run = QuantizeOptions::new(args.model, PathBuf::new(), DEFAULT_BUDGET, device);
    let rates = Rates::measure(&run.device, &run.agent_device)?;
    let options = PlanOptions {
        budget: args.budget.given(),
        allocator: args.search.allocator.into(),
        mode: args.search.mode.into(),
        episodes: args.search.episodes,
        fold: !args.no_fold,
        rounding: args.search.rounding(),
        pre: args.pre,
        actions: args.search.actions()?,
        fixed: args.search.fixed.types(),
        ctx: args.search.ctx,
        calibration_tokens: args.search.calibration_tokens,
        search_tokens,
        report_tokens: args.search.report_tokens,
        ..PlanOptions::new(run.model, rates)
    };
    let plan = plan(&options)?;
    if args.json { output::print_json(&plan) } else { output::print(&render(&plan)) }
}

fn render(plan: &Plan) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut out, plan);
    out
}

fn write(out: &mut String, plan: &Plan) -> fmt::Result {
    let blocks = plan.config.n_blocks;
    let parameters = grouped(plan.parameters);
    writeln!(out, "{}: {blocks} blocks, {parameters} parameters\n", plan.model.display())?;
    writeln!(out, "{}", sizes(plan))?;
    writeln!(out, "{}", memory(plan))?;
    writeln!(out, "{}", time(plan))?;
    writeln!(
        out,
        "Sizes are exact. Memory and time are estimates, for a text with all of these tokens: time is"
    )?;
    writeln!(out, "tokens forwarded x 2 x weights, over the rates just measured on this machine:")?;
    writeln!(
        out,
        "model {:.0} GFLOP/s, agent {:.0} GFLOP/s, encoding {:.1} M weights/s.",
        plan.rates.model_flops / 1e9,
        plan.rates.agent_flops / 1e9,
        plan.rates.encode_weights / 1e6
    )
}

fn sizes(plan: &Plan) -> Table {
    let mut table = Table::new([
        ("every matrix as", Left),
        ("file bytes", Right),
        ("size", Right),
        ("bpw", Right),
        ("mean bits", Right),
    ]);
    let mut row = |name: String, size: &PlannedSize| {
        table.row([
            name,
            grouped(size.file_bytes),
            human(size.file_bytes),
            format!("{:.4}", size.bits_per_weight),
            format!("{:.3}", size.mean_bits),
        ]);
    };
    for format in &plan.formats {
        let note = if format.in_action_set { "" } else { " (not searched)" };
        row(format!("{}{note}", format.format), &format.size);
    }
    row("floor of the budget".into(), &plan.floor);
    row("ceiling of the budget".into(), &plan.ceiling);
    if let (Some(budget), Some(uniform)) = (plan.budget, &plan.uniform) {
        row(format!("uniform at {budget}"), uniform);
    }
    table
}

fn memory(plan: &Plan) -> Table {
    let memory = &plan.memory;
    let mut table = Table::new([("memory, about", Left), ("", Right)]);
    for (what, bytes) in [
        ("weights (f32)", memory.weights),
        ("folded copies", memory.folded),
        ("Gram matrices of the inputs (f64)", memory.gram),
        ("weight bank (every format, f32)", memory.bank),
        ("hidden states of the search", memory.hidden),
        ("logits of the search", memory.logits),
        ("evaluation of the file", memory.evaluation),
        ("total", memory.total),
    ] {
        table.row([what.into(), human(bytes)]);
    }
    table
}

fn time(plan: &Plan) -> Table {
    let (work, seconds) = (&plan.work, &plan.seconds);
    let mut table = Table::new([("time, about", Left), ("tokens", Right), ("", Right)]);
    let tokens = |tokens: u64| if tokens == 0 { String::new() } else { grouped(tokens) };
    for (what, tokens, seconds) in [
        ("calibration", tokens(work.calibration), seconds.calibrate),
        ("encoding", String::new(), seconds.encode),
        ("sensitivities", tokens(work.sensitivity), seconds.sensitivity),
        ("evaluations of the search", tokens(work.search), seconds.search),
        ("updates of the agent", String::new(), seconds.agent),
        ("report", tokens(work.report), seconds.report),
        ("total", String::new(), seconds.total),
    ] {
        table.row([what.into(), tokens, duration(seconds)]);
    }
    table
}

/// `12 s`, `3.5 min`, `2.1 h`: an estimate deserves no more digits.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 100.0 * 60.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_few_digits() {
        let shown = [0.04, 9.94, 12.3, 150.0, 7200.0].map(duration);
        assert_eq!(shown, ["0.0 s", "9.9 s", "12 s", "2.5 min", "2.0 h"]);
    }
}
