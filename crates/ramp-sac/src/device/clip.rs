//! Gradient clipping by the global L2 norm of a network.

use burn::tensor::Tensor;

use crate::shape::PARAMS;

/// Scales the gradients of each network in a stack so that their joint L2 norm is at most
/// `max_norm`; 0 leaves them alone. Burn's own clipping looks at one parameter tensor at a time,
/// which changes the gradient's direction. Nothing is read back from the device.
///
/// `grads`: `[network, ..]` each.
pub(crate) fn clip_global_norm(grads: [Tensor<3>; PARAMS], max_norm: f64) -> [Tensor<3>; PARAMS] {
    if max_norm == 0.0 {
        return grads;
    }
    let squared_norm = grads
        .iter()
        .map(|grad| grad.clone().square().sum_dims(&[1, 2]))
        .reduce(|sum, part| sum + part)
        .expect("a network has parameters");
    let factor = (squared_norm.sqrt() + 1e-6).recip().mul_scalar(max_norm).clamp_max(1.0);
    grads.map(|grad| grad * factor.clone())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::device::mlp::read;

    /// Gradients of two networks: `value` in every one of the 12 elements of each network.
    fn grads(first: f32, second: f32) -> [Tensor<3>; PARAMS] {
        let device = Device::flex();
        std::array::from_fn(|_| Tensor::from_data([[[first]], [[second]]], &device))
    }

    #[test]
    fn a_long_gradient_is_scaled_and_a_short_one_is_not_touched_by_its_twin() {
        // Norms √12 · 3 and √12 · 0.01.
        let clipped = clip_global_norm(grads(3.0, 0.01), 1.0);
        let mut norm = [0.0_f32; 2];
        for grad in clipped {
            let values = read(grad).unwrap();
            norm[0] += values[0] * values[0];
            norm[1] += values[1] * values[1];
            assert_eq!(values[1], 0.01);
        }
        assert!((norm[0].sqrt() - 1.0).abs() < 1e-5, "{norm:?}");
    }

    #[test]
    fn zero_turns_clipping_off() {
        for grad in clip_global_norm(grads(30.0, -7.0), 0.0) {
            assert_eq!(read(grad).unwrap(), [30.0, -7.0]);
        }
    }
}
