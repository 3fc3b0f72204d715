//! Causal attention with grouped queries and an optional sliding window.

use burn::tensor::{Device, Tensor, TensorData, activation::softmax};

/// Rows of queries scored at once. A block sees only the keys up to its own end, so that about half of the
/// causal score matrix is never computed.
const QUERY_BLOCK: usize = 128;

/// A score that softmax turns into exactly zero in f32, finite in f16.
const HIDDEN: f32 = -3.0e4;

/// Attention of every query to its past.
///
/// # Shapes
/// - `q`: `[batch, heads, seq, head_dim]`
/// - `k`, `v`: `[batch, kv_heads, seq, head_dim]`, each shared by `heads / kv_heads` query heads
/// - output: `[batch, heads, seq, head_dim]`
pub(crate) fn causal_attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: &Tensor<4>,
    sliding_window: Option<usize>,
) -> Tensor<4> {
    let [batch, heads, seq, dim] = q.dims();
    let kv_heads = k.dims()[1];
    let group = heads / kv_heads;
    let device = q.device();
    let q = q * (1.0 / (dim as f64).sqrt());
    let k = k.swap_dims(2, 3); // [batch, kv_heads, head_dim, seq]

    let mut blocks = Vec::new();
    for start in (0..seq).step_by(QUERY_BLOCK) {
        let rows = QUERY_BLOCK.min(seq - start);
        let first_key = sliding_window.map_or(0, |window| (start + 1).saturating_sub(window));
        let keys = start + rows - first_key;
        let q = q.clone().narrow(2, start, rows).reshape([batch, kv_heads, group * rows, dim]);
        let scores = q.matmul(k.clone().narrow(3, first_key, keys)); // [batch, kv_heads, group * rows, keys]
        let scores = scores.reshape([batch, heads, rows, keys])
            + mask(start, rows, first_key, keys, sliding_window, &device);
        let weights = softmax(scores, 3).reshape([batch, kv_heads, group * rows, keys]);
        let values = weights.matmul(v.clone().narrow(2, first_key, keys));
        blocks.push(values.reshape([batch, heads, rows, dim]));
    }
    if blocks.len() == 1 { blocks.remove(0) } else { Tensor::cat(blocks, 2) }
}

/// Zero where query `start + i` may see key `first_key + j`, [`HIDDEN`] elsewhere; `[1, 1, rows, keys]`.
fn mask(
    start: usize,
    rows: usize,
    first_key: usize,
    keys: usize,
    sliding_window: Option<usize>,
    device: &Device,
) -> Tensor<4> {
    let visible =
        |query: usize, key: usize| key <= query && sliding_window.is_none_or(|window| query - key < window);
    let values: Vec<f32> = (start..start + rows)
        .flat_map(|query| {
            (first_key..first_key + keys).map(move |key| if visible(query, key) { 0.0 } else { HIDDEN })
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [1, 1, rows, keys]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, one query at a time.
    fn naive(q: &[f32], k: &[f32], v: &[f32], [heads, kv, seq, dim]: [usize; 4], window: usize) -> Vec<f32> {
        let mut out = vec![0.0; heads * seq * dim];
        for h in 0..heads {
            let g = h / (heads / kv);
            for i in 0..seq {
                let first = (i + 1).saturating_sub(window);
                let row = &q[(h * seq + i) * dim..][..dim];
                let scores: Vec<f64> = (first..=i)
                    .map(|j| {
                        let key = &k[(g * seq + j) * dim..][..dim];
                        row.iter().zip(key).map(|(a, b)| f64::from(a * b)).sum::<f64>() / (dim as f64).sqrt()
                    })
                    .collect();
                let max = scores.iter().copied().fold(f64::MIN, f64::max);
                let total: f64 = scores.iter().map(|s| (s - max).exp()).sum();
                for (j, s) in (first..=i).zip(&scores) {
                    for d in 0..dim {
                        let p = ((s - max).exp() / total) as f32;
                        out[(h * seq + i) * dim + d] += p * v[(g * seq + j) * dim + d];
                    }
                }
            }
        }
        out
    }

    #[test]
    fn blocks_grouping_and_window_follow_the_definition() {
        let device = Device::flex();
        let shape @ [heads, kv, seq, dim] = [4, 2, QUERY_BLOCK + 37, 8];
        let noise = |n: usize, seed: u32| -> Vec<f32> {
            (0..n as u32)
                .map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 16) as f32 / 16384.0 - 2.0)
                .collect()
        };
        let (q, k, v) = (noise(heads * seq * dim, 1), noise(kv * seq * dim, 77), noise(kv * seq * dim, 1234));
        let tensor =
            |x: &[f32], h: usize| Tensor::from_data(TensorData::new(x.to_vec(), [1, h, seq, dim]), &device);
        for window in [None, Some(1), Some(50), Some(4096)] {
            let got = causal_attention(tensor(&q, heads), tensor(&k, kv), &tensor(&v, kv), window);
            let got = got.try_into_vec_as::<f32>().unwrap();
            let expected = naive(&q, &k, &v, shape, window.unwrap_or(usize::MAX));
            let worst = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "window {window:?}: {worst}");
        }
    }
}
