//! Quality against size (Figures 5 and 7).

use plotters::prelude::*;

use super::canvas::{axes, colour, document, failed, legend, line, range_of};
use crate::error::Result;

/// One way to quantize a model at one size.
#[derive(Clone, Debug, PartialEq)]
pub struct ParetoPoint {
    /// What made it; points of one name are joined.
    pub series: String,
    /// Size of the file in bytes.
    pub bytes: f64,
    /// What is lost, such as KL divergence in nats: lower is better.
    pub loss: f64,
    /// Half of the 95 % interval of `loss` over seeds; 0 for a single value.
    pub interval: f64,
}

/// Loss against size, one line for each series, with intervals.
///
/// # Errors
/// When a drawing fails.
pub fn pareto(points: &[ParetoPoint], heading: &str, loss: &str) -> Result<String> {
    let mut series: Vec<&str> = Vec::new();
    for point in points {
        if !series.contains(&point.series.as_str()) {
            series.push(&point.series);
        }
    }
    document((820, 480), |area| {
        let mb = |point: &ParetoPoint| point.bytes / 1e6;
        let x = range_of(points.iter().map(mb));
        let y = range_of(
            points.iter().flat_map(|point| [point.loss - point.interval, point.loss + point.interval]),
        );
        let mut chart = axes(area, heading, ["size of the file (MB)", loss], x, y)?;
        for (at, name) in series.iter().enumerate() {
            let mut own: Vec<&ParetoPoint> = points.iter().filter(|point| point.series == *name).collect();
            own.sort_by(|a, b| a.bytes.total_cmp(&b.bytes));
            let style = ShapeStyle::from(&colour(at)).stroke_width(2);
            line(&mut chart, own.iter().map(|point| (mb(point), Some(point.loss))), style)?;
            let dots = own.iter().map(|point| Circle::new((mb(point), point.loss), 4, colour(at).filled()));
            chart.draw_series(dots).map_err(failed)?;
            let bars = own.iter().filter(|point| point.interval > 0.0).map(|point| {
                let ends = [point.loss - point.interval, point.loss + point.interval];
                PathElement::new(ends.map(|end| (mb(point), end)), style)
            });
            chart.draw_series(bars).map_err(failed)?;
        }
        let entries: Vec<_> =
            series.iter().enumerate().map(|(at, name)| ((*name).to_owned(), colour(at))).collect();
        legend(&mut chart, &entries)
    })
}
