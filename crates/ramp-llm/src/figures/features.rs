//! Where layers of each format lie in the space of features.

use plotters::prelude::*;
use ramp_search::TrainingLog;

use super::{
    allocation::{format_colour, formats},
    canvas::{axes, document, failed, legend, range_of},
};
use crate::error::Result;

/// The first two principal components of the static features, in the colour of the format (Figure 15).
pub(super) fn components(log: &TrainingLog) -> Result<Option<String>> {
    let (components, found) = (log.principal_components(2), log.last_choices());
    let ([first, second], false) = (components.as_slice(), found.is_empty()) else { return Ok(None) };
    document((640, 520), |area| {
        let name =
            |which: &str, share: f64| format!("{which} component ({:.0} % of the variance)", 100.0 * share);
        let (x, y) = (name("first", first.share), name("second", second.share));
        let heading = format!("{}: features of {} layers", log.model, log.slots.len());
        let ranges = (range_of(first.scores.iter().copied()), range_of(second.scores.iter().copied()));
        let mut chart = axes(area, &heading, [&x, &y], ranges.0, ranges.1)?;
        let dots = log.slots.iter().enumerate().map(|(at, slot)| {
            let point = (first.scores[at], second.scores[at]);
            Circle::new(point, 4, format_colour(log, slot, found[at]).filled())
        });
        chart.draw_series(dots).map_err(failed)?;
        legend(&mut chart, &formats(log))
    })
    .map(Some)
}
