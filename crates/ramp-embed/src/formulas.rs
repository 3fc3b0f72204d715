//! The static slots of one layer (Table 24).

use ramp_model::{ChannelStats, LayerId, ModelConfig, Role};

use crate::{N_STATIC, mode::FeatureMode, weight_stats::WeightStats};

/// Floor of a logarithm's argument: all zeros are a small scale, not minus infinity.
const TINY: f64 = 1e-8;

/// Mean and maximum over channels of a layer's activation scales.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ActScales {
    pub(crate) mean: f64,
    pub(crate) max: f64,
}

impl ActScales {
    /// The paper's scale of a channel is its largest magnitude (Appendix A); a mean over tokens as well as
    /// channels, which one stray token does not move, is the sound one. Both take the same maximum.
    pub(crate) fn of(stats: &ChannelStats, mode: FeatureMode) -> Self {
        let channels = match mode {
            FeatureMode::Paper => &stats.max_abs,
            FeatureMode::Section32 | FeatureMode::Sound => &stats.mean_abs,
        };
        let sum: f64 = channels.iter().map(|&x| f64::from(x)).sum();
        let max = stats.max_abs.iter().copied().fold(0.0, f32::max);
        Self { mean: sum / channels.len() as f64, max: f64::from(max) }
    }
}

/// The slots of a layer. `act` is `None` for a layer without an input of its own; slots 7 and 8 are then 0.
pub(crate) fn static_slots(
    config: &ModelConfig,
    id: LayerId,
    weight: WeightStats,
    act: Option<ActScales>,
    depth: f64,
    mode: FeatureMode,
) -> [f32; N_STATIC] {
    let [out, inp] = config.shape(id);
    let log_dim = |dim: usize| (dim as f64 / 16.0).log2();
    let slots = match mode {
        FeatureMode::Paper => {
            let act = act.map_or([0.0; 2], |act| [clip(act.mean * 100.0), clip(act.max * 1000.0)]);
            [
                depth,
                log_dim(inp),
                log_dim(out),
                clip(weight.std * 10.0),
                clip(weight.mean_abs * 10.0),
                layer_type(id),
                position(depth),
                act[0],
                act[1],
            ]
        }
        FeatureMode::Section32 | FeatureMode::Sound => {
            let act = act.map_or([0.0; 2], |act| [ln(act.mean), ln(act.max)]);
            [
                depth,
                log_dim(inp) / 16.0,
                log_dim(out) / 16.0,
                ln(weight.std),
                ln(weight.mean_abs),
                layer_type(id),
                position(depth),
                act[0],
                act[1],
            ]
        }
    };
    slots.map(|x| x as f32)
}

/// `min(x, 1)`, but NaN stays NaN.
fn clip(x: f64) -> f64 {
    if x > 1.0 { 1.0 } else { x }
}

pub(crate) fn ln(x: f64) -> f64 {
    if x < TINY { TINY.ln() } else { x.ln() }
}

/// Block index over its largest value; 0 for the embedding and in a model of one block, 1 for the head.
///
/// Table 24 has `i / (n_layers - 1)` and does not say what `i` counts; blocks make it the same in models with
/// other numbers of matrices per block.
pub(crate) fn depth(config: &ModelConfig, id: LayerId) -> f64 {
    match id {
        LayerId::TokenEmbd => 0.0,
        LayerId::Output => 1.0,
        LayerId::Block { block, .. } => block as f64 / config.n_blocks.saturating_sub(1).max(1) as f64,
    }
}

/// Whether a role is of the attention and not of the MLP.
pub(crate) const fn is_attention(role: Role) -> bool {
    matches!(role, Role::Q | Role::K | Role::V | Role::Qkv | Role::O)
}

fn layer_type(id: LayerId) -> f64 {
    match id.role() {
        Some(Role::Q | Role::K | Role::V | Role::Qkv) => 0.0,
        Some(Role::O) => 0.25,
        Some(Role::Gate) => 0.5,
        Some(Role::Up) => 0.6,
        Some(Role::Down) => 0.75,
        None => 1.0,
    }
}

pub(crate) fn position(depth: f64) -> f64 {
    match depth {
        d if d < 0.1 => 0.0,
        d if d > 0.9 => 1.0,
        _ => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_has_three_classes() {
        assert_eq!([0.0, 0.09, 0.1, 0.5, 0.9, 0.91, 1.0].map(position), [0.0, 0.0, 0.5, 0.5, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn layer_types_are_those_of_table_24() {
        let types = Role::ALL.map(|role| layer_type(LayerId::Block { block: 9, role }));
        assert_eq!(types, [0.0, 0.0, 0.0, 0.0, 0.25, 0.5, 0.6, 0.75]);
        assert_eq!([LayerId::TokenEmbd, LayerId::Output].map(layer_type), [1.0, 1.0]);
    }

    #[test]
    fn scales_follow_the_mode() {
        let stats = ChannelStats {
            mean_abs: vec![0.5, 1.0, 0.0],
            max_abs: vec![2.0, 7.0, 0.0],
            ..ChannelStats::default()
        };
        assert_eq!(ActScales::of(&stats, FeatureMode::Paper), ActScales { mean: 3.0, max: 7.0 });
        assert_eq!(ActScales::of(&stats, FeatureMode::Sound), ActScales { mean: 0.5, max: 7.0 });
    }
}
