//! Which layer got which format.

use plotters::prelude::*;
use ramp_search::{LoggedSlot, TrainingLog, smoothed};

use super::canvas::{Area, INK, axes, colour, document, failed, legend, line, range_of, text_style};
use crate::error::Result;

/// Layers at each end of the model.
const ENDS: usize = 10;
/// Layers that the smoothed trend averages over: two blocks of a Llama.
const WINDOW: usize = 14;

/// Bars of every layer, in the colour of its format (Figures 6 and 8).
pub(super) fn by_layer(log: &TrainingLog) -> Result<Option<String>> {
    let Some(found) = found(log) else { return Ok(None) };
    document((960, 340), |area| {
        let heading = format!("{}: formats of {} layers, {}", log.model, found.len(), log.budget);
        bars(log, area, &heading, &(0..found.len()).collect::<Vec<_>>(), found)
    })
    .map(Some)
}

/// The first and the last ten layers (Figure 9).
pub(super) fn ends(log: &TrainingLog) -> Result<Option<String>> {
    let Some(found) = found(log) else { return Ok(None) };
    let (first, last) = log.first_and_last(ENDS);
    document((960, 340), |area| {
        let (left, right) = area.split_horizontally(480);
        for (area, slots, which) in [(left, first, "first"), (right, last, "last")] {
            bars(log, &area, &format!("{}: {which} {} layers", log.model, slots.len()), &slots, found)?;
        }
        Ok(())
    })
    .map(Some)
}

fn bars(log: &TrainingLog, area: &Area<'_>, heading: &str, slots: &[usize], found: &[usize]) -> Result<()> {
    let bits = log.bits(found);
    let top = log.slots.iter().flat_map(|slot| &slot.choices).map(|choice| choice.bits).fold(0.0, f64::max);
    let mut chart = axes(area, heading, ["layer", "bits"], -0.5..slots.len() as f64 - 0.5, 0.0..top * 1.25)?;
    let bar = slots.iter().enumerate().map(|(x, &slot)| {
        let (left, right) = (x as f64 - 0.45, x as f64 + 0.45);
        Rectangle::new(
            [(left, 0.0), (right, bits[slot])],
            format_colour(log, &log.slots[slot], found[slot]).filled(),
        )
    });
    chart.draw_series(bar).map_err(failed)?;
    legend(&mut chart, &formats(log))
}

/// Bits against relative depth, a point for each layer (Figure 10).
pub(super) fn by_depth(log: &TrainingLog) -> Result<Option<String>> {
    let Some(found) = found(log) else { return Ok(None) };
    let points = depth_and_bits(log, found);
    document((760, 360), |area| {
        let y = range_of(points.iter().map(|(_, bits, _)| *bits));
        let heading = format!("{}: bits by depth", log.model);
        let mut chart = axes(area, &heading, ["block / (blocks - 1)", "bits"], -0.03..1.03, y)?;
        let roles = roles(log);
        // Roles of a block would cover each other.
        let shift = |role: usize| (role as f64 - 0.5 * roles.len() as f64) * 0.008;
        let dots = points.iter().map(|(depth, bits, slot)| {
            let role = roles.iter().position(|role| *role == slot.role).unwrap_or(0);
            Circle::new((depth + shift(role), *bits), 3, colour(role).filled())
        });
        chart.draw_series(dots).map_err(failed)?;
        let entries: Vec<_> =
            roles.iter().enumerate().map(|(at, role)| ((*role).to_owned(), colour(at))).collect();
        legend(&mut chart, &entries)
    })
    .map(Some)
}

