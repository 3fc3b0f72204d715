//! The sigmoid-squashed Gaussian: u = µ + σ ε with ε ~ N(0, 1), a = sigmoid(u) in (0, 1).
//!
//! The density of a follows from da/du = a (1 - a):
//!
//! log π(a|s) = log N(u; µ, σ) - log a(1 - a) = -ε²/2 - ln σ - ½ ln 2π + softplus(u) + softplus(-u)
//!
//! and softplus(u) + softplus(-u) = |u| + 2 ln(1 + e^{-|u|}), which is exact for every u that f32
//! holds. The common log(a (1 - a) + 1e-6) stops at 13.8 nats, and inverting the sigmoid to find u
//! again gives infinities at the edges; so the log-density is always taken from u, never from a.

use std::f64::consts::PI;

use burn::tensor::{Tensor, activation};

/// Largest f32 below 1: the sigmoid of a large u rounds to 1, which is no element of (0, 1).
const BELOW_ONE: f32 = 1.0 - f32::EPSILON / 2.0;

/// The logistic function, kept inside the open interval (0, 1).
pub fn sigmoid(u: f32) -> f32 {
    (1.0 / (1.0 + (-u).exp())).clamp(f32::MIN_POSITIVE, BELOW_ONE)
}

/// log π(a|s) in nats of one action element a = sigmoid(µ + e^{log σ} ε).
pub fn log_prob(mu: f64, log_std: f64, epsilon: f64) -> f64 {
    let u = mu + log_std.exp() * epsilon;
    -0.5 * epsilon * epsilon - log_std - half_ln_two_pi() + u.abs() + 2.0 * (-u.abs()).exp().ln_1p()
}

/// Entropy E[-log π] in nats of one action element, by the trapezoidal rule over ε in [-10, 10].
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

/// A reparameterised sample and its log-probability.
///
/// `mu`, `log_std`, `epsilon`: `[batch, action]`. Returns the action `[batch, action]` and
/// log π `[batch, 1]`, summed over the action elements; both carry gradients to `mu` and `log_std`.
pub(crate) fn sample(mu: Tensor<2>, log_std: Tensor<2>, epsilon: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let u = mu + log_std.clone().exp() * epsilon.clone();
    let magnitude = u.clone().abs();
    let minus_log_slope = magnitude.clone() + magnitude.neg().exp().log1p() * 2.0;
    let gaussian = epsilon.square() * -0.5 - log_std - half_ln_two_pi();
    (activation::sigmoid(u), (gaussian + minus_log_slope).sum_dim(1))
}

