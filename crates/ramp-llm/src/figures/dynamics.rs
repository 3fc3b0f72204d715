//! How decisions changed from one episode to the next.

use plotters::prelude::*;
use ramp_search::TrainingLog;

use super::canvas::{INK, axes, colour, document, failed, text_style};
use crate::error::Result;

/// How often each layer's format changed (Figure 12).
pub(super) fn flips(log: &TrainingLog) -> Result<Option<String>> {
    if log.episodes.len() < 2 {
        return Ok(None);
    }
    let flips = log.flips();
    let top = flips.iter().copied().max().unwrap_or(0).max(1) as f64 * 1.1;
    document((960, 320), |area| {
        let heading = format!("{}: changes of format in {} episodes", log.model, log.episodes.len());
        let x = -0.5..flips.len() as f64 - 0.5;
        let mut chart = axes(area, &heading, ["layer", "changes"], x, 0.0..top)?;
        let bars = flips.iter().enumerate().map(|(x, &n)| {
            let x = x as f64;
            Rectangle::new([(x - 0.45, 0.0), (x + 0.45, n as f64)], colour(0).filled())
        });
        chart.draw_series(bars).map_err(failed)?;
        Ok(())
    })
    .map(Some)
}

/// How probable each format is after each (Figure 13).
pub(super) fn transitions(log: &TrainingLog) -> Result<Option<String>> {
    if log.episodes.len() < 2 {
        return Ok(None);
    }
    let transitions = log.transitions();
    let n = transitions.formats.len();
    document((520, 480), |area| {
        let heading = format!("{}: format after format", log.model);
        let mut chart = ChartBuilder::on(area)
            .caption(heading, text_style(15))
            .margin(10)
            .x_label_area_size(38)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..n as f64, 0.0..n as f64)
            .map_err(failed)?;
        for from in 0..n {
            for to in 0..n {
                let probability = transitions.probabilities[from][to];
                // The first format from above, as a matrix is read.
                let (x, y) = (to as f64, (n - 1 - from) as f64);
                let tile = Rectangle::new([(x, y), (x + 1.0, y + 1.0)], colour(0).mix(probability).filled());
                chart.draw_series(std::iter::once(tile)).map_err(failed)?;
                let ink = if probability > 0.6 { WHITE } else { INK };
                let style = text_style(12).color(&ink);
                let label = Text::new(format!("{probability:.2}"), (x + 0.35, y + 0.55), style);
                chart.draw_series(std::iter::once(label)).map_err(failed)?;
            }
        }
        for (at, format) in transitions.formats.iter().enumerate() {
            let row = chart.backend_coord(&(0.0, (n - 1 - at) as f64 + 0.55));
            let column = chart.backend_coord(&(at as f64 + 0.3, 0.0));
            area.draw(&Text::new(format.clone(), (row.0 - 60, row.1), text_style(12))).map_err(failed)?;
            area.draw(&Text::new(format.clone(), (column.0, column.1 + 8), text_style(12)))
                .map_err(failed)?;
        }
        let below = chart.backend_coord(&(0.5 * n as f64, 0.0));
        area.draw(&Text::new("to (rows: from)", (below.0 - 40, below.1 + 26), text_style(12))).map_err(failed)
    })
    .map(Some)
}
