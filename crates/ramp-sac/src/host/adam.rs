//! Adam over one flat vector of parameters, with clipping, and averaging of targets.

use pulp::Arch;
use rayon::prelude::*;

/// Parameters of one task: enough to pay for it.
const PART: usize = 1 << 16;

/// First and second moments of the gradients of one network.
#[derive(Clone, Debug)]
pub(crate) struct Moments {
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
}

/// What one step of Adam is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamStep {
    pub(crate) lr: f64,
    pub(crate) epsilon: f64,
    /// Largest global L2 norm of the gradient; 0 for none.
    pub(crate) grad_clip: f64,
    /// Steps taken, this one included.
    pub(crate) time: u64,
}

/// Exponential decay of the moments (the defaults of the Adam paper and of PyTorch).
pub(crate) const BETAS: [f64; 2] = [0.9, 0.999];

impl Moments {
    pub(crate) fn zeros(len: usize) -> Self {
        Self { first: vec![0.0; len], second: vec![0.0; len] }
    }

    /// θ ← θ - lr m̂ / (√v̂ + ε), on gradients scaled to `grad_clip` if they are longer.
    pub(crate) fn step(&mut self, params: &mut [f32], grads: &[f32], step: AdamStep) {
        let factor = clip_factor(grads, step.grad_clip);
        let correction = BETAS.map(|beta| 1.0 - beta.powf(step.time as f64));
        let size = (step.lr / correction[0]) as f32;
        let spread = (1.0 / correction[1]).sqrt() as f32;
        let epsilon = step.epsilon as f32;
        let [b1, b2] = BETAS.map(|beta| beta as f32);
        let [n1, n2] = BETAS.map(|beta| (1.0 - beta) as f32);
        let moments = self.first.par_chunks_mut(PART).zip(self.second.par_chunks_mut(PART));
        let parts = params.par_chunks_mut(PART).zip(grads.par_chunks(PART)).zip(moments);
        parts.for_each(|((params, grads), (first, second))| {
            Arch::new().dispatch(|| {
                let moments = first.iter_mut().zip(second);
                for ((param, grad), (m, v)) in params.iter_mut().zip(grads).zip(moments) {
                    let grad = grad * factor;
                    *m = b1 * *m + n1 * grad;
                    *v = b2 * *v + n2 * grad * grad;
                    *param -= size * *m / (v.sqrt() * spread + epsilon);
                }
            });
        });
    }
}

/// What a gradient is multiplied with so that its norm is at most `max_norm`.
fn clip_factor(grads: &[f32], max_norm: f64) -> f32 {
    if max_norm == 0.0 {
        return 1.0;
    }
    let mut lanes = [0.0_f32; 32];
    let mut total = 0.0_f64;
    Arch::new().dispatch(|| {
        // Blocks, so that long sums are of doubles.
        for block in grads.chunks(4096) {
            lanes.fill(0.0);
            let (chunks, rest) = block.as_chunks::<32>();
            for chunk in chunks {
                lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += x * x);
            }
            let rest = rest.iter().map(|x| f64::from(x * x));
            total += lanes.iter().map(|&lane| f64::from(lane)).chain(rest).sum::<f64>();
        }
    });
    (max_norm / (total.sqrt() + 1e-6)).min(1.0) as f32
}

/// θ̄ ← (1 - τ) θ̄ + τ θ.
pub(crate) fn polyak(target: &mut [f32], online: &[f32], tau: f64) {
    let tau = tau as f32;
    target.par_chunks_mut(PART).zip(online.par_chunks(PART)).for_each(|(target, online)| {
        Arch::new().dispatch(|| {
            target.iter_mut().zip(online).for_each(|(target, online)| *target += tau * (online - *target));
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_gradient_is_scaled_to_the_norm_and_a_short_one_is_not_touched() {
        let long = vec![3.0; 10_000]; // norm 300
        assert!((clip_factor(&long, 1.0) - 1.0 / 300.0).abs() < 1e-8);
        assert_eq!(clip_factor(&[0.01; 12], 1.0), 1.0);
        assert_eq!(clip_factor(&long, 0.0), 1.0);
    }

    /// By hand, in f64, as the Adam paper has it.
    #[test]
    fn three_steps_of_adam() {
        let (mut params, mut moments) = (vec![1.0_f32], Moments::zeros(1));
        let (mut p, mut m, mut v) = (1.0_f64, 0.0_f64, 0.0_f64);
        for (time, grad) in [(1, 0.5), (2, -0.2), (3, 1e-6)] {
            let step = AdamStep { lr: 1e-2, epsilon: 1e-8, grad_clip: 0.0, time };
            moments.step(&mut params, &[grad as f32], step);
            m = 0.9 * m + 0.1 * grad;
            v = 0.999 * v + 0.001 * grad * grad;
            let t = f64::from(time as u32);
            let (m_hat, v_hat) = (m / (1.0 - 0.9_f64.powf(t)), v / (1.0 - 0.999_f64.powf(t)));
            p -= 1e-2 * m_hat / (v_hat.sqrt() + 1e-8);
            assert!((f64::from(params[0]) - p).abs() < 1e-6, "{time}: {} against {p}", params[0]);
        }
    }

    #[test]
    fn a_tiny_gradient_moves_a_full_step_as_with_pytorchs_epsilon() {
        // With Burn's 1e-5 it would be a hundredth of that.
        let (mut params, mut moments) = (vec![0.0_f32], Moments::zeros(1));
        moments.step(&mut params, &[1e-7], AdamStep { lr: 1e-3, epsilon: 1e-8, grad_clip: 1.0, time: 1 });
        assert!((params[0] + 1e-3 / 1.1).abs() < 1e-5, "{}", params[0]);
    }

    #[test]
    fn targets_move_towards_the_online_network() {
        let mut target = vec![1.0, 5.0];
        polyak(&mut target, &[3.0, 5.0], 0.25);
        assert_eq!(target, [1.5, 5.0]);
    }
}
