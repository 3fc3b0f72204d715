//! Whether a difference between two models on the same text is more than chance.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Below this probability a difference is called real.
const LEVEL: f64 = 0.05;

/// What a test says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The model is better than the base.
    Better,
    /// The model is worse than the base.
    Worse,
    /// The difference may be chance.
    Undecided,
}

impl Verdict {
    /// From a difference that is negative when the model is better.
    pub(crate) fn new(loss: f64, p_value: f64) -> Self {
        match (p_value < LEVEL, loss < 0.0) {
            (false, _) => Self::Undecided,
            (true, true) => Self::Better,
            (true, false) => Self::Worse,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Better => "better at p < 0.05",
            Self::Worse => "worse at p < 0.05",
            Self::Undecided => "no difference at p < 0.05",
        })
    }
}

/// A paired t test over windows.
///
/// Tokens of one window depend on each other: a quantized model that fails at a name fails at all that follow. So the
/// window is the unit that is drawn, and its tokens' differences are summed (cluster-robust error of a ratio).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedTest {
    /// Standard error of the mean difference per token, from the windows.
    pub se: f64,
    /// Mean difference over its standard error.
    pub t: f64,
    /// Probability of a `t` at least as far from zero without a difference, two-sided, Student's t with one degree
    /// of freedom less than there are windows.
    pub p_value: f64,
    /// What follows from `p_value`.
    pub verdict: Verdict,
}

impl PairedTest {
    /// From the sum of the differences (model - base, larger is worse) and the number of tokens of each window.
    /// `None` below two windows.
    #[must_use]
    pub fn new(windows: &[(f64, u64)]) -> Option<Self> {
        let m = windows.len();
        if m < 2 {
            return None;
        }
        let tokens: u64 = windows.iter().map(|window| window.1).sum();
        let n = tokens.max(1) as f64;
        let mean = windows.iter().map(|window| window.0).sum::<f64>() / n;
        let residuals: f64 = windows.iter().map(|(sum, tokens)| (sum - mean * *tokens as f64).powi(2)).sum();
        let se = (residuals * m as f64 / (m - 1) as f64).sqrt() / n;
        // Two copies of one model differ nowhere.
        let t = if mean == 0.0 { 0.0 } else { mean / se };
        let p_value = student_t_two_sided(t, (m - 1) as f64);
        Some(Self { se, t, p_value, verdict: Verdict::new(mean, p_value) })
    }
}

/// Mean of some runs with the half width of its 95 % interval, by Student's t: the runs are the sample, and nothing is
/// known of how they spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeanInterval {
    /// Their mean.
    pub mean: f64,
    /// Half width of its 95 % interval; `None` of a single run, which tells nothing of the spread.
    pub half_width: Option<f64>,
    /// How many.
    pub n: usize,
}

impl MeanInterval {
    /// The interval of some numbers; `None` of nothing.
    #[must_use]
    pub fn new(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let half_width = (n > 1).then(|| {
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
            student_t_quantile(n - 1) * (variance / n as f64).sqrt()
        });
        Some(Self { mean, half_width, n })
    }
}

/// The t that 95 % of Student's distribution are within, by bisection.
fn student_t_quantile(degrees: usize) -> f64 {
    // Of one degree, the widest: 12.7.
    let (mut low, mut high) = (0.0, 20.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if student_t_two_sided(middle, degrees as f64) > 0.05 { low = middle } else { high = middle }
    }
    high
}

/// `P(|T| >= |t|)` of Student's t: `I_{v / (v + t²)}(v / 2, 1 / 2)`.
pub(crate) fn student_t_two_sided(t: f64, degrees: f64) -> f64 {
    if t.is_infinite() {
        return 0.0;
    }
    incomplete_beta(degrees / (degrees + t * t), 0.5 * degrees, 0.5)
}

/// Exact two-sided sign test: `P` of a split at least as uneven as `a` to `b` of a fair coin (McNemar's exact test
/// of discordant pairs).
pub(crate) fn sign_test(a: u64, b: u64) -> f64 {
    let (n, least) = (a + b, a.min(b));
    let log_choose = |k: u64| {
        let ln_factorial = |x: u64| ln_gamma(x as f64 + 1.0);
        ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
    };
    let ln_half = -(n as f64) * std::f64::consts::LN_2;
    let tail: f64 = (0..=least).map(|k| (log_choose(k) + ln_half).exp()).sum();
    (2.0 * tail).min(1.0)
}

