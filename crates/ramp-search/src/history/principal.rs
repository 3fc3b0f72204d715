//! Principal components of the static features, for a picture of what formats depend on.

use serde::Serialize;

use super::TrainingLog;

/// Sweeps of Jacobi's method; it converges quadratically, a dozen suffice for any matrix of this size.
const SWEEPS: usize = 30;

/// One principal component.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Component {
    /// Share of the variance of the standardised features, in [0, 1].
    pub share: f64,
    /// Weight of each feature, of unit length; the largest is positive.
    pub weights: Vec<f64>,
    /// Coordinate of each slot.
    pub scores: Vec<f64>,
}

impl TrainingLog {
    /// The first `n` principal components of the slots' static features, each feature brought to mean 0 and standard
    /// deviation 1 (a constant one to 0). Fewer if there are fewer features; none if the log has no features.
    #[must_use]
    pub fn principal_components(&self, n: usize) -> Vec<Component> {
        let width = self.feature_names.len();
        let rows: Vec<&Vec<f32>> =
            self.slots.iter().map(|slot| &slot.features).filter(|row| row.len() == width).collect();
        if rows.len() != self.slots.len() || rows.is_empty() || width == 0 {
            return Vec::new();
        }
        let columns: Vec<Vec<f64>> =
            (0..width).map(|at| standardised(rows.iter().map(|row| f64::from(row[at])).collect())).collect();
        let count = rows.len() as f64;
        let covariance: Vec<Vec<f64>> = columns
            .iter()
            .map(|a| {
                columns.iter().map(|b| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / count).collect()
            })
            .collect();
        let total: f64 = (0..width).map(|at| covariance[at][at]).sum();
        let (values, vectors) = eigen(covariance);
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        order
            .into_iter()
            .take(n)
            .map(|at| {
                let mut weights: Vec<f64> = vectors.iter().map(|row| row[at]).collect();
                let largest = weights
                    .iter()
                    .copied()
                    .fold(0.0, |max: f64, w| if w.abs() > max.abs() { w } else { max });
                if largest < 0.0 {
                    weights.iter_mut().for_each(|w| *w = -*w);
                }
                let score =
                    |slot: usize| weights.iter().zip(&columns).map(|(w, column)| w * column[slot]).sum();
                let scores = (0..rows.len()).map(score).collect();
                Component { share: values[at].max(0.0) / total.max(f64::MIN_POSITIVE), weights, scores }
            })
            .collect()
    }
}

fn standardised(mut column: Vec<f64>) -> Vec<f64> {
    let n = column.len() as f64;
    let mean = column.iter().sum::<f64>() / n;
    let std = (column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    // A spread below this is rounding of f32.
    let scale = if std > 1e-6 * mean.abs().max(1e-6) { 1.0 / std } else { 0.0 };
    column.iter_mut().for_each(|x| *x = (*x - mean) * scale);
    column
}

/// Eigenvalues and eigenvectors (columns) of a symmetric matrix by cyclic Jacobi rotations.
fn eigen(mut a: Vec<Vec<f64>>) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = a.len();
    let mut v: Vec<Vec<f64>> =
        (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for _ in 0..SWEEPS {
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q] == 0.0 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let c = 1.0 / t.hypot(1.0);
                let s = t * c;
                for row in a.iter_mut().chain(v.iter_mut()) {
                    let (x, y) = (row[p], row[q]);
                    (row[p], row[q]) = (c * x - s * y, s * x + c * y);
                }
                let (above, below) = a.split_at_mut(q);
                for (x, y) in above[p].iter_mut().zip(&mut below[0]) {
                    (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
                }
            }
        }
    }
    ((0..n).map(|i| a[i][i]).collect(), v)
}
