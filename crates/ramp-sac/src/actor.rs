//! The policy: states to the parameters of a squashed Gaussian, and back from a loss of its samples.

use crate::{config::SacConfig, shape::MlpShape, squashed::Squash};

/// How outputs of the network become a distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Gaussian {
    pub(crate) log_std_range: [f64; 2],
    pub(crate) squash: Squash,
}

/// Reparameterised actions of some rows.
#[derive(Clone, Debug)]
pub(crate) struct Samples {
    /// Actions, `[batch, action]`.
    pub(crate) actions: Vec<f32>,
    /// log π, summed over the action elements, `[batch]`.
    pub(crate) log_pi: Vec<f64>,
    /// u, σ ε, and d log σ / d raw, `[batch, action]`.
    parts: Vec<[f64; 3]>,
}

/// Shape of the network: µ and the raw spread of every action element, in this order.
pub(crate) fn shape(config: &SacConfig) -> MlpShape {
    let outputs = 2 * config.action_dim;
    MlpShape { networks: 1, inputs: config.state_dim, hidden: config.hidden, outputs }
}

impl Gaussian {
    pub(crate) fn of(config: &SacConfig) -> Self {
        Self { log_std_range: config.log_std_range(), squash: config.squash }
    }

    /// log σ, and its derivative, from the raw output x: min + (max - min) (tanh x + 1) / 2.
    pub(crate) fn log_std(self, raw: f64) -> (f64, f64) {
        let [min, max] = self.log_std_range;
        let (half, tanh) = (0.5 * (max - min), raw.tanh());
        (min + half * (tanh + 1.0), half * (1.0 - tanh * tanh))
    }

    /// `outputs`: `[batch, 2 action]`, `noise`: `[batch, action]`.
    pub(crate) fn sample(self, outputs: &[f32], noise: &[f32], width: usize) -> Samples {
        let mut samples = Samples {
            actions: Vec::with_capacity(noise.len()),
            log_pi: Vec::with_capacity(noise.len() / width),
            parts: Vec::with_capacity(noise.len()),
        };
        for (output, noise) in outputs.chunks_exact(2 * width).zip(noise.chunks_exact(width)) {
            let (mu, raw) = output.split_at(width);
            let mut log_pi = 0.0;
            for ((&mu, &raw), &epsilon) in mu.iter().zip(raw).zip(noise) {
                let (mu, epsilon) = (f64::from(mu), f64::from(epsilon));
                let (log_std, slope) = self.log_std(f64::from(raw));
                let spread = log_std.exp() * epsilon;
                log_pi += self.squash.log_prob(mu, log_std, epsilon);
                samples.actions.push(self.squash.action((mu + spread) as f32));
                samples.parts.push([mu + spread, spread, slope]);
            }
            samples.log_pi.push(log_pi);
        }
        samples
    }

    /// Slopes at the outputs, `[batch, 2 action]`, of mean(α log π + f(a)), where `by_action` `[batch, action]` are
    /// the slopes of mean f at the actions.
    pub(crate) fn pull_back(self, samples: &Samples, alpha: f64, by_action: &[f32]) -> Vec<f32> {
        let batch = samples.log_pi.len();
        let width = by_action.len() / batch;
        let share = alpha / batch as f64;
        let mut outer = vec![0.0; 2 * by_action.len()];
        let rows = samples.parts.chunks_exact(width).zip(by_action.chunks_exact(width));
        for (outer, (parts, by_action)) in outer.chunks_exact_mut(2 * width).zip(rows) {
            let (by_mu, by_raw) = outer.split_at_mut(width);
            for at in 0..width {
                let [u, spread, slope] = parts[at];
                let by_u =
                    share * self.squash.correction_slope(u) + f64::from(by_action[at]) * self.squash.slope(u);
                by_mu[at] = by_u as f32;
                by_raw[at] = ((by_u * spread - share) * slope) as f32;
            }
        }
        outer
    }
}