/// Regularized incomplete beta function by its continued fraction (Abramowitz and Stegun 26.5.8), evaluated by
/// Lentz's method.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // The fraction converges quickly below the mean of the distribution; the symmetry gives the rest.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp() / a;
    let tiny = 1e-300;
    let away_from_zero = |x: f64| if x.abs() < tiny { tiny } else { x };
    let (mut c, mut d) = (1.0, 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for step in 1..500 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = fraction;
        for term in [even, odd] {
            d = 1.0 / away_from_zero(1.0 + term * d);
            c = away_from_zero(1.0 + term / c);
            fraction *= c * d;
        }
        if (fraction / before - 1.0).abs() < 1e-15 {
            break;
        }
    }
    front * fraction
}

/// `ln Γ(x)` for `x > 0`: Stirling's series behind a recurrence that brings `x` above 10.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 10.0 {
        shift += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)));
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles from a table: 12.706 for one degree, 2.776 for four, 2.262 for nine.
    #[test]
    fn intervals_of_few_runs() {
        for (degrees, t) in [(1, 12.706), (4, 2.776), (9, 2.262)] {
            assert!((student_t_quantile(degrees) - t).abs() < 1e-3, "{degrees}");
        }
        let interval = MeanInterval::new(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        // The standard deviation is sqrt(2.5), the standard error sqrt(0.5).
        assert_eq!((interval.mean, interval.n), (3.0, 5));
        assert!((interval.half_width.unwrap() - 2.776 * 0.5f64.sqrt()).abs() < 1e-3);
        assert_eq!(MeanInterval::new(&[7.0]).unwrap().half_width, None);
        assert_eq!(MeanInterval::new(&[2.0, 2.0]).unwrap().half_width, Some(0.0));
        assert!(MeanInterval::new(&[]).is_none());
    }

    #[test]
    fn gamma_is_factorial() {
        let mut factorial = 1.0f64;
        for n in 1..20 {
            assert!((ln_gamma(f64::from(n)) - factorial.ln()).abs() < 1e-11, "{n}");
            factorial *= f64::from(n);
        }
        // Γ(1/2) = sqrt(π).
        assert!((ln_gamma(0.5) - 0.5 * std::f64::consts::PI.ln()).abs() < 1e-11);
    }

    #[test]
    fn t_has_its_closed_forms() {
        for t in [0.1, 0.5, 1.0, 2.0, 5.0, 30.0f64] {
            // One degree of freedom is the Cauchy distribution; two have an algebraic one.
            let cauchy = 1.0 - 2.0 / std::f64::consts::PI * t.atan();
            assert!((student_t_two_sided(t, 1.0) - cauchy).abs() < 1e-12, "{t}");
            let two = 1.0 - t / (2.0 + t * t).sqrt();
            assert!((student_t_two_sided(-t, 2.0) - two).abs() < 1e-12, "{t}");
        }
        // Tables: 2.228 is the 5 % point of ten degrees, 1.96 that of many.
        assert!((student_t_two_sided(2.228_139, 10.0) - 0.05).abs() < 1e-6);
        assert!((student_t_two_sided(1.959_964, 1e7) - 0.05).abs() < 1e-6);
        assert_eq!(student_t_two_sided(0.0, 5.0), 1.0);
        assert_eq!(student_t_two_sided(f64::INFINITY, 5.0), 0.0);
    }

    #[test]
    fn coins() {
        // Five of five: 2 / 32. Four of five: 2 (1 + 5) / 32.
        assert!((sign_test(5, 0) - 0.0625).abs() < 1e-12);
        assert!((sign_test(1, 4) - 0.375).abs() < 1e-12);
        assert_eq!(sign_test(3, 3), 1.0);
        assert_eq!(sign_test(0, 0), 1.0);
    }

    #[test]
    fn windows_are_the_unit() {
        // Per token 1, 2 and 3 in windows of two tokens: the plain paired test of 1, 2, 3.
        let test = PairedTest::new(&[(2.0, 2), (4.0, 2), (6.0, 2)]).unwrap();
        assert!((test.se - (1.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!((test.t - 2.0 / test.se).abs() < 1e-12);
        // t = 3.464 at two degrees.
        assert!((test.p_value - (1.0 - 12f64.sqrt() / 14f64.sqrt())).abs() < 1e-12);
        assert_eq!(test.verdict, Verdict::Undecided);
        let clear = PairedTest::new(&[(-2.0, 2), (-2.1, 2), (-1.9, 2), (-2.0, 2)]).unwrap();
        assert_eq!(clear.verdict, Verdict::Better);
        let same = PairedTest::new(&[(0.0, 2), (0.0, 2)]).unwrap();
        assert_eq!((same.p_value, same.verdict), (1.0, Verdict::Undecided));
        assert_eq!(PairedTest::new(&[(1.0, 2)]), None);
    }
}
