//! What LRQ learns of one matrix.

use half::f16;
use rayon::prelude::*;

use super::{LrqConfig, adam::Learned};
use crate::{
    affine::{Grid, Layout, MAX_SCALE, MIN_SCALE, scale_range},
    baseline::{output_error::dot, random::SplitMix},
    error::Result,
};

pub(super) struct State<'a> {
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

pub(super) struct Forward {
    pub(super) dequantized: Vec<f32>,
    /// `W / (s exp θ)`, before rounding.
    scaled: Vec<f32>,
    /// The scale of each group as stored.
    scale: Vec<f32>,
}

impl<'a> State<'a> {
    pub(super) fn new(weight: &'a [f32], shape: [usize; 2], config: &LrqConfig) -> Result<Self> {
        let [out, inp] = shape;
        let layout = config.affine.layout(shape)?;
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
        // Steps are learned relative to their size: they differ by orders of magnitude between groups.
        let s = Learned::new(vec![0.0; grids.len()]);
        Ok(Self {
            weight,
            shape,
            layout,
            rank,
            s,
            l: Learned::new(vec![0.0; out * rank]),
            u: Learned::new(u),
            r: Learned::new(vec![0.0; out]),
            c: Learned::new(vec![0.0; inp]),
            grids,
        })
    }

    fn group_of(&self, at: usize) -> usize {
        let Layout { len, group, .. } = self.layout;
        at / len * self.layout.groups() + at % len / group
    }

    pub(super) fn forward(&self) -> Forward {
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
    pub(super) fn step(&mut self, forward: &Forward, gradient: &[f32], learning_rate: f64) {
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
        self.s.step(&d_s, learning_rate);
        self.l.step(&d_l, learning_rate);
        self.u.step(&d_u, learning_rate);
        self.r.step(&d_r, learning_rate);
        self.c.step(&d_c, learning_rate);
    }
}
