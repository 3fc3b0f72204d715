//! `cargo xtask bench pendulum`: does the agent learn, as fast and as well as others do?
//!
//! Runs `crates/ramp-sac/examples/pendulum.rs`, prints the learning curves, draws them if asked to, and fails if the
//! returns at the end are not those of a right SAC.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::{process, workspace::Workspace};

/// What the seeds' median must reach. The optimum is -138.9; a mean over 50 starts has a standard error of about 11.
const MEDIAN: f64 = -170.0;
/// What every seed must reach.
const EVERY: f64 = -200.0;
/// Mean return of the best policy, from dynamic programming on a fine grid.
const OPTIMUM: f64 = -138.9;

/// Options of `cargo xtask bench pendulum`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Steps of experience, one gradient update for each.
    #[arg(long, default_value_t = 10_000)]
    steps: usize,
    /// Fixed starts of an evaluation.
    #[arg(long, default_value_t = 50)]
    starts: usize,
    /// Seeds.
    #[arg(long, default_values_t = [0, 1, 2])]
    seeds: Vec<u64>,
    /// Draws the learning curves into this SVG file.
    #[arg(long)]
    svg: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Point {
    seed: u64,
    steps: usize,
    #[serde(rename = "return")]
    mean_return: f64,
    alpha: f64,
    seconds: f64,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    process::run(&mut workspace.cargo(&["build", "--workspace", "--example", "pendulum"]))?;
    let program = workspace.metadata()?.target_directory.join("debug/examples/pendulum");
    let numbers = [args.steps as u64, args.starts as u64].into_iter().chain(args.seeds.iter().copied());
    let text = process::stdout(Command::new(program).args(numbers.map(|number| number.to_string())))?;
    let points: Vec<Point> = text
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("the program printed {line:?}")))
        .collect::<Result<_>>()?;

    println!("{:>5} {:>7} {:>9} {:>8} {:>8}", "seed", "steps", "return", "alpha", "seconds");
    for Point { seed, steps, mean_return, alpha, seconds } in &points {
        println!("{seed:>5} {steps:>7} {mean_return:>9.1} {alpha:>8.4} {seconds:>8.1}");
    }
    if let Some(path) = &args.svg {
        fs::write(path, draw(&points)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let last = points.iter().map(|point| point.steps).max().unwrap_or(0);
    let mut ends: Vec<f64> =
        points.iter().filter(|point| point.steps == last).map(|point| point.mean_return).collect();
    ends.sort_by(f64::total_cmp);
    ensure!(ends.len() == args.seeds.len() && !ends.is_empty(), "not every seed came to its end");
    let (median, worst) = (ends[ends.len() / 2], ends[0]);
    println!("at {last} steps: median {median:.1}, worst {worst:.1}, optimum {OPTIMUM}");
    ensure!(median >= MEDIAN, "the median return {median:.1} is below {MEDIAN}");
    ensure!(worst >= EVERY, "the return {worst:.1} of a seed is below {EVERY}");
    Ok(())
}

/// Returns over steps, a line for each seed.
fn draw(points: &[Point]) -> String {
    const COLOURS: [&str; 6] = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"];
    let (left, top, width, height) = (60.0, 20.0, 520.0, 300.0);
    let last = points.iter().map(|point| point.steps).max().unwrap_or(1) as f64;
    let lowest = points.iter().map(|point| point.mean_return).fold(-200.0, f64::min);
    let floor = (lowest / 200.0).floor() * 200.0;
    let x = |steps: f64| left + width * steps / last;
    let y = |value: f64| top + height * value / floor;
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"620\" height=\"370\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"620\" height=\"370\" fill=\"white\"/>\n",
    );
    let mut push = |line: String| {
        svg.push_str(&line);
        svg.push('\n');
    };
    for step in 0..=(floor / -200.0) as usize {
        let (value, at) = (-200 * step as i64, y(-200.0 * step as f64));
        push(format!("<path d=\"M{left} {at:.1}h{width}\" stroke=\"#ddd\"/>"));
        push(format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>", left - 6.0, at + 4.0));
    }
    for quarter in 0..=4 {
        let steps = last * f64::from(quarter) / 4.0;
        let at = x(steps);
        push(format!("<text x=\"{at:.1}\" y=\"338\" text-anchor=\"middle\">{steps:.0}</text>"));
    }
    push("<text x=\"320\" y=\"358\" text-anchor=\"middle\">steps</text>".to_owned());
    let at = y(OPTIMUM);
    push(format!("<path d=\"M{left} {at:.1}h{width}\" stroke=\"#555\" stroke-dasharray=\"5 4\"/>"));
    push(format!(
        "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">optimum {OPTIMUM}</text>",
        left + width,
        at - 5.0
    ));
    let mut seeds: Vec<u64> = points.iter().map(|point| point.seed).collect();
    seeds.dedup();
    for (index, seed) in seeds.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let places: Vec<String> = points
            .iter()
            .filter(|point| point.seed == *seed)
            .map(|point| format!("{:.1},{:.1}", x(point.steps as f64), y(point.mean_return)))
            .collect();
        push(format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            places.join(" ")
        ));
        let at = top + height - 12.0 - 16.0 * index as f64;
        push(format!(
            "<text x=\"{}\" y=\"{at:.1}\" fill=\"{colour}\" text-anchor=\"end\">seed {seed}</text>",
            left + width
        ));
    }
    svg.push_str("</svg>\n");
    svg
}
