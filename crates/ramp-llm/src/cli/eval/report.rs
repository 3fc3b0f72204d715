//! What `ramp eval` prints.

use std::{
    fmt::{self, Write},
    path::PathBuf,
};

use ramp::eval::{
    Comparison, DeltaP, PairedTest, Perplexity, Quantile, Quantiles, TextPerplexity,
    tasks::{PairedAccuracy, TaskResult},
};
use serde::Serialize;

use super::ProtocolArg;
use crate::cli::{
    size::grouped,
    summary::with_error,
    table::{
        Align::{Left, Right},
        Table,
    },
};

/// A model. The names of the fields are those of the JSON object.
#[derive(Debug, Serialize)]
pub(super) struct Evaluation {
    pub(super) model: PathBuf,
    #[serde(flatten)]
    pub(super) text: Option<TextEvaluation>,
    #[serde(flatten)]
    pub(super) base: Option<AgainstBase>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tasks: Vec<TaskEvaluation>,
}

/// Perplexity on a text.
#[derive(Debug, Serialize)]
pub(super) struct TextEvaluation {
    pub(super) text: PathBuf,
    pub(super) protocol: ProtocolArg,
    pub(super) ctx: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stride: Option<usize>,
    #[serde(flatten)]
    pub(super) measured: Perplexity,
    #[serde(flatten)]
    pub(super) per: Option<TextPerplexity>,
}

/// What is measured against the base, token by token.
#[derive(Debug, Serialize)]
pub(super) struct AgainstBase {
    base: PathBuf,
    base_perplexity: f64,
    base_perplexity_se: f64,
    ln_ppl_ratio: f64,
    ln_ppl_ratio_se: f64,
    ppl_ratio: f64,
    ppl_ratio_se: f64,
    ppl_difference: f64,
    ppl_difference_se: f64,
    correlation: f64,
    kld: f64,
    kld_se: f64,
    max_kld: f64,
    kld_quantiles: Quantiles,
    same_top1: f64,
    same_top1_se: f64,
    delta_p: DeltaP,
    test: Option<PairedTest>,
}

impl AgainstBase {
    pub(super) fn new(base: PathBuf, c: &Comparison) -> Self {
        Self {
            base,
            base_perplexity: c.base.perplexity,
            base_perplexity_se: c.base.perplexity_se,
            ln_ppl_ratio: c.ln_ppl_ratio,
            ln_ppl_ratio_se: c.ln_ppl_ratio_se,
            ppl_ratio: c.ppl_ratio,
            ppl_ratio_se: c.ppl_ratio_se,
            ppl_difference: c.ppl_difference,
            ppl_difference_se: c.ppl_difference_se,
            correlation: c.correlation,
            kld: c.mean_kld,
            kld_se: c.mean_kld_se,
            max_kld: c.max_kld,
            kld_quantiles: c.kld,
            same_top1: c.same_top1,
            same_top1_se: c.same_top1_se,
            delta_p: c.delta_p,
            test: c.test,
        }
    }
}

/// A task.
#[derive(Debug, Serialize)]
pub(super) struct TaskEvaluation {
    #[serde(flatten)]
    pub(super) result: TaskResult,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) base_acc: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) against_base: Option<PairedAccuracy>,
}

/// Mean accuracy over the tasks, and what part of the base's it is.
fn mean(tasks: &[TaskEvaluation]) -> (f64, Option<f64>) {
    let n = tasks.len().max(1) as f64;
    let acc = tasks.iter().map(|task| task.result.acc).sum::<f64>() / n;
    let base: Option<f64> = tasks.iter().map(|task| task.base_acc).sum();
    (acc, base.filter(|base| *base > 0.0).map(|base| acc / (base / n)))
}

fn percent(value: f64, error: f64, decimals: usize) -> String {
    with_error(100.0 * value, 100.0 * error, decimals)
}

