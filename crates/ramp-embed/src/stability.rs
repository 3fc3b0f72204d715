//! How alike the features of two models are (Table 18), and how much of that is only structure.

use std::collections::BTreeMap;

use ramp_model::{LayerId, Role};
use serde::Serialize;

use crate::{
    N_STATIC,
    error::{Error, Result},
    scaler::Scaler,
    table::FeatureTable,
};

/// Depth classes that layers of different models are compared in.
const DEPTHS: usize = 8;

/// Features of two models compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stability {
    /// Table 18: for each kind of layer, its mean normalised features in both models.
    pub roles: Vec<RoleStability>,
    /// For each static feature, Pearson's r over cells of role and depth that both models have; `None` where a feature
    /// is constant. High for depth and sizes by construction.
    pub by_feature: Vec<(String, Option<f64>)>,
    /// The same after the mean of each role and the mean of each depth is taken out: what is left of a feature when
    /// structure alone explains the rest. This is the number that a claim about transfer needs.
    pub by_feature_within: Vec<(String, Option<f64>)>,
    /// Cells compared.
    pub cells: usize,
}

/// One row of Table 18.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoleStability {
    /// `token_embd`, `output`, or a role.
    pub role: String,
    /// Pearson's r over the static features of this kind of layer; `None` where one side is constant.
    pub correlation: Option<f64>,
}

/// Compares two models' features, each normalised by its own scaler.
///
/// # Errors
/// [`Error::Mismatch`] if the tables are of different modes, or have no kind of layer in common.
pub fn stability(left: &FeatureTable, right: &FeatureTable) -> Result<Stability> {
    if left.mode() != right.mode() {
        let name = |table: &FeatureTable| format!("{:?}", table.mode());
        return Err(Error::Mismatch { left: name(left), right: name(right) });
    }
    let (left_cells, right_cells) =
        (cells(left, |id, depth| (kind(id), depth)), cells(right, |id, depth| (kind(id), depth)));
    let (left_roles, right_roles) = (cells(left, |id, _| kind(id)), cells(right, |id, _| kind(id)));
    let roles: Vec<RoleStability> = left_roles
        .iter()
        .filter_map(|(role, a)| right_roles.get(role).map(|b| (role, a, b)))
        .map(|(role, a, b)| RoleStability { role: role.clone(), correlation: pearson(a, b) })
        .collect();
    let shared: Vec<(&(String, usize), &Row, &Row)> =
        left_cells.iter().filter_map(|(cell, a)| right_cells.get(cell).map(|b| (cell, a, b))).collect();
    if roles.is_empty() {
        let name = |rows: &BTreeMap<String, Row>| rows.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(Error::Mismatch { left: name(&left_roles), right: name(&right_roles) });
    }
    let mut raw = Vec::with_capacity(N_STATIC);
    let mut within = Vec::with_capacity(N_STATIC);
    for (at, name) in left.mode().names().iter().take(N_STATIC).enumerate() {
        let a: Vec<f64> = shared.iter().map(|(_, a, _)| a[at]).collect();
        let b: Vec<f64> = shared.iter().map(|(_, _, b)| b[at]).collect();
        let keys: Vec<&(String, usize)> = shared.iter().map(|(cell, ..)| *cell).collect();
        raw.push(((*name).to_owned(), pearson(&a, &b)));
        within.push(((*name).to_owned(), pearson(&residual(&keys, &a), &residual(&keys, &b))));
    }
    Ok(Stability { roles, by_feature: raw, by_feature_within: within, cells: shared.len() })
}

type Row = [f64; N_STATIC];

