//! LRQ: low-rank weight-scaling matrices, learned.

use half::f16;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Calibration, Matrix, Outcome, OutputError, output_error::dot, random::SplitMix};
use crate::{
    affine::{AffineConfig, Grid, Layout, MAX_SCALE, MIN_SCALE, scale_range},
    error::{Error, Result},
};

/// How LRQ learns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LrqConfig {
    /// The grid.
    pub affine: AffineConfig,
    /// Rank of the scaling matrix, or the matrix's smaller side where that is less. The paper has 1024 for layers of
    /// 4096: a quarter.
    pub rank: usize,
    /// Steps of Adam.
    pub steps: usize,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Seed of `U`.
    pub seed: u64,
}

impl Default for LrqConfig {
    fn default() -> Self {
        Self { affine: AffineConfig::per_group(4, 128), rank: 64, steps: 200, learning_rate: 2e-3, seed: 0 }
    }
}

/// Learns by how much each weight is scaled before it is rounded.
///
/// `Ŵ = s (clamp(round(W / (s ∘ exp(L U + r + c)) + z)) - z)`: a low-rank matrix `L U`, `L` `[out, rank]` and `U`
/// `[rank, in]`, and a vector for rows `r` and columns `c` say where a weight crosses to the next code. They and the
/// steps `s` are learned by Adam, the gradient of rounding taken as 1 (straight through). `L`, `r` and `c` begin at 0,
/// which is RTN, and the best of all steps is kept. Only codes, scales and zero points are stored.
///
/// The published program minimizes the error of a block's output on batches; this minimizes that of the layer's output,
/// `tr(E H Eᵀ)`, whose gradient is exact from the Gram matrix.
///
/// # Source
/// Lee et al., "LRQ" (arXiv 2407.11534), Eq. 4; Lee et al., "FlexRound" (arXiv 2306.00317), which it refines.
///
/// # Errors
/// When matrix and statistics do not fit, the configuration is out of range, or a scale is beyond f16.
pub fn lrq(matrix: Matrix<'_>, calibration: &Calibration<'_>, config: &LrqConfig) -> Result<Outcome> {
    calibration.check(&matrix)?;
    let Matrix { weight, shape } = matrix;
    let layout = config.affine.layout(shape)?;
    if !(config.learning_rate > 0.0 && config.learning_rate.is_finite()) {
        let (field, value) = ("learning_rate", config.learning_rate);
        return Err(Error::Setting { method: "LRQ", field, value, expected: "a number above 0" });
    }
    let error = OutputError::new(calibration.gram)?;
    let norm = error.of(weight);
    let mut state = State::new(weight, shape, layout, config)?;
    let mut best = (f64::INFINITY, Vec::new());
    for step in 0..=config.steps {
        let forward = state.forward();
        let e: Vec<f32> = forward.dequantized.iter().zip(weight).map(|(q, w)| q - w).collect();
        let product = error.times(&e);
        let loss: f64 = rows_in_order(&e, shape[1], |at, e| {
            e.iter().zip(&product[at..]).map(|(&e, &p)| f64::from(e) * f64::from(p)).sum()
        });
        let gradient_scale = if norm > 0.0 { (2.0 / norm) as f32 } else { 0.0 };
        if loss < best.0 {
            best = (loss, forward.dequantized.clone());
        }
        if step < config.steps && gradient_scale > 0.0 {
            let gradient: Vec<f32> = product.iter().map(|p| p * gradient_scale).collect();
            state.step(&forward, &gradient, step + 1);
        }
    }
    Ok(Outcome::new(best.1, config.affine.bytes(shape)?))
}

/// A sum over rows that does not depend on the number of threads.
fn rows_in_order(values: &[f32], n: usize, sum: impl Fn(usize, &[f32]) -> f64 + Sync) -> f64 {
    let rows: Vec<f64> = values.par_chunks(n).enumerate().map(|(row, values)| sum(row * n, values)).collect();
    rows.into_iter().sum()
}

struct State<'a> {
    weight: &'a [f32],
    shape: [usize; 2],
    layout: Layout,
    rank: usize,
    grids: Vec<Grid>,
    s: Learned,
    l: Learned,
    u: Learned,
    r: Learned,
    c: Learned,
}

struct Forward {
    dequantized: Vec<f32>,
    /// `W / (s exp θ)`, before rounding.
    scaled: Vec<f32>,
    /// The scale of each group as stored.
    scale: Vec<f32>,
}

impl<'a> State<'a> {
    fn new(weight: &'a [f32], shape: [usize; 2], layout: Layout, config: &LrqConfig) -> Result<Self> {
        let [out, inp] = shape;
        let mut grids = Vec::new();
        for (row, weights) in weight.chunks(layout.len).enumerate() {
            for (group, weights) in weights.chunks(layout.group).enumerate() {
                let grid = Grid::of(weights, config.affine);
                scale_range(&grid, row, group)?;
                grids.push(grid);
            }
        }
        let rank = config.rank.min(out).min(inp).max(1);
        let mut random = SplitMix(config.seed);
        // With |U| around 1/sqrt(rank) a row of L moves θ about as much as r does.
        let size = (rank as f64).sqrt().recip();
        let u = (0..rank * inp).map(|_| (random.normal() * size) as f32).collect();
        let learned = |values| Learned::new(values, config.learning_rate);
        // Steps are learned relative to their size: they differ by orders of magnitude between groups.
        let s = learned(vec![0.0; grids.len()]);
        Ok(Self {
            weight,
            shape,
            layout,
            rank,
            s,
            l: learned(vec![0.0; out * rank]),
            u: learned(u),
            r: learned(vec![0.0; out]),
            c: learned(vec![0.0; inp]),
            grids,
        })
    }

