//! The paper's figures, as SVG, from the log of a training run.
//!
//! `# Source`: arXiv 2603.17891, Figures 3 to 15. Nothing is measured here: everything drawn is in a [`TrainingLog`] or
//! in a list of [`ParetoPoint`]s.

mod allocation;
mod canvas;
mod dynamics;
mod features;
mod pareto;
#[cfg(test)]
mod tests;
mod training;

use ramp_search::TrainingLog;

pub use pareto::{ParetoPoint, pareto};

use crate::error::Result;

/// A drawing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// File name without ending, such as `training`.
    pub name: &'static str,
    /// The paper's figures that it stands for, such as `Figures 6 and 8`.
    pub paper: &'static str,
    /// One standalone SVG document.
    pub svg: String,
}

/// Draws everything that a log has data for: a log without episodes has no training curves, one without features no
/// principal components.
///
/// # Errors
/// When a drawing fails.
pub fn draw(log: &TrainingLog) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut add =
        |name, paper, svg: Option<String>| figures.extend(svg.map(|svg| Figure { name, paper, svg }));
    add("training", "Figure 3", training::dynamics(log)?);
    add("best", "Figure 4", training::best(log)?);
    add("learning", "", training::learning(log)?);
    add("allocation", "Figures 6 and 8", allocation::by_layer(log)?);
    add("ends", "Figure 9", allocation::ends(log)?);
    add("depth", "Figure 10", allocation::by_depth(log)?);
    add("depth-smoothed", "Figure 11", allocation::smoothed_by_depth(log)?);
    add("flips", "Figure 12", dynamics::flips(log)?);
    add("transitions", "Figure 13", dynamics::transitions(log)?);
    add("roles", "Figure 14", allocation::by_role(log)?);
    add("components", "Figure 15", features::components(log)?);
    Ok(figures)
}
