//! Adam on numbers in host memory.

/// Parameters with the moments of Adam.
///
/// # Source
/// Kingma and Ba, "Adam" (arXiv 1412.6980), algorithm 1, with its β of 0.9 and 0.999 and its ε of 1e-8.
#[derive(Clone, Debug)]
pub(super) struct Learned {
    pub(super) values: Vec<f32>,
    m: Vec<f64>,
    v: Vec<f64>,
    steps: i32,
}

impl Learned {
    pub(super) fn new(values: Vec<f32>) -> Self {
        let n = values.len();
        Self { values, m: vec![0.0; n], v: vec![0.0; n], steps: 0 }
    }

    pub(super) fn step(&mut self, gradient: &[f32], learning_rate: f64) {
        const BETA: [f64; 2] = [0.9, 0.999];
        self.steps = self.steps.saturating_add(1);
        let bias = BETA.map(|beta| 1.0 - beta.powi(self.steps));
        for (((value, &g), m), v) in self.values.iter_mut().zip(gradient).zip(&mut self.m).zip(&mut self.v) {
            let g = f64::from(g);
            *m = BETA[0] * *m + (1.0 - BETA[0]) * g;
            *v = BETA[1] * *v + (1.0 - BETA[1]) * g * g;
            *value -= (learning_rate * (*m / bias[0]) / ((*v / bias[1]).sqrt() + 1e-8)) as f32;
        }
    }
}
