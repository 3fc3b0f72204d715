//! What `ramp quantize` prints at its end.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use ramp::{
    model::{LayerId, Role},
    pipeline::{LayerReport, Quality, Report},
    quant::{Budget, LearnedBlock},
};

use super::{
    size::{grouped, human},
    table::{
        Align::{Left, Right},
        Table,
    },
};

const THIRDS: [&str; 3] = ["early", "middle", "late"];

/// The whole summary.
pub(crate) fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut out, report);
    out
}

fn write(out: &mut String, report: &Report) -> fmt::Result {
    let Report { file_bytes, bits_per_weight, mean_bits, budget, seed, .. } = report;
    let bytes = format!("{} bytes ({})", grouped(*file_bytes), human(*file_bytes));
    writeln!(out, "{}: {bytes}", report.output.display())?;
    writeln!(out, "  {bits_per_weight:.4} bits per weight, {mean_bits:.3} mean bits")?;
    writeln!(out, "  budget {budget}, {:.2} % used", 100.0 * budget_use(report))?;
    let folded = if report.folded { "scales folded" } else { "not folded" };
    let tokens = grouped(report.tokens_forwarded as u64);
    writeln!(
        out,
        "  allocator {} ({}), seed {seed}, {folded}, rounding {}, {tokens} tokens forwarded",
        report.allocator,
        report.origin,
        report.rounding.name()
    )?;
    if !report.learned.is_empty() {
        let sum = |error: fn(&LearnedBlock) -> f64| report.learned.iter().map(error).sum::<f64>();
        let (before, after) = (sum(|block| block.before), sum(|block| block.after));
        let less = 100.0 * (1.0 - after / before.max(f64::MIN_POSITIVE));
        writeln!(out, "  learned rounding: squared error of the blocks' outputs {less:.1} % less")?;
    }
    writeln!(out, "\n{}", allocation(&report.layers))?;
    writeln!(out, "{}", candidates(report))?;
    writeln!(out, "{}", quality(report))?;
    let seconds: Vec<String> = report.seconds.iter().map(|(step, s)| format!("{step} {s:.1}")).collect();
    let total: f64 = report.seconds.iter().map(|(_, seconds)| seconds).sum();
    writeln!(out, "seconds: {total:.1} ({})", seconds.join(", "))?;
    report.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
}

/// Share of the budget that the file uses, in the budget's own unit.
fn budget_use(report: &Report) -> f64 {
    match report.budget {
        Budget::Bytes(bytes) => report.file_bytes as f64 / bytes as f64,
        Budget::BitsPerWeight(bits) => report.bits_per_weight / bits,
        Budget::MeanBits(bits) => report.mean_bits / bits,
    }
}

/// Formats by role and depth.
fn allocation(layers: &[LayerReport]) -> Table {
    let n_blocks = layers.iter().filter_map(|layer| layer.name.block()).max().map_or(0, |last| last + 1);
    let mut table =
        Table::new([("allocation", Left), (THIRDS[0], Left), (THIRDS[1], Left), (THIRDS[2], Left)]);
    let alone = |id: LayerId| layers.iter().find(|layer| layer.name == id);
    if let Some(layer) = alone(LayerId::TokenEmbd) {
        table.row(["token_embd".into(), layer.format.to_string()]);
    }
    let has = |role: Role| layers.iter().any(|layer| layer.name.role() == Some(role));
    for role in Role::ALL.into_iter().filter(|role| has(*role)) {
        let third = |third: usize| {
            formats(layers.iter().filter(|layer| match layer.name {
                LayerId::Block { block, role: found } => {
                    found == role && block * THIRDS.len() / n_blocks == third
                }
                _ => false,
            }))
        };
        table.row([role.gguf_name().into(), third(0), third(1), third(2)]);
    }
    if let Some(layer) = alone(LayerId::Output) {
        table.row(["output".into(), String::new(), String::new(), layer.format.to_string()]);
    }
    table
}

/// `3 Q4_K, 1 Q5_K`: the most frequent first, the smaller first among equals.
fn formats<'a>(layers: impl Iterator<Item = &'a LayerReport>) -> String {
    let mut counts = BTreeMap::new();
    for layer in layers {
        *counts.entry(layer.format).or_insert(0_usize) += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|(a, n), (b, m)| m.cmp(n).then(a.bits_per_weight().total_cmp(&b.bits_per_weight())));
    let counts: Vec<String> = counts.into_iter().map(|(format, n)| format!("{n} {format}")).collect();
    counts.join(", ")
}

fn candidates(report: &Report) -> Table {
    let mut table = Table::new([
        ("on the search windows", Left),
        ("bytes", Right),
        ("bpw", Right),
        ("KL divergence", Right),
        ("perplexity", Right),
    ]);
    for candidate in &report.candidates {
        let score = candidate.score;
        table.row([
            candidate.allocator.clone(),
            grouped(candidate.file_bytes),
            format!("{:.4}", candidate.bits_per_weight),
            with_error(score.kld, score.kld_se, 5),
            format!("{:.4}", score.perplexity),
        ]);
    }
    table
}

