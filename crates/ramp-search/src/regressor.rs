//! Sensitivities predicted from features: a ridge regression learnt from measured models, and a knapsack on top.
//!
//! Every measured layer is a label, where an episode is one number for a whole allocation. Predictions need no forward
//! pass beyond the calibration. The overall level of a model's sensitivities is left out: it does not change what a
//! knapsack chooses.

#[cfg(test)]
mod tests;

use ramp_embed::{WideScaler, WideTable};
use ramp_sac::NamedTensor;

use crate::{
    error::{Error, Result},
    problem::Problem,
    sensitivity::Sensitivity,
    wide_walk::{SIZES, choice_of},
};

/// Strengths of the ridge that cross-validation chooses from.
const RIDGES: [f64; 9] = [0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];
/// A divergence that counts as none, in nats; keeps logarithms finite.
const NEGLIGIBLE: f64 = 1e-12;
/// The name that errors of formats begin with in a wide table.
const ERROR: &str = "ln_error_";
/// Features made from the depth: its square around the middle, the first and the last block.
const DERIVED: [&str; 3] = ["depth_squared", "is_first_block", "is_last_block"];

/// ln sensitivity of a layer in a format, as a linear function of its features and of the format's ln error.
#[derive(Clone, Debug, PartialEq)]
pub struct Regressor {
    names: Vec<String>,
    weights: Vec<f64>,
}

/// One measured model.
#[derive(Clone, Copy, Debug)]
pub struct MeasuredModel<'a> {
    /// Its problem; the budget plays no part.
    pub problem: &'a Problem,
    /// Its features.
    pub table: &'a WideTable,
    /// Their normalisation.
    pub scaler: &'a WideScaler,
    /// Its measured sensitivities.
    pub sensitivity: &'a Sensitivity,
}

/// A row of the regression.
struct Row {
    /// Index of the model and the block that it comes from: what cross-validation leaves out together.
    group: (usize, Option<usize>),
    x: Vec<f64>,
    y: f64,
}