    fn group_of(&self, at: usize) -> usize {
        let Layout { len, group, .. } = self.layout;
        at / len * self.layout.groups() + at % len / group
    }

    fn forward(&self) -> Forward {
        let (inp, rank) = (self.shape[1], self.rank);
        let scale: Vec<f32> = self
            .grids
            .iter()
            .zip(&self.s.values)
            .map(|(grid, s)| f16::from_f32(grid.scale * s.exp()).to_f32().clamp(MIN_SCALE, MAX_SCALE))
            .collect();
        let mut dequantized = vec![0.0; self.weight.len()];
        let mut scaled = vec![0.0; self.weight.len()];
        dequantized.par_chunks_mut(inp).zip(scaled.par_chunks_mut(inp)).enumerate().for_each(
            |(row, (dequantized, scaled))| {
                let mut theta: Vec<f32> = self.c.values.iter().map(|c| c + self.r.values[row]).collect();
                for (l, u) in
                    self.l.values[row * rank..].iter().zip(self.u.values.chunks_exact(inp)).take(rank)
                {
                    theta.iter_mut().zip(u).for_each(|(theta, u)| *theta += l * u);
                }
                for j in 0..inp {
                    let group = self.group_of(row * inp + j);
                    let Grid { zero, max_code, .. } = self.grids[group];
                    let grid = Grid::new(scale[group], zero, max_code);
                    let w = self.weight[row * inp + j] / theta[j].exp();
                    scaled[j] = w / grid.scale;
                    dequantized[j] = grid.nearest(w);
                }
            },
        );
        Forward { dequantized, scaled, scale }
    }

    /// One step of Adam. `gradient` is that of the dequantized weights.
    fn step(&mut self, forward: &Forward, gradient: &[f32], step: usize) {
        let (inp, rank) = (self.shape[1], self.rank);
        let Forward { dequantized, scaled, scale } = forward;
        // d/dθ: -s w̃ where the code is inside its range; d/ln s: Ŵ, and -s w̃ there.
        let inside = |at: usize, group: usize| {
            let code = scaled[at] + self.grids[group].zero;
            (-0.5..=self.grids[group].max_code + 0.5).contains(&code)
        };
        let mut d_s = vec![0.0f32; self.grids.len()];
        let mut d_theta = vec![0.0f32; self.weight.len()];
        for at in 0..self.weight.len() {
            let group = self.group_of(at);
            let through = if inside(at, group) { -scale[group] * scaled[at] } else { 0.0 };
            d_theta[at] = gradient[at] * through;
            d_s[group] += gradient[at] * (dequantized[at] + through);
        }
        let d_r: Vec<f32> = d_theta.par_chunks(inp).map(|row| row.iter().sum()).collect();
        let mut d_c = vec![0.0f32; inp];
        for row in d_theta.chunks_exact(inp) {
            d_c.iter_mut().zip(row).for_each(|(c, d)| *c += d);
        }
        let u = &self.u.values;
        let d_l: Vec<f32> = d_theta
            .par_chunks(inp)
            .flat_map_iter(|row| u.chunks_exact(inp).map(move |u| dot(row, u)))
            .collect();
        let mut d_u = vec![0.0f32; rank * inp];
        d_u.par_chunks_mut(inp).enumerate().for_each(|(k, d_u)| {
            for (row, d_theta) in d_theta.chunks_exact(inp).enumerate() {
                let l = self.l.values[row * rank + k];
                d_u.iter_mut().zip(d_theta).for_each(|(u, d)| *u += l * d);
            }
        });
        self.s.step(&d_s, step);
        self.l.step(&d_l, step);
        self.u.step(&d_u, step);
        self.r.step(&d_r, step);
        self.c.step(&d_c, step);
    }
}

/// Parameters with the moments of Adam (Kingma and Ba, arXiv 1412.6980; β 0.9 and 0.999, ε 1e-8).
struct Learned {
    values: Vec<f32>,
    m: Vec<f64>,
    v: Vec<f64>,
    learning_rate: f64,
}

impl Learned {
    fn new(values: Vec<f32>, learning_rate: f64) -> Self {
        let n = values.len();
        Self { values, m: vec![0.0; n], v: vec![0.0; n], learning_rate }
    }

    fn step(&mut self, gradient: &[f32], step: usize) {
        const BETA: [f64; 2] = [0.9, 0.999];
        let step = i32::try_from(step).unwrap_or(i32::MAX);
        let bias = BETA.map(|beta| 1.0 - beta.powi(step));
        for (((value, &g), m), v) in self.values.iter_mut().zip(gradient).zip(&mut self.m).zip(&mut self.v) {
            let g = f64::from(g);
            *m = BETA[0] * *m + (1.0 - BETA[0]) * g;
            *v = BETA[1] * *v + (1.0 - BETA[1]) * g * g;
            *value -= (self.learning_rate * (*m / bias[0]) / ((*v / bias[1]).sqrt() + 1e-8)) as f32;
        }
    }
}