fn quality(report: &Report) -> Table {
    let mut table = Table::new([
        ("on held-out text", Left),
        ("perplexity", Right),
        ("KL divergence", Right),
        ("same top 1", Right),
    ]);
    let base = with_error(report.base_perplexity, report.base_perplexity_se, 4);
    table.row(["unquantized".into(), base]);
    let mut row = |name: &str, quality: &Quality| {
        table.row([
            name.into(),
            with_error(quality.perplexity, quality.perplexity_se, 4),
            with_error(quality.kld, quality.kld_se, 5),
            format!("{:.2} %", 100.0 * quality.same_top1),
        ]);
    };
    row("this file", &report.after);
    row("uniform, same budget", &report.uniform);
    table
}

/// A number with its standard error.
pub(crate) fn with_error(value: f64, error: f64, decimals: usize) -> String {
    format!("{value:.decimals$} +- {error:.decimals$}")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use ramp::{
        gguf::GgmlType::{self, Q3_K, Q4_K, Q5_K, Q6_K},
        pipeline::Candidate,
        quant::{Format, Rounding},
        search::{Score, reward::RewardText},
    };

    use super::*;

    fn layer(name: LayerId, ty: GgmlType) -> LayerReport {
        LayerReport { name, shape: [256, 256], format: Format::Ggml(ty), bytes: 1 }
    }

    fn report() -> Report {
        let quality = Quality {
            perplexity: 33.5,
            perplexity_se: 0.25,
            kld: 0.0123,
            kld_se: 0.0004,
            same_top1: 0.925,
            tokens: 4088,
        };
        let mut layers = vec![layer(LayerId::TokenEmbd, Q3_K)];
        for block in 0..4 {
            for role in Role::ALL.into_iter().filter(|role| *role != Role::Qkv) {
                let ty = if role == Role::V && block == 1 { Q5_K } else { Q4_K };
                layers.push(layer(LayerId::Block { block, role }, ty));
            }
        }
        layers.push(layer(LayerId::Output, Q6_K));
        Report {
            version: "0.1.0",
            model: PathBuf::from("nano"),
            output: PathBuf::from("nano.gguf"),
            budget: Budget::Bytes(2_000_000),
            file_bytes: 1_990_000,
            bits_per_weight: 4.25,
            mean_bits: 4.0,
            allocator: "sac".into(),
            origin: "episode 12".into(),
            seed: 7,
            folded: true,
            rounding: Rounding::Nearest,
            learned: Vec::new(),
            reward_text: RewardText::sound(),
            layers,
            candidates: vec![Candidate {
                allocator: "uniform".into(),
                file_bytes: 1_980_000,
                bits_per_weight: 4.2,
                score: Score { kld: 0.02, kld_se: 0.001, perplexity: 31.25, tokens: 512 },
            }],
            after: quality,
            uniform: Quality { perplexity: 34.75, ..quality },
            base_perplexity: 32.0,
            base_perplexity_se: 0.5,
            tokens_forwarded: 123_456,
            curve: Vec::new(),
            warnings: vec!["a sliding window".into()],
            seconds: vec![("load".into(), 0.25), ("search".into(), 1.5)],
        }
    }

    #[test]
    fn everything_is_in_the_summary() {
        let expected = "\
nano.gguf: 1,990,000 bytes (1.99 MB)
  4.2500 bits per weight, 4.000 mean bits
  budget 2000000 bytes, 99.50 % used
  allocator sac (episode 12), seed 7, scales folded, rounding nearest, 123,456 tokens forwarded

allocation   early           middle  late
token_embd   Q3_K
attn_q       2 Q4_K          1 Q4_K  1 Q4_K
attn_k       2 Q4_K          1 Q4_K  1 Q4_K
attn_v       1 Q4_K, 1 Q5_K  1 Q4_K  1 Q4_K
attn_output  2 Q4_K          1 Q4_K  1 Q4_K
ffn_gate     2 Q4_K          1 Q4_K  1 Q4_K
ffn_up       2 Q4_K          1 Q4_K  1 Q4_K
ffn_down     2 Q4_K          1 Q4_K  1 Q4_K
output                               Q6_K

on the search windows      bytes     bpw       KL divergence  perplexity
uniform                1,980,000  4.2000  0.02000 +- 0.00100     31.2500

on held-out text             perplexity       KL divergence  same top 1
unquantized           32.0000 +- 0.5000
this file             33.5000 +- 0.2500  0.01230 +- 0.00040     92.50 %
uniform, same budget  34.7500 +- 0.2500  0.01230 +- 0.00040     92.50 %

seconds: 1.8 (load 0.2, search 1.5)
warning: a sliding window
";
        assert_eq!(render(&report()), expected);
    }

    #[test]
    fn the_budget_is_used_in_its_own_unit() {
        let used = |budget| budget_use(&Report { budget, ..report() });
        assert_eq!(used(Budget::Bytes(3_980_000)), 0.5);
        assert_eq!(used(Budget::BitsPerWeight(8.5)), 0.5);
        assert_eq!(used(Budget::MeanBits(4.0)), 1.0);
    }
}