impl Regressor {
    /// Fits the regression. The strength of the ridge is that with the least squared error on blocks left out.
    ///
    /// # Errors
    /// [`Error::PolicyFeatures`] if the models have different features; [`Error::Option`] without a model.
    pub fn fit(models: &[MeasuredModel<'_>]) -> Result<Self> {
        let Some(first) = models.first() else {
            return Err(Error::Option { name: "models", value: "none".into(), expected: "at least one" });
        };
        let names = names(first.table);
        let mut rows = Vec::new();
        for (index, model) in models.iter().enumerate() {
            check_names(&names, model.table)?;
            rows.extend(model_rows(index, model)?);
        }
        let groups: Vec<(usize, Option<usize>)> = {
            let mut seen: Vec<_> = rows.iter().map(|row| row.group).collect();
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        let loss = |ridge: f64| -> f64 {
            let mut total = 0.0;
            for &left_out in &groups {
                let kept = rows.iter().filter(|row| row.group != left_out);
                let weights = solve(kept, names.len(), ridge);
                let out = rows.iter().filter(|row| row.group == left_out);
                total += out.map(|row| (dot(&weights, &row.x) - row.y).powi(2)).sum::<f64>();
            }
            total
        };
        let best = RIDGES.into_iter().map(|ridge| (loss(ridge), ridge)).min_by(|a, b| a.0.total_cmp(&b.0));
        let ridge = best.map_or(1.0, |(_, ridge)| ridge);
        Ok(Self { weights: solve(rows.iter(), names.len(), ridge), names })
    }

    /// Names of what is weighed.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Predicted sensitivities of a model, up to a common factor.
    ///
    /// # Errors
    /// [`Error::PolicyFeatures`] if the table has other features.
    pub fn predict(&self, problem: &Problem, table: &WideTable, scaler: &WideScaler) -> Result<Sensitivity> {
        check_names(&self.names, table)?;
        let mut costs = Vec::with_capacity(problem.slots().len());
        for (slot, options) in problem.slots().iter().enumerate() {
            let x = static_inputs(table, scaler, slot)?;
            let row = (0..options.choices.len()).map(|choice| {
                let error = ln_error(problem, table, slot, choice);
                dot(&self.weights, &[x.as_slice(), &[error]].concat()).clamp(-60.0, 60.0).exp()
            });
            costs.push(row.collect());
        }
        Ok(Sensitivity::from_costs(costs))
    }

    /// The weights as a named tensor.
    pub(crate) fn to_tensors(&self) -> Vec<NamedTensor> {
        let weights = self.weights.iter().map(|&w| w as f32).collect();
        vec![("regressor.weights".to_owned(), vec![self.weights.len()], weights)]
    }

    /// Reads what [`to_tensors`](Self::to_tensors) gives, for features of these names.
    pub(crate) fn from_tensors(names: &[String], tensors: &[NamedTensor]) -> Result<Self, String> {
        let found = tensors.iter().find(|(name, ..)| name == "regressor.weights");
        let (_, _, weights) = found.ok_or("tensor `regressor.weights` is missing")?;
        let names = with_derived(names);
        if weights.len() != names.len() {
            let (found, expected) = (weights.len(), names.len());
            return Err(format!("`regressor.weights` has {found} numbers, expected {expected}"));
        }
        if let Some(at) = weights.iter().position(|w| !w.is_finite()) {
            return Err(format!("`regressor.weights`[{at}] is {}", weights[at]));
        }
        Ok(Self { names, weights: weights.iter().map(|&w| f64::from(w)).collect() })
    }
}

/// What is weighed: the features without the errors of formats, what is made from the depth, and one ln error.
fn names(table: &WideTable) -> Vec<String> {
    with_derived(table.names())
}

fn with_derived(names: &[String]) -> Vec<String> {
    let kept = names.iter().filter(|name| is_input(name)).cloned();
    kept.chain(DERIVED.iter().map(ToString::to_string)).chain(["ln_error".to_owned()]).collect()
}

/// Whether a wide feature is weighed: not the errors, of which each format has its own, and no sizes.
fn is_input(name: &str) -> bool {
    !name.starts_with(ERROR) && !SIZES.contains(&name)
}

fn check_names(expected: &[String], table: &WideTable) -> Result<()> {
    let found = names(table);
    if found == *expected {
        return Ok(());
    }
    Err(Error::PolicyFeatures { policy: expected.join(", "), found: found.join(", ") })
}

/// Everything about a slot that no format changes.
fn static_inputs(table: &WideTable, scaler: &WideScaler, slot: usize) -> Result<Vec<f64>> {
    let context = ramp_embed::WideContext {
        prev_bits: None,
        avg_bits: None,
        remaining_bits: 0.0,
        range: [0.0, 1.0],
        target_bits: 0.0,
    };
    let state = table.state(slot, context, scaler)?;
    let named = table.names().iter().zip(&state);
    let mut x: Vec<f64> = named.filter(|(name, _)| is_input(name)).map(|(_, &x)| f64::from(x)).collect();
    let depth = x[0];
    let inside = table.layers()[slot].block().is_some();
    let flag = |holds: bool| f64::from(u8::from(inside && holds));
    x.extend([4.0 * (depth - 0.5).powi(2), flag(depth <= 0.0), flag(depth >= 1.0)]);
    Ok(x)
}

/// ln relative output error of a choice.
fn ln_error(problem: &Problem, table: &WideTable, slot: usize, choice: usize) -> f64 {
    let actions = problem.actions().types().len();
    let action = (0..actions).find(|&action| choice_of(problem, slot, action) == Some(choice));
    let first = table.names().len() - actions;
    f64::from(table.raw(slot)[first + action.unwrap_or(actions - 1)])
}

/// The rows of a model, brought to mean 0 within it.
fn model_rows(index: usize, model: &MeasuredModel<'_>) -> Result<Vec<Row>> {
    let MeasuredModel { problem, table, scaler, sensitivity } = *model;
    let mut rows = Vec::new();
    for (slot, options) in problem.slots().iter().enumerate() {
        let x = static_inputs(table, scaler, slot)?;
        for choice in 0..options.choices.len() {
            let error = ln_error(problem, table, slot, choice);
            rows.push(Row {
                group: (index, options.id.block()),
                x: [x.as_slice(), &[error]].concat(),
                y: sensitivity.get(slot, choice).max(NEGLIGIBLE).ln(),
            });
        }
    }
    let n = rows.len().max(1) as f64;
    let width = rows.first().map_or(0, |row| row.x.len());
    let mean_x: Vec<f64> = (0..width).map(|at| rows.iter().map(|row| row.x[at]).sum::<f64>() / n).collect();
    let mean_y = rows.iter().map(|row| row.y).sum::<f64>() / n;
    for row in &mut rows {
        row.x.iter_mut().zip(&mean_x).for_each(|(x, mean)| *x -= mean);
        row.y -= mean_y;
    }
    Ok(rows)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Minimises the squared error plus `ridge` times the squared weights, by Cholesky's factorisation. The weight of the
/// error is pulled towards 1 instead of 0: for small errors divergence grows with the squared error.
fn solve<'r>(rows: impl Iterator<Item = &'r Row>, width: usize, ridge: f64) -> Vec<f64> {
    let prior = |at: usize| f64::from(u8::from(at + 1 == width));
    let mut gram = vec![vec![0.0; width]; width];
    let mut right = vec![0.0; width];
    for row in rows {
        let y = row.y - row.x[width - 1];
        for (i, &xi) in row.x.iter().enumerate() {
            right[i] += xi * y;
            for (cell, &xj) in gram[i].iter_mut().zip(&row.x) {
                *cell += xi * xj;
            }
        }
    }
    for (i, row) in gram.iter_mut().enumerate() {
        row[i] += ridge;
    }
    // gram = L L^T, in place; positive definite for any ridge above zero.
    for j in 0..width {
        for i in j..width {
            let sum: f64 = (0..j).map(|k| gram[i][k] * gram[j][k]).sum();
            let rest = gram[i][j] - sum;
            gram[i][j] = if i == j { rest.max(f64::MIN_POSITIVE).sqrt() } else { rest / gram[j][j] };
        }
    }
    for i in 0..width {
        let sum: f64 = (0..i).map(|k| gram[i][k] * right[k]).sum();
        right[i] = (right[i] - sum) / gram[i][i];
    }
    for i in (0..width).rev() {
        let sum: f64 = (i + 1..width).map(|k| gram[k][i] * right[k]).sum();
        right[i] = (right[i] - sum) / gram[i][i];
    }
    right.iter().enumerate().map(|(at, w)| w + prior(at)).collect()
}

/// Spearman's rank correlation of two lists, ties by their mean rank; `None` if one side is constant. What a claim about
/// predicted sensitivities needs beside the regret.
#[must_use]
pub fn rank_correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let (a, b) = (ranks(a), ranks(b));
    let n = a.len() as f64;
    let mean = (n - 1.0) / 2.0;
    let cross: f64 = a.iter().zip(&b).map(|(x, y)| (x - mean) * (y - mean)).sum();
    let square = |ranks: &[f64]| ranks.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    let scale = (square(&a) * square(&b)).sqrt();
    (scale > 0.0).then(|| cross / scale)
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&x, &y| values[x].total_cmp(&values[y]));
    let mut ranks = vec![0.0; values.len()];
    let mut at = 0;
    while at < order.len() {
        let end = (at..order.len()).find(|&e| values[order[e]] != values[order[at]]).unwrap_or(order.len());
        let mean = (at + end - 1) as f64 / 2.0;
        for &slot in &order[at..end] {
            ranks[slot] = mean;
        }
        at = end;
    }
    ranks
}
