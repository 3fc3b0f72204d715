//! What all figures share: size, colours, axes.

use std::ops::Range;

use plotters::{coord::Shift, coord::types::RangedCoordf64, prelude::*};

use crate::error::{Error, Result};

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Colours that people with any colour vision can tell apart (Okabe and Ito), from cold to warm.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(240, 228, 66),
    RGBColor(230, 159, 0),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
];
pub(super) const INK: RGBColor = RGBColor(40, 40, 40);
const FONT: &str = "sans-serif";

/// The colour of the `index`th of several things.
pub(super) const fn colour(index: usize) -> RGBColor {
    PALETTE[index % PALETTE.len()]
}

/// A text of the figures' font.
pub(super) fn text_style(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK)
}

/// Draws one document of a size in pixels.
pub(super) fn document(size: (u32, u32), paint: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        paint(&area)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

/// Whatever the drawing library says.
pub(super) fn failed(why: impl std::fmt::Display) -> Error {
    Error::Figure { why: why.to_string() }
}

/// Axes with a heading and the names of both.
pub(super) fn axes<'a, 'b>(
    area: &Area<'b>,
    heading: &str,
    [x, y]: [&str; 2],
    x_range: Range<f64>,
    y_range: Range<f64>,
) -> Result<Chart<'a, 'b>> {
    let mut chart = ChartBuilder::on(area)
        .caption(heading, text_style(15))
        .margin(10)
        .x_label_area_size(38)
        .y_label_area_size(58)
        .build_cartesian_2d(x_range, y_range)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.12))
        .axis_style(INK.mix(0.6))
        .label_style(text_style(11))
        .axis_desc_style(text_style(12))
        .x_desc(x)
        .y_desc(y)
        .x_labels(8)
        .y_labels(6)
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .draw()
        .map_err(failed)?;
    Ok(chart)
}

/// Without trailing zeros.
pub(super) fn number(value: f64) -> String {
    let text =
        if value != 0.0 && value.abs() < 0.001 { format!("{value:.1e}") } else { format!("{value:.4}") };
    match text.split_once('.') {
        Some(_) if !text.contains('e') => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        _ => text,
    }
}

/// The least range that holds all finite values, a little wider; around a constant, a range as well.
pub(super) fn range_of(values: impl IntoIterator<Item = f64>) -> Range<f64> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    let (low, high) =
        finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    if low > high {
        return 0.0..1.0;
    }
    let room = if high > low { 0.05 * (high - low) } else { 0.05 * high.abs().max(1.0) };
    low - room..high + room
}

/// A line through points, broken where a value is missing.
pub(super) fn line(
    chart: &mut Chart<'_, '_>,
    points: impl IntoIterator<Item = (f64, Option<f64>)>,
    style: ShapeStyle,
) -> Result<()> {
    let mut stretch: Vec<(f64, f64)> = Vec::new();
    let mut stretches = Vec::new();
    for (x, y) in points {
        match y.filter(|y| y.is_finite()) {
            Some(y) => stretch.push((x, y)),
            None => stretches.push(std::mem::take(&mut stretch)),
        }
    }
    stretches.push(stretch);
    for stretch in stretches.into_iter().filter(|stretch| !stretch.is_empty()) {
        chart.draw_series(std::iter::once(PathElement::new(stretch, style))).map_err(failed)?;
    }
    Ok(())
}

/// A legend, one entry for each name, top right in the chart.
pub(super) fn legend<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>, entries: &[(String, RGBColor)]) -> Result<()> {
    for (name, colour) in entries {
        let colour = *colour;
        chart
            .draw_series(std::iter::empty::<PathElement<(f64, f64)>>())
            .map_err(failed)?
            .label(name.clone())
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(INK.mix(0.3))
        .label_font(text_style(11))
        .draw()
        .map_err(failed)
}