/// Several models, one a row.
pub(super) fn table(models: &[Evaluation]) -> Table {
    let Some(first) = models.first() else { return Table::new([]) };
    let compared = models.iter().any(|model| model.base.is_some());
    let retained = models.iter().any(|model| mean(&model.tasks).1.is_some());
    let mut columns = vec![("model".to_owned(), Left)];
    let mut right = |names: &[&str]| columns.extend(names.iter().map(|name| ((*name).to_owned(), Right)));
    if first.text.is_some() {
        right(&["perplexity"]);
        if models.iter().any(|model| model.text.as_ref().is_some_and(|text| text.per.is_some())) {
            right(&["word ppl", "bits per byte"]);
        }
        if compared {
            right(&["ln PPL ratio", "p", "KL divergence", "same top 1 %"]);
        }
    }
    for task in &first.tasks {
        right(&[&format!("{} acc %", task.result.task)]);
        if task.result.acc_norm.is_some() {
            right(&["acc_norm %"]);
        }
    }
    if !first.tasks.is_empty() {
        right(&["mean acc %"]);
        if retained {
            right(&["retained %"]);
        }
    }
    let mut table = Table::of(columns);
    for model in models {
        table.row(row(model, compared));
    }
    table
}

fn row(model: &Evaluation, compared: bool) -> Vec<String> {
    let name = model
        .model
        .file_name()
        .map_or_else(|| model.model.display().to_string(), |name| name.to_string_lossy().into_owned());
    let mut cells = vec![name];
    if let Some(text) = &model.text {
        cells.push(with_error(text.measured.perplexity, text.measured.perplexity_se, 4));
        if let Some(per) = &text.per {
            cells.push(with_error(per.word_perplexity, per.word_perplexity_se, 3));
            cells.push(with_error(per.bits_per_byte, per.bits_per_byte_se, 4));
        }
        match &model.base {
            Some(base) => cells.extend([
                with_error(base.ln_ppl_ratio, base.ln_ppl_ratio_se, 5),
                base.test.map_or_else(String::new, |test| p_value(test.p_value)),
                with_error(base.kld, base.kld_se, 5),
                percent(base.same_top1, base.same_top1_se, 2),
            ]),
            None if compared => cells.extend([const { String::new() }; 4]),
            None => {}
        }
    }
    for task in &model.tasks {
        cells.push(percent(task.result.acc, task.result.acc_se, 2));
        if let (Some(acc), Some(error)) = (task.result.acc_norm, task.result.acc_norm_se) {
            cells.push(percent(acc, error, 2));
        }
    }
    if !model.tasks.is_empty() {
        let (acc, retention) = mean(&model.tasks);
        cells.push(format!("{:.2}", 100.0 * acc));
        cells.extend(retention.map(|retention| format!("{:.2}", 100.0 * retention)));
    }
    cells
}

fn p_value(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".into() } else { format!("{p:.4}") }
}

/// One model at length.
pub(super) fn detail(evaluation: &Evaluation) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut out, evaluation);
    out
}

fn write(out: &mut String, evaluation: &Evaluation) -> fmt::Result {
    writeln!(out, "{}", evaluation.model.display())?;
    if let Some(text) = &evaluation.text {
        write_text(out, text)?;
    }
    if !evaluation.tasks.is_empty() {
        write_tasks(out, &evaluation.tasks)?;
    }
    evaluation.base.as_ref().map_or(Ok(()), |base| write_base(out, base))
}

fn write_text(out: &mut String, text: &TextEvaluation) -> fmt::Result {
    let TextEvaluation { protocol, ctx, measured, per, .. } = text;
    writeln!(out, "  perplexity       {}", with_error(measured.perplexity, measured.perplexity_se, 4))?;
    if let Some(per) = per {
        writeln!(out, "  word perplexity  {}", with_error(per.word_perplexity, per.word_perplexity_se, 4))?;
        writeln!(out, "  byte perplexity  {}", with_error(per.byte_perplexity, per.byte_perplexity_se, 5))?;
        writeln!(out, "  bits per byte    {}", with_error(per.bits_per_byte, per.bits_per_byte_se, 5))?;
    }
    let stride = text.stride.map_or_else(String::new, |stride| format!(" every {stride}"));
    writeln!(
        out,
        "  protocol         {}, {} windows of {ctx} tokens{stride}, {} tokens scored",
        protocol.name(),
        measured.windows,
        grouped(measured.tokens)
    )
}

