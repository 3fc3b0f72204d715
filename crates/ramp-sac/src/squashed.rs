//! A Gaussian squashed into an interval: u = µ + σ ε with ε ~ N(0, 1), a = sigmoid(u) in (0, 1) or tanh(u) in (-1, 1).
//!
//! The density of a follows from da/du:
//!
//! log π(a|s) = log N(u; µ, σ) - log da/du = -ε²/2 - ln σ - ½ ln 2π - log da/du
//!
//! For the sigmoid, -log a (1 - a) = softplus(u) + softplus(-u) = |u| + 2 ln(1 + e^{-|u|}), which is exact for every u
//! that f32 holds. The common log(a (1 - a) + 1e-6) stops at 13.8 nats, and inverting the sigmoid to find u again
//! gives infinities at the edges; so the log-density is always taken from u, never from a.

use std::f64::consts::{LN_2, PI};

use serde::{Deserialize, Serialize};

/// Largest f32 below 1: the sigmoid of a large u rounds to 1, which is no element of (0, 1).
const BELOW_ONE: f32 = 1.0 - f32::EPSILON / 2.0;

/// What squashes the Gaussian, and with it the interval of an action element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Squash {
    /// a = sigmoid(u) in (0, 1), as in Section 3.3.1. The default.
    #[default]
    Sigmoid,
    /// a = tanh(u) in (-1, 1), as in the SAC paper. Entropies are larger by ln 2 for the same spread of the range.
    Tanh,
}

impl Squash {
    /// Ends of the interval.
    #[must_use]
    pub const fn bounds(self) -> [f32; 2] {
        match self {
            Self::Sigmoid => [0.0, 1.0],
            Self::Tanh => [-1.0, 1.0],
        }
    }

    /// The action, kept inside the open interval.
    #[must_use]
    pub fn action(self, u: f32) -> f32 {
        match self {
            Self::Sigmoid => sigmoid(u),
            Self::Tanh => u.tanh().clamp(-BELOW_ONE, BELOW_ONE),
        }
    }

    /// log π(a|s) in nats of one action element a = squash(µ + e^{log σ} ε).
    #[must_use]
    pub fn log_prob(self, mu: f64, log_std: f64, epsilon: f64) -> f64 {
        let u = mu + log_std.exp() * epsilon;
        -0.5 * epsilon * epsilon - log_std - half_ln_two_pi() + self.minus_log_slope(u)
    }

    /// -log da/du.
    fn minus_log_slope(self, u: f64) -> f64 {
        match self {
            Self::Sigmoid => u.abs() + 2.0 * (-u.abs()).exp().ln_1p(),
            Self::Tanh => 2.0 * (u.abs() + (-2.0 * u.abs()).exp().ln_1p() - LN_2),
        }
    }

    /// The derivative by u of -log da/du.
    pub(crate) fn correction_slope(self, u: f64) -> f64 {
        match self {
            Self::Sigmoid => (0.5 * u).tanh(),
            Self::Tanh => 2.0 * u.tanh(),
        }
    }

    /// da/du, from u: 1 - a has no digits left where a is near 1.
    pub(crate) fn slope(self, u: f64) -> f64 {
        (-self.minus_log_slope(u)).exp()
    }
}

/// The logistic function, kept inside the open interval (0, 1).
pub fn sigmoid(u: f32) -> f32 {
    (1.0 / (1.0 + (-u).exp())).clamp(f32::MIN_POSITIVE, BELOW_ONE)
}

/// log π(a|s) in nats of one action element a = sigmoid(µ + e^{log σ} ε).
pub fn log_prob(mu: f64, log_std: f64, epsilon: f64) -> f64 {
    Squash::Sigmoid.log_prob(mu, log_std, epsilon)
}

/// Entropy E[-log π] in nats of one action element in (0, 1), by the trapezoidal rule over ε in [-10, 10].
pub fn entropy(mu: f64, log_std: f64) -> f64 {
    let (steps, limit) = (4000_u32, 10.0);
    let width = 2.0 * limit / f64::from(steps);
    (0..=steps)
        .map(|step| {
            let epsilon = -limit + width * f64::from(step);
            let density = (-0.5 * epsilon * epsilon - half_ln_two_pi()).exp();
            -density * log_prob(mu, log_std, epsilon) * width
        })
        .sum()
}

fn half_ln_two_pi() -> f64 {
    0.5 * (2.0 * PI).ln()
}

#[cfg(test)]
#[path = "squashed_tests.rs"]
mod tests;
