//! The twin critics: two Q-functions of (state, action) in one stack.

use crate::{config::SacConfig, shape::MlpShape};

/// Shape of the two networks.
pub(crate) fn shape(config: &SacConfig) -> MlpShape {
    let inputs = config.state_dim + config.action_dim;
    MlpShape { networks: 2, inputs, hidden: config.hidden, outputs: 1 }
}

/// Rows (state, action) of the critics' input, `[batch, state + action]`. The action is the continuous one, on every
/// path.
pub(crate) fn join(states: &[f32], actions: &[f32], [state, action]: [usize; 2]) -> Vec<f32> {
    let rows = states.chunks_exact(state).zip(actions.chunks_exact(action));
    rows.flat_map(|(state, action)| state.iter().chain(action)).copied().collect()
}

/// The smaller of the two critics' values of each row `[batch]`, and which critic's it is, from both critics'
/// `[critic, batch]`.
pub(crate) fn least(q: &[f32]) -> Vec<(f32, usize)> {
    let (first, second) = q.split_at(q.len() / 2);
    first.iter().zip(second).map(|(&a, &b)| if b < a { (b, 1) } else { (a, 0) }).collect()
}

/// MSE(Q₁, y) + MSE(Q₂, y) with y `[batch]`, and its slopes at the values `q` `[critic, batch]`.
pub(crate) fn twin_loss(q: &[f32], y: &[f32]) -> (f64, Vec<f32>) {
    let batch = y.len() as f64;
    let mut loss = 0.0;
    let outer = q
        .iter()
        .zip(y.iter().cycle())
        .map(|(&q, &y)| {
            let error = f64::from(q) - f64::from(y);
            loss += error * error / batch;
            (2.0 * error / batch) as f32
        })
        .collect();
    (loss, outer)
}

/// Mean in f64.
pub(crate) fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let len = values.len() as f64;
    values.sum::<f64>() / len
}
