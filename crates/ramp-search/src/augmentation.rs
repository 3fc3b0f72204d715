//! Features that are not quite a layer's own: what an agent that has seen one model needs in order not to learn its layers
//! by heart.

use ramp_embed::WideTable;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::{walk_config::WalkSearchConfig, wide_walk::SIZES};

/// How measured features of a state are changed.
#[derive(Clone, Debug)]
pub(crate) struct Augmentation {
    /// Places of the measured features in a state.
    measured: Vec<usize>,
    noise: f64,
    dropout: f64,
}

impl Augmentation {
    pub(crate) fn new(config: &WalkSearchConfig, table: &WideTable) -> Self {
        let names = table.names().iter().enumerate();
        let measured = names
            .filter(|(_, name)| name.starts_with("ln_") && !SIZES.contains(&name.as_str()))
            .map(|(at, _)| at)
            .collect();
        Self { measured, noise: config.feature_noise, dropout: config.feature_dropout }
    }

    /// Changes a state in place. Its features are standardised: the mean layer has 0.
    pub(crate) fn apply(&self, state: &mut [f32], rng: &mut ChaCha8Rng) {
        for &at in &self.measured {
            let noise: f64 = rng.sample(StandardNormal);
            let dropped = rng.random::<f64>() < self.dropout;
            state[at] = if dropped { 0.0 } else { state[at] + (self.noise * noise) as f32 };
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::{Features, test_bench::Bench};

    #[test]
    fn measured_features_change_and_nothing_else() {
        let table = Bench::nano().features().wide().unwrap();
        let config =
            WalkSearchConfig { feature_noise: 0.5, feature_dropout: 0.25, ..WalkSearchConfig::discrete(0) };
        let augmentation = Augmentation::new(&config, &table);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let original = vec![1.0f32; table.state_len()];
        let (mut dropped, mut sum, mut squares, mut n) = (0, 0.0, 0.0, 0);
        for _ in 0..500 {
            let mut state = original.clone();
            augmentation.apply(&mut state, &mut rng);
            for (at, value) in state.into_iter().enumerate() {
                let name = table.names().get(at).map_or("context", String::as_str);
                if !name.starts_with("ln_") || SIZES.contains(&name) {
                    assert_eq!(value, 1.0, "{name}");
                } else if value == 0.0 {
                    dropped += 1;
                } else {
                    let change = f64::from(value - 1.0);
                    (sum, squares, n) = (sum + change, squares + change * change, n + 1);
                }
            }
        }
        let share = f64::from(dropped) / f64::from(dropped + n);
        let (mean, sd) = (sum / f64::from(n), (squares / f64::from(n)).sqrt());
        // Five thousand draws: three standard errors.
        assert!(
            (share - 0.25).abs() < 0.02 && mean.abs() < 0.03 && (sd - 0.5).abs() < 0.02,
            "{share} {mean} {sd}"
        );
    }
}