/// Mean normalised features of the layers that fall into the same cell.
fn cells<K: Ord>(table: &FeatureTable, key: impl Fn(LayerId, usize) -> K) -> BTreeMap<K, Row> {
    let rows = table.normalised(&Scaler::fit(table));
    let blocks = table.layers().iter().filter_map(|id| match id {
        LayerId::Block { block, .. } => Some(*block + 1),
        _ => None,
    });
    let blocks = blocks.max().unwrap_or(1);
    let mut sums: BTreeMap<K, (Row, f64)> = BTreeMap::new();
    for (&id, row) in table.layers().iter().zip(rows) {
        let depth = match id {
            LayerId::Block { block, .. } => block * DEPTHS / blocks,
            LayerId::TokenEmbd => 0,
            LayerId::Output => DEPTHS - 1,
        };
        let (sum, count) = sums.entry(key(id, depth)).or_insert(([0.0; N_STATIC], 0.0));
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(x));
        *count += 1.0;
    }
    sums.into_iter().map(|(key, (sum, count))| (key, sum.map(|x| x / count))).collect()
}

fn kind(id: LayerId) -> String {
    match (id, id.role()) {
        (_, Some(role)) => name(role),
        (LayerId::TokenEmbd, None) => "token_embd".to_owned(),
        _ => "output".to_owned(),
    }
}

fn name(role: Role) -> String {
    format!("{role:?}").to_lowercase()
}

/// What the means of role and depth leave. Two-way means by turns, which converge for any pattern of cells.
fn residual(cells: &[&(String, usize)], values: &[f64]) -> Vec<f64> {
    let mut rest = values.to_vec();
    for _ in 0..50 {
        centre(&mut rest, |at| cells[at].0.as_str());
        centre(&mut rest, |at| cells[at].1);
    }
    // What rounding leaves of a feature that role and depth explain is nothing.
    let scale = values.iter().fold(0.0_f64, |max, x| max.max(x.abs()));
    rest.iter_mut().filter(|x| x.abs() < 1e-6 * scale).for_each(|x| *x = 0.0);
    rest
}

fn centre<K: Ord>(values: &mut [f64], key: impl Fn(usize) -> K) {
    let mut sums: BTreeMap<K, (f64, f64)> = BTreeMap::new();
    for (at, value) in values.iter().enumerate() {
        let (sum, count) = sums.entry(key(at)).or_default();
        *sum += value;
        *count += 1.0;
    }
    for (at, value) in values.iter_mut().enumerate() {
        if let Some((sum, count)) = sums.get(&key(at)) {
            *value -= sum / count;
        }
    }
}

/// Pearson's r; `None` where a side is constant.
fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let products = a.iter().zip(b).map(|(a, b)| ((a - mean_a), (b - mean_b)));
    let [mut ab, mut aa, mut bb] = [0.0; 3];
    for (a, b) in products {
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    let rounding = 1e-20 * n;
    (aa > rounding && bb > rounding).then(|| ab / (aa * bb).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pearson_by_hand() {
        assert_eq!(pearson(&[1.0, 2.0, 3.0], &[1.0, 1.0, 1.0]), None);
        assert!((pearson(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]).unwrap() - 1.0).abs() < 1e-12);
        assert!((pearson(&[1.0, 2.0, 3.0], &[1.0, 3.0, 2.0]).unwrap() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn structure_is_taken_out() {
        let cells: Vec<(String, usize)> =
            (0..12).map(|i| (["q", "k", "v"][i % 3].to_owned(), i / 3)).collect();
        let keys: Vec<&(String, usize)> = cells.iter().collect();
        // A sum of a role's and a depth's part leaves nothing.
        let structure: Vec<f64> = (0..12).map(|i| [5.0, -2.0, 1.0][i % 3] + (i / 3) as f64 * 0.7).collect();
        assert!(residual(&keys, &structure).iter().all(|x| *x == 0.0));
        // Anything on top of it is kept, up to its own means.
        let mut signal = structure;
        signal[4] += 1.0;
        let rest = residual(&keys, &signal);
        assert!((rest[4] - (1.0 - 1.0 / 3.0 - 0.25 + 1.0 / 12.0)).abs() < 1e-9, "{rest:?}");
    }
}