fn half_ln_two_pi() -> f64 {
    0.5 * (2.0 * PI).ln()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// (µ, log σ, ε, a, log π), computed in f64 with an independent program.
    const GOLDEN: [[f64; 5]; 7] = [
        [0.0, 0.0, 0.0, 0.5, 0.467355828],
        [0.0, 0.0, 1.0, 0.731058579, 0.207584842],
        [0.5, -1.0, -0.7, 0.560325797, 1.237019625],
        [-2.0, 0.5, 1.3, 0.535773185, -0.872512143],
        [3.0, -2.0, 2.0, 0.963408818, 2.426286897],
        [12.0, 0.0, 0.0, 0.999993856, 11.081073755],
        [-30.0, 1.0, 0.5, 3.64277999e-13, 26.596920553],
    ];

    fn column(index: usize, device: &Device) -> Tensor<2> {
        let values: Vec<f32> = GOLDEN.iter().map(|row| row[index] as f32).collect();
        Tensor::from_data(TensorData::new(values, [GOLDEN.len(), 1]), device)
    }

    #[test]
    fn golden_values_in_f64() {
        for [mu, log_std, epsilon, _, expected] in GOLDEN {
            let found = log_prob(mu, log_std, epsilon);
            assert!((found - expected).abs() < 1e-6, "{mu} {log_std} {epsilon}: {found}");
        }
    }

    #[test]
    fn golden_values_in_f32_even_where_an_epsilon_inside_the_log_fails() {
        let device = Device::flex();
        let (action, log_pi) = sample(column(0, &device), column(1, &device), column(2, &device));
        let action: Vec<f32> = action.try_into_vec_as().unwrap();
        let log_pi: Vec<f32> = log_pi.try_into_vec_as().unwrap();
        for (row, (&a, &l)) in GOLDEN.iter().zip(action.iter().zip(&log_pi)) {
            let (expected_a, expected_l) = (row[3], row[4]);
            assert!((f64::from(a) - expected_a).abs() <= 1e-6 * expected_a, "{row:?}: {a}");
            assert!((f64::from(l) - expected_l).abs() < 1e-4, "{row:?}: {l}");
        }
    }

    #[test]
    fn agrees_with_the_tanh_policy_through_tanh_x_is_two_sigmoid_two_x_minus_one() {
        // From the same golden table: log π of tanh(N(µ, σ)).
        let tanh = [(0.5, -1.0, -0.7, -0.105707191), (12.0, 0.0, 0.0, 21.694767106)];
        for (mu, log_std, epsilon, expected) in tanh {
            let two = std::f64::consts::LN_2;
            let found = log_prob(2.0 * mu, log_std + two, epsilon) - two;
            assert!((found - expected).abs() < 1e-6, "{found} against {expected}");
        }
    }

    #[test]
    fn density_integrates_to_one() {
        for (mu, log_std) in [(0.0, 0.0), (0.5, -1.0), (-2.0, 0.5)] {
            // Midpoints in a; ε is recovered in f64, far from the edges' infinities.
            let cells = 200_000_u32;
            let integral: f64 = (0..cells)
                .map(|cell| {
                    let a = (f64::from(cell) + 0.5) / f64::from(cells);
                    let u = (a / (1.0 - a)).ln();
                    log_prob(mu, log_std, (u - mu) / log_std.exp()).exp() / f64::from(cells)
                })
                .sum();
            assert!((integral - 1.0).abs() < 1e-3, "{mu} {log_std}: {integral}");
        }
    }

    #[test]
    fn entropy_matches_known_values() {
        // The widest logit-normal at µ = 0, and the paper's target of -1 nat.
        assert!((entropy(0.0, 1.751_f64.ln()) + 0.0095).abs() < 2e-4);
        assert!((entropy(0.0, 0.368_f64.ln()) + 1.0).abs() < 2e-3);
        // A narrow one is a Gaussian of standard deviation σ a(1 - a).
        let gaussian = 0.5 + half_ln_two_pi() + (0.01_f64 * 0.25).ln();
        assert!((entropy(0.0, 0.01_f64.ln()) - gaussian).abs() < 1e-3);
    }

    #[test]
    fn gradient_of_the_correction_is_tanh_of_half_u() {
        let device = Device::flex().autodiff();
        let mu = column(0, &device).require_grad();
        let log_std = column(1, &device).require_grad();
        let (_, log_pi) = sample(mu.clone(), log_std.clone(), column(2, &device));
        let grads = log_pi.sum().backward();
        let d_mu: Vec<f32> = mu.grad(&grads).unwrap().try_into_vec_as().unwrap();
        let d_log_std: Vec<f32> = log_std.grad(&grads).unwrap().try_into_vec_as().unwrap();
        for (row, (&by_mu, &by_log_std)) in GOLDEN.iter().zip(d_mu.iter().zip(&d_log_std)) {
            let [mu, log_std, epsilon, ..] = *row;
            let spread = log_std.exp() * epsilon;
            let slope = (0.5 * (mu + spread)).tanh();
            assert!((f64::from(by_mu) - slope).abs() < 1e-5, "{row:?}: {by_mu} against {slope}");
            let expected = slope * spread - 1.0;
            assert!((f64::from(by_log_std) - expected).abs() < 1e-4, "{row:?}: {by_log_std}");
        }
    }

    #[test]
    fn log_probability_sums_over_action_elements_not_over_the_batch() {
        let device = Device::flex();
        let zeros = || Tensor::<2>::zeros([3, 2], &device);
        let (action, log_pi) = sample(zeros(), zeros(), zeros());
        assert_eq!((action.dims(), log_pi.dims()), ([3, 2], [3, 1]));
        for value in log_pi.try_into_vec_as::<f32>().unwrap() {
            assert!((value - 2.0 * 0.467_355_8).abs() < 1e-5);
        }
    }

    #[test]
    fn host_sigmoid_stays_inside_the_open_interval() {
        for u in [-1e30, -200.0, 0.0, 20.0, 1e30] {
            let a = sigmoid(u);
            assert!(a > 0.0 && a < 1.0, "{u}: {a}");
        }
    }
}
