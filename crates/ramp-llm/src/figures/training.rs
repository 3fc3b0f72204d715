//! How an agent learnt: perplexity, bits, reward, what it found so far, its own losses.

use plotters::prelude::*;
use ramp_search::{EpisodeRecord, TrainingLog, smoothed};

use super::canvas::{INK, axes, colour, document, failed, line, range_of};
use crate::error::Result;

/// Episodes that a smoothed line averages over.
const WINDOW: usize = 11;

/// What is drawn over the episodes.
struct Panel<'a> {
    heading: &'a str,
    unit: &'a str,
    value: fn(&EpisodeRecord) -> Option<f64>,
    /// A level to compare with, and what it is.
    level: Option<(f64, &'a str)>,
}

/// Perplexity, mean bits and reward of every episode (Figure 3).
pub(super) fn dynamics(log: &TrainingLog) -> Result<Option<String>> {
    let panels = [
        Panel {
            heading: "Perplexity",
            unit: "perplexity",
            value: |episode| episode.perplexity,
            level: Some((log.base_perplexity, "unquantized")),
        },
        Panel { heading: "Bits", unit: "mean bits", value: |episode| Some(episode.mean_bits), level: None },
        Panel { heading: "Reward", unit: "reward", value: |episode| Some(episode.reward), level: None },
    ];
    stacked(log, &panels)
}

/// Temperature, losses and entropy; not in the paper.
pub(super) fn learning(log: &TrainingLog) -> Result<Option<String>> {
    if log.episodes.iter().all(|episode| episode.learning.is_none()) {
        return Ok(None);
    }
    let panels = [
        Panel { heading: "Temperature", unit: "alpha", value: |episode| Some(episode.alpha), level: None },
        Panel {
            heading: "Actor",
            unit: "loss",
            value: |episode| episode.learning.map(|learning| learning.actor_loss),
            level: None,
        },
        Panel {
            heading: "Critics",
            unit: "loss",
            value: |episode| episode.learning.map(|learning| learning.critic_loss),
            level: None,
        },
        Panel {
            heading: "Entropy",
            unit: "nats",
            value: |episode| episode.learning.map(|learning| learning.entropy),
            level: None,
        },
    ];
    stacked(log, &panels)
}

fn stacked(log: &TrainingLog, panels: &[Panel<'_>]) -> Result<Option<String>> {
    if log.episodes.is_empty() {
        return Ok(None);
    }
    let height = 220 * panels.len() as u32;
    document((760, height), |area| {
        for (panel, area) in panels.iter().zip(area.split_evenly((panels.len(), 1))) {
            let values: Vec<Option<f64>> = log.episodes.iter().map(panel.value).collect();
            let level = panel.level.map(|(level, _)| level);
            let y = range_of(values.iter().flatten().copied().chain(level));
            let heading = match panel.level {
                Some((level, name)) => format!("{} ({name}: {level:.3})", panel.heading),
                None => panel.heading.to_owned(),
            };
            let x = range_of(episodes(log));
            let mut chart = axes(&area, &heading, ["episode", panel.unit], x.clone(), y)?;
            if let Some(level) = level {
                let dashes = vec![(x.start, level), (x.end, level)];
                let style = ShapeStyle::from(&INK.mix(0.6)).stroke_width(1);
                chart.draw_series(std::iter::once(PathElement::new(dashes, style))).map_err(failed)?;
            }
            let points = episodes(log).zip(&values).filter_map(|(x, y)| y.map(|y| (x, y)));
            let dots = points.clone().map(|point| Circle::new(point, 2, colour(1).mix(0.6).filled()));
            chart.draw_series(dots).map_err(failed)?;
            let (x, y): (Vec<f64>, Vec<f64>) = points.unzip();
            let mean = smoothed(&y, WINDOW);
            line(
                &mut chart,
                x.into_iter().zip(mean.into_iter().map(Some)),
                ShapeStyle::from(&colour(0)).stroke_width(2),
            )?;
        }
        Ok(())
    })
    .map(Some)
}

/// The least perplexity so far within the budget (Figure 4).
pub(super) fn best(log: &TrainingLog) -> Result<Option<String>> {
    let best: Vec<Option<f64>> = log.episodes.iter().map(|episode| episode.best_perplexity).collect();
    if best.iter().all(Option::is_none) {
        return Ok(None);
    }
    document((760, 320), |area| {
        let levels = [log.base_perplexity, log.uniform_perplexity];
        let y = range_of(best.iter().flatten().copied().chain(levels));
        let x = range_of(episodes(log));
        let heading = format!(
            "Best so far (unquantized: {:.3}, uniform: {:.3})",
            log.base_perplexity, log.uniform_perplexity
        );
        let mut chart = axes(area, &heading, ["episode", "perplexity"], x.clone(), y)?;
        for level in levels {
            let level = vec![(x.start, level), (x.end, level)];
            chart.draw_series(std::iter::once(PathElement::new(level, INK.mix(0.6)))).map_err(failed)?;
        }
        line(&mut chart, episodes(log).zip(best), ShapeStyle::from(&colour(5)).stroke_width(2))
    })
    .map(Some)
}

fn episodes(log: &TrainingLog) -> impl Iterator<Item = f64> + Clone + '_ {
    log.episodes.iter().map(|episode| episode.episode as f64)
}