fn write_tasks(out: &mut String, tasks: &[TaskEvaluation]) -> fmt::Result {
    let against = tasks.iter().any(|task| task.against_base.is_some());
    let mut columns = vec![("task", Left), ("items", Right), ("acc %", Right), ("acc_norm %", Right)];
    if against {
        columns.extend([("base acc %", Right), ("difference %", Right), ("p", Right), ("retained %", Right)]);
    }
    let mut table = Table::of(columns.into_iter().map(|(name, align)| (name.to_owned(), align)).collect());
    for TaskEvaluation { result, base_acc, against_base } in tasks {
        let norm = result.acc_norm.zip(result.acc_norm_se);
        let mut cells = vec![
            result.task.to_string(),
            result.items.to_string(),
            percent(result.acc, result.acc_se, 2),
            norm.map_or_else(String::new, |(acc, error)| percent(acc, error, 2)),
        ];
        if let (Some(base), Some(paired)) = (base_acc, against_base) {
            cells.extend([
                format!("{:.2}", 100.0 * base),
                percent(paired.difference, paired.difference_se, 2),
                p_value(paired.p_value),
                paired.retention.map_or_else(String::new, |share| format!("{:.2}", 100.0 * share)),
            ]);
        }
        table.row(cells);
    }
    write!(out, "{table}")?;
    let (acc, retention) = mean(tasks);
    let retained =
        retention.map_or_else(String::new, |share| format!(", {:.2} % of the base's", 100.0 * share));
    writeln!(out, "mean acc {:.2} %{retained}", 100.0 * acc)
}

fn write_base(out: &mut String, base: &AgainstBase) -> fmt::Result {
    writeln!(out, "against {}", base.base.display())?;
    writeln!(out, "  its perplexity   {}", with_error(base.base_perplexity, base.base_perplexity_se, 4))?;
    writeln!(out, "  PPL ratio        {}", with_error(base.ppl_ratio, base.ppl_ratio_se, 5))?;
    writeln!(out, "  PPL difference   {}", with_error(base.ppl_difference, base.ppl_difference_se, 5))?;
    writeln!(out, "  ln PPL ratio     {}", with_error(base.ln_ppl_ratio, base.ln_ppl_ratio_se, 5))?;
    if let Some(test) = base.test {
        let (p, t) = (p_value(test.p_value), test.t);
        writeln!(out, "  paired test      {} (p {p}, t {t:.2} over windows)", test.verdict)?;
    }
    writeln!(out, "  correlation      {:.2} %", 100.0 * base.correlation)?;
    writeln!(
        out,
        "  KL divergence    {}, largest {:.4}",
        with_error(base.kld, base.kld_se, 5),
        base.max_kld
    )?;
    writeln!(out, "  same top 1       {} %", percent(base.same_top1, base.same_top1_se, 2))?;
    writeln!(out, "  RMS delta p      {} %", percent(base.delta_p.rms, base.delta_p.rms_se, 3))?;
    writeln!(out, "  mean delta p     {} %\n", percent(base.delta_p.mean, base.delta_p.mean_se, 3))?;
    let mut table = Table::new([("percentile", Left), ("KL divergence", Right), ("delta p %", Right)]);
    let (kld, delta) = (&base.kld_quantiles, &base.delta_p.quantiles);
    let ends = |name: &str, kld: f64, delta: f64| {
        [name.to_owned(), format!("{kld:.6}"), format!("{:.3}", 100.0 * delta)]
    };
    table.row(ends("maximum", kld.max, delta.max));
    for (kld, delta) in kld.points.iter().zip(&delta.points).rev() {
        let Quantile { percent: at, value, se } = *kld;
        table.row([format!("{at} %"), with_error(value, se, 6), percent(delta.value, delta.se, 3)]);
    }
    table.row(ends("minimum", kld.min, delta.min));
    write!(out, "{table}")
}