/// The trend of bits over depth (Figure 11).
pub(super) fn smoothed_by_depth(log: &TrainingLog) -> Result<Option<String>> {
    let Some(found) = found(log) else { return Ok(None) };
    let points = depth_and_bits(log, found);
    if points.is_empty() {
        return Ok(None);
    }
    let bits: Vec<f64> = points.iter().map(|(_, bits, _)| *bits).collect();
    document((760, 320), |area| {
        let heading = format!("{}: bits by depth, mean of {WINDOW} layers", log.model);
        let y = range_of(bits.iter().copied());
        let mut chart = axes(area, &heading, ["block / (blocks - 1)", "bits"], -0.03..1.03, y)?;
        let depths: Vec<f64> = points.iter().map(|(depth, ..)| *depth).collect();
        let blocks = log.mean_bits_by_block(found);
        let last = blocks.len().saturating_sub(1).max(1) as f64;
        let means = blocks.iter().enumerate().map(|(block, bits)| (block as f64 / last, *bits));
        chart.draw_series(means.map(|at| Circle::new(at, 3, colour(1).filled()))).map_err(failed)?;
        let trend = smoothed(&bits, WINDOW).into_iter().map(Some);
        line(&mut chart, depths.into_iter().zip(trend), ShapeStyle::from(&colour(0)).stroke_width(2))
    })
    .map(Some)
}

/// Mean bits of each role (Figure 14).
pub(super) fn by_role(log: &TrainingLog) -> Result<Option<String>> {
    let Some(found) = found(log) else { return Ok(None) };
    let roles = log.mean_bits_by_role(found);
    document((760, 340), |area| {
        let top = roles.iter().map(|role| role.mean_bits).fold(0.0, f64::max) * 1.2;
        let heading = format!("{}: mean bits of each role", log.model);
        let mut chart = ChartBuilder::on(area)
            .caption(heading, text_style(15))
            .margin(10)
            .x_label_area_size(38)
            .y_label_area_size(58)
            .build_cartesian_2d(-0.5..roles.len() as f64 - 0.5, 0.0..top)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(INK.mix(0.12))
            .label_style(text_style(11))
            .axis_desc_style(text_style(12))
            .y_desc("mean bits")
            .draw()
            .map_err(failed)?;
        for (at, role) in roles.iter().enumerate() {
            let x = at as f64;
            let bar =
                Rectangle::new([(x - 0.4, 0.0), (x + 0.4, role.mean_bits)], colour(1).mix(0.7).filled());
            chart.draw_series(std::iter::once(bar)).map_err(failed)?;
            let label = |text: String, y: f64| Text::new(text, (x - 0.38, y), text_style(11));
            let above = label(format!("{:.2}", role.mean_bits), role.mean_bits + 0.06 * top);
            let name = label(role.role.clone(), 0.06 * top);
            chart.draw_series([above, name]).map_err(failed)?;
        }
        Ok(())
    })
    .map(Some)
}

fn found(log: &TrainingLog) -> Option<&[usize]> {
    let found = log.last_choices();
    (!found.is_empty()).then_some(found)
}

/// Relative depth, bits and slot of every layer in a block.
fn depth_and_bits<'a>(log: &'a TrainingLog, found: &[usize]) -> Vec<(f64, f64, &'a LoggedSlot)> {
    let last = log.slots.iter().filter_map(|slot| slot.block).max().unwrap_or(0).max(1) as f64;
    let slots = log.slots.iter().zip(log.bits(found));
    slots.filter_map(|(slot, bits)| slot.block.map(|block| (block as f64 / last, bits, slot))).collect()
}

/// Roles of the blocks, in the order in which they come.
fn roles(log: &TrainingLog) -> Vec<&str> {
    let mut roles: Vec<&str> = Vec::new();
    for slot in log.slots.iter().filter(|slot| slot.block.is_some()) {
        if !roles.contains(&slot.role.as_str()) {
            roles.push(&slot.role);
        }
    }
    roles
}

/// A format's colour is that of its place among all formats of the log.
pub(super) fn format_colour(log: &TrainingLog, slot: &LoggedSlot, choice: usize) -> RGBColor {
    let format = &slot.choices[choice].format;
    colour(log.formats.iter().position(|known| known == format).unwrap_or(0))
}

/// Legend of the formats.
pub(super) fn formats(log: &TrainingLog) -> Vec<(String, RGBColor)> {
    log.formats.iter().enumerate().map(|(at, format)| (format.clone(), colour(at))).collect()
}
