//! The static slots of Section 3.2, which is another list in another order than Appendix A.

use ramp_model::{ChannelStats, LayerId, ModelConfig};

use crate::{N_STATIC, formulas, weight_stats::WeightStats};

/// Slots 0 to 8 of Eq. 11. `act` is `None` for a layer without an input of its own; slots 0 and 1 are then 0.
///
/// - 0: max |x| / √in, "normalised by layer width" (Eq. 12);
/// - 1: the activation-importance score, which the paper does not define: here the mean over channels of mean |x|, the
///   scale that AWQ calls importance;
/// - 2, 3: mean and standard deviation of the weights;
/// - 4: depth;
/// - 5, 6: in and out over the model's width;
/// - 7: 0 for attention, 1 for the MLP, 0.5 for neither;
/// - 8: the depth bucket: 0 early, 0.5 middle, 1 late.
pub(crate) fn slots(
    config: &ModelConfig,
    id: LayerId,
    weight: WeightStats,
    act: Option<&ChannelStats>,
    depth: f64,
) -> [f32; N_STATIC] {
    let [out, inp] = config.shape(id);
    let width = config.hidden_size.max(1) as f64;
    let activation = act.map_or([0.0; 2], |act| {
        let max = act.max_abs.iter().copied().fold(0.0, f32::max);
        let mean = act.mean_abs.iter().map(|&x| f64::from(x)).sum::<f64>() / act.mean_abs.len() as f64;
        [f64::from(max) / (inp as f64).sqrt(), mean]
    });
    let kind = match id.role() {
        Some(role) if formulas::is_attention(role) => 0.0,
        Some(_) => 1.0,
        None => 0.5,
    };
    let slots = [
        activation[0],
        activation[1],
        weight.mean,
        weight.std,
        depth,
        inp as f64 / width,
        out as f64 / width,
        kind,
        formulas::position(depth),
    ];
    slots.map(|x| x as f32)
}
