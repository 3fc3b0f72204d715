//! Pendulum-v1 of Gymnasium: swing a pole up and keep it there, with too little torque to lift it at once.

use std::f64::consts::PI;

/// Steps of an episode; its end is a truncation, the task itself never terminates.
pub(crate) const EPISODE_STEPS: usize = 200;

/// Largest torque in N m.
const MAX_TORQUE: f64 = 2.0;

const GRAVITY: f64 = 10.0;
const SECONDS_PER_STEP: f64 = 0.05;
const MAX_SPEED: f64 = 8.0;

/// The torque in N m that an action in (0, 1) stands for.
pub(crate) fn torque(action: f32) -> f64 {
    MAX_TORQUE * (2.0 * f64::from(action) - 1.0)
}

/// Angle from upright in rad and angular velocity in rad/s of a pole of 1 kg and 1 m.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pendulum {
    pub(crate) angle: f64,
    pub(crate) speed: f64,
}

impl Pendulum {
    /// Where an episode starts, from two uniform numbers in [0, 1): any angle, at most 1 rad/s.
    pub(crate) fn start(angle: f64, speed: f64) -> Self {
        Self { angle: (2.0 * angle - 1.0) * PI, speed: 2.0 * speed - 1.0 }
    }

    /// Applies a torque in N m for one step. Returns the reward, in [-16.2736044, 0].
    pub(crate) fn step(&mut self, torque: f64) -> f64 {
        let torque = torque.clamp(-MAX_TORQUE, MAX_TORQUE);
        let from_upright = (self.angle + PI).rem_euclid(2.0 * PI) - PI;
        let cost = from_upright.powi(2) + 0.1 * self.speed.powi(2) + 0.001 * torque.powi(2);
        let acceleration = 1.5 * GRAVITY * self.angle.sin() + 3.0 * torque;
        self.speed = (self.speed + acceleration * SECONDS_PER_STEP).clamp(-MAX_SPEED, MAX_SPEED);
        self.angle += self.speed * SECONDS_PER_STEP;
        -cost
    }

    /// What the agent sees: cosine and sine of the angle, and the speed in rad/s.
    pub(crate) fn observe(&self) -> Vec<f32> {
        vec![self.angle.cos() as f32, self.angle.sin() as f32, self.speed as f32]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(mut pole: Pendulum, torque: impl Fn(usize) -> f64) -> (f64, Pendulum) {
        let sum = (0..EPISODE_STEPS).map(|t| pole.step(torque(t))).sum();
        (sum, pole)
    }

    #[test]
    fn rollouts_match_the_reference() {
        let at = |angle, speed| Pendulum { angle, speed };
        let close =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        close(rollout(at(PI, 0.0), |_| 0.0).0, -1973.9208802);
        close(rollout(at(0.0, 0.0), |_| 0.0).0, 0.0);
        let (sum, end) = rollout(at(PI, 0.0), |_| 2.0);
        close(sum, -1499.9803127);
        close(end.angle, 3.3605539102);
        close(end.speed, -1.4527946050);
        let (sum, end) = rollout(at(1.0, -0.5), |t| 2.0 * (0.1 * t as f64).sin());
        close(sum, -1173.0965074);
        close(end.angle, 3.4955822378);
        close(end.speed, -7.3771510099);
    }

    #[test]
    fn torque_is_clipped_step_by_step() {
        let expected = [
            [0.5284223, 0.8489817, 0.2811032, -1.0260000],
            [0.4954469, 0.8686383, 0.7678395, -1.0372098],
            [0.4190359, 0.9079696, 1.7193182, -1.1706027],
            [0.3073134, 0.9516084, 2.4002954, -1.5915898],
            [0.1708265, 0.9853011, 2.8140017, -2.1637824],
        ];
        let mut pole = Pendulum { angle: 1.0, speed: -0.5 };
        for (torque, [cos, sin, speed, reward]) in [1.0, -1.0, 3.0, 0.0, -2.5].into_iter().zip(expected) {
            let found = pole.step(torque);
            let observed = pole.observe();
            for (x, y) in observed.iter().zip([cos, sin, speed]) {
                assert!((f64::from(*x) - y).abs() < 1e-6, "{observed:?}");
            }
            assert!((found - reward).abs() < 1e-6, "{found}");
        }
    }
}
