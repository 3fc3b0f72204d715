//! The density against values from an independent program, integrals and differences.

use super::*;

/// (µ, log σ, ε, a of the sigmoid, log π of the sigmoid, log π of tanh), computed in f64 with an independent program.
const GOLDEN: [[f64; 6]; 7] = [
    [0.0, 0.0, 0.0, 0.5, 0.467355828, -0.918938533],
    [0.0, 0.0, 1.0, 0.731058579, 0.207584842, -0.551376872],
    [0.5, -1.0, -0.7, 0.560325797, 1.237019625, -0.105707191],
    [-2.0, 0.5, 1.3, 0.535773185, -0.872512143, -2.243462822],
    [3.0, -2.0, 2.0, 0.963408818, 2.426286897, 4.238991265],
    [12.0, 0.0, 0.0, 0.999993856, 11.081073755, 21.694767106],
    [-30.0, 1.0, 0.5, 3.64277999e-13, 26.596920553, 53.851485277],
];

#[test]
fn golden_values_of_both_densities() {
    for [mu, log_std, epsilon, _, by_sigmoid, by_tanh] in GOLDEN {
        for (squash, expected) in [(Squash::Sigmoid, by_sigmoid), (Squash::Tanh, by_tanh)] {
            let found = squash.log_prob(mu, log_std, epsilon);
            assert!((found - expected).abs() < 1e-6, "{squash:?} {mu} {log_std} {epsilon}: {found}");
        }
    }
}

#[test]
fn golden_actions_in_f32() {
    for [mu, log_std, epsilon, expected, ..] in GOLDEN {
        let u = (mu + log_std.exp() * epsilon) as f32;
        // A rounding error of u is one of ln a.
        let tolerance = expected * (1e-6 + f64::from(u.abs() * f32::EPSILON));
        assert!((f64::from(sigmoid(u)) - expected).abs() <= tolerance, "{mu}: {}", sigmoid(u));
    }
}

/// Why an ε inside the logarithm will not do, in numbers.
#[test]
fn an_epsilon_inside_the_log_fails_the_last_two_rows() {
    for (row, [mu, log_std, epsilon, a, expected, _]) in GOLDEN.into_iter().enumerate() {
        let gaussian = -0.5 * epsilon * epsilon - log_std - half_ln_two_pi();
        let hacked = gaussian - (a * (1.0 - a) + 1e-6).ln();
        assert_eq!((hacked - expected).abs() > 1e-2, row >= 5, "{mu}: {hacked} against {expected}");
    }
}

#[test]
fn tanh_x_is_two_sigmoid_of_two_x_minus_one() {
    for [mu, log_std, epsilon, ..] in GOLDEN {
        let by_sigmoid = log_prob(2.0 * mu, log_std + LN_2, epsilon) - LN_2;
        let by_tanh = Squash::Tanh.log_prob(mu, log_std, epsilon);
        assert!((by_sigmoid - by_tanh).abs() < 1e-9, "{by_sigmoid} against {by_tanh}");
    }
}

#[test]
fn density_integrates_to_one() {
    for squash in [Squash::Sigmoid, Squash::Tanh] {
        for (mu, log_std) in [(0.0, 0.0), (0.5, -1.0), (-2.0, 0.5)] {
            // Midpoints in a; ε is recovered in f64, far from the edges' infinities.
            let cells = 200_000_u32;
            let [low, high] = squash.bounds().map(f64::from);
            let width = (high - low) / f64::from(cells);
            let integral: f64 = (0..cells)
                .map(|cell| {
                    let a = low + (f64::from(cell) + 0.5) * width;
                    let u = match squash {
                        Squash::Sigmoid => (a / (1.0 - a)).ln(),
                        Squash::Tanh => a.atanh(),
                    };
                    squash.log_prob(mu, log_std, (u - mu) / log_std.exp()).exp() * width
                })
                .sum();
            assert!((integral - 1.0).abs() < 1e-3, "{squash:?} {mu} {log_std}: {integral}");
        }
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

/// By random numbers what `entropy` integrates.
#[test]
fn the_mean_of_minus_log_pi_is_the_entropy() {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let (mu, log_std, n) = (0.7, -0.4, 200_000);
    let mean = (0..n).map(|_| -log_prob(mu, log_std, rng.sample(rand_distr::StandardNormal))).sum::<f64>()
        / f64::from(n);
    // The standard error is 0.0016.
    assert!((mean - entropy(mu, log_std)).abs() < 0.008, "{mean} against {}", entropy(mu, log_std));
}

#[test]
fn slopes_match_finite_differences() {
    for squash in [Squash::Sigmoid, Squash::Tanh] {
        for u in [-30.0, -2.0, -0.3, 0.0, 0.9, 4.0, 12.0] {
            let h = 1e-5;
            let numeric = (squash.minus_log_slope(u + h) - squash.minus_log_slope(u - h)) / (2.0 * h);
            assert!((squash.correction_slope(u) - numeric).abs() < 1e-6, "{squash:?} {u}: {numeric}");
            let action = |u: f64| match squash {
                Squash::Sigmoid => 1.0 / (1.0 + (-u).exp()),
                Squash::Tanh => u.tanh(),
            };
            let numeric = (action(u + h) - action(u - h)) / (2.0 * h);
            assert!((squash.slope(u) - numeric).abs() < 1e-9, "{squash:?} {u}: {numeric}");
        }
    }
}

#[test]
fn actions_stay_inside_the_open_interval() {
    for u in [-1e30, -200.0, 0.0, 20.0, 1e30] {
        for squash in [Squash::Sigmoid, Squash::Tanh] {
            let ([low, high], a) = (squash.bounds(), squash.action(u));
            assert!(a > low && a < high, "{squash:?} {u}: {a}");
        }
    }
}
