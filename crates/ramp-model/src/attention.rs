//! Causal attention with grouped queries, rotary positions and an optional sliding window.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation::softmax};
use rayon::prelude::*;

use crate::{host, precision::Precision, rope::RopeTables, way::Way};

/// Rows of queries scored at once. A block sees only the keys up to its own end, so that about half of the
/// causal score matrix is never computed.
const QUERY_BLOCK: usize = 128;

/// The same on other devices, where scores of all keys are computed.
const DEVICE_QUERY_BLOCK: usize = 512;

/// A score that softmax turns into exactly zero.
const HIDDEN: f32 = -3.0e4;

/// How rows of projections are heads of windows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// Windows in the batch.
    pub(crate) batch: usize,
    /// Tokens of a window.
    pub(crate) seq: usize,
    /// Query heads.
    pub(crate) heads: usize,
    /// Key and value heads, each shared by `heads / kv_heads` query heads.
    pub(crate) kv_heads: usize,
    /// Channels of a head.
    pub(crate) dim: usize,
    /// Keys seen by a query, itself included.
    pub(crate) window: Option<usize>,
}

impl Heads {
    /// Query blocks: first row, rows, first key, keys.
    fn blocks(self) -> impl Iterator<Item = [usize; 4]> {
        (0..self.seq).step_by(QUERY_BLOCK).map(move |start| {
            let rows = QUERY_BLOCK.min(self.seq - start);
            let first_key = self.first_key(start);
            [start, rows, first_key, start + rows - first_key]
        })
    }

    /// The first key that a query sees.
    fn first_key(self, query: usize) -> usize {
        self.window.map_or(0, |window| (query + 1).saturating_sub(window))
    }
}

/// Attention of every query to its past; `rope` turns queries and keys first.
///
/// # Shapes
/// - `q`: `[batch * seq, heads * dim]`
/// - `k`, `v`: `[batch * seq, kv_heads * dim]`
/// - output: `[batch * seq, heads * dim]`, f32
pub(crate) fn causal_attention(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    heads: Heads,
    rope: Option<&RopeTables>,
    way: Way,
) -> Tensor<2> {
    match way {
        Way::Host => return host_attention(q, k, v, heads, rope),
        #[cfg(feature = "cuda")]
        Way::Cuda => return cuda_attention(q, k, v, heads, rope),
        Way::Burn => {}
    }
    let Heads { batch, seq, dim, .. } = heads;
    let split = |x: Tensor<2>, heads: usize| x.reshape([batch, seq, heads, dim]).swap_dims(1, 2);
    let [q, k, v] = [q, k, v].map(|x| Precision::F32.cast(x));
    let turn = |x: Tensor<4>| rope.map_or(x.clone(), |rope| rope.apply(x));
    let (q, k) = (turn(split(q, heads.heads)), turn(split(k, heads.kv_heads)));
    let a = device_attention(q, k, &split(v, heads.kv_heads), heads);
    a.swap_dims(1, 2).reshape([batch * seq, heads.heads * dim])
}

/// By cuBLAS and our own kernels, in the type of the projections; only the softmax is f32 always.
#[cfg(feature = "cuda")]
fn cuda_attention(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    shape: Heads,
    rope: Option<&RopeTables>,
) -> Tensor<2> {
    let Heads { seq, heads, kv_heads, dim, window, .. } = shape;
    let turn = |x: Tensor<2>| match rope {
        Some(rope) => {
            let [cos, sin] = rope.on_device();
            ramp_cuda::ops::rope(x, cos, sin, seq)
        }
        None => x,
    };
    let heads = ramp_cuda::ops::Heads { seq, heads, kv_heads, dim, window: window.unwrap_or(usize::MAX) };
    ramp_cuda::ops::attention(turn(q), turn(k), v, heads)
}

/// `[batch, heads, seq, dim]` and `[batch, kv_heads, seq, dim]`, by the operations that every device has.
///
/// A GPU compiles and tunes a product for every class of shapes, at the cost of a minute each, so that all queries see
/// keys of one length, and half of the scores are computed for nothing: a few per cent of a large model's products.
/// In bf16, tuning the product of weights and values did not come to an end on an H100 within minutes, nor did that of
/// Burn's fused attention, so that both products are f32.
fn device_attention(q: Tensor<4>, k: Tensor<4>, v: &Tensor<4>, shape: Heads) -> Tensor<4> {
    let Heads { batch, seq, heads, kv_heads, dim, window } = shape;
    let group = heads / kv_heads;
    let device = q.device();
    let q = q * (1.0 / (dim as f64).sqrt());
    let k = k.swap_dims(2, 3); // [batch, kv_heads, head_dim, seq]

    let mut blocks = Vec::new();
    for start in (0..seq).step_by(DEVICE_QUERY_BLOCK) {
        let rows = DEVICE_QUERY_BLOCK.min(seq - start);
        let q = q.clone().narrow(2, start, rows).reshape([batch, kv_heads, group * rows, dim]);
        let scores = q.matmul(k.clone()); // [batch, kv_heads, group * rows, seq]
        let scores = scores.reshape([batch, heads, rows, seq]);
        let scores = scores.mask_fill(hidden(start, rows, seq, window, &device), HIDDEN);
        let weights = softmax(scores, 3).reshape([batch, kv_heads, group * rows, seq]);
        blocks.push(weights.matmul(v.clone()).reshape([batch, heads, rows, dim]));
    }
    if blocks.len() == 1 { blocks.remove(0) } else { Tensor::cat(blocks, 2) }
}

/// The same in host memory: heads are laid out, turned and scaled in one pass, and the mask is a range of keys that
/// the softmax of a row works on.
fn host_attention(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    shape: Heads,
    rope: Option<&RopeTables>,
) -> Tensor<2> {
    let Heads { batch, seq, heads, kv_heads, dim, .. } = shape;
    let group = heads / kv_heads;
    let device = q.device();
    let (q, k, v) = (q.into_data(), k.into_data(), v.into_data());
    let (q, k, v) = (host::values(&q), host::values(&k), host::values(&v));

    let kv_shape = [batch * kv_heads, seq, dim];
    let on_device = |values: Vec<f32>, shape: [usize; 3]| -> Tensor<3> {
        Tensor::from_data(TensorData::new(values, shape), &device)
    };
    let k = on_device(lay_out(&k, kv_heads, shape, 0, seq, rope, 1.0), kv_shape).swap_dims(1, 2);
    let v = on_device(lay_out(&v, kv_heads, shape, 0, seq, None, 1.0), kv_shape);
    let scale = 1.0 / (dim as f32).sqrt();

    let mut blocks = Vec::new();
    for [start, rows, first_key, keys] in shape.blocks() {
        let q = lay_out(&q, heads, shape, start, rows, rope, scale);
        let q = on_device(q, [batch * kv_heads, group * rows, dim]);
        let scores = q.matmul(k.clone().narrow(2, first_key, keys)); // [batch * kv_heads, group * rows, keys]
        let weights = host::rows_in_place(scores, keys, |first, chunk| {
            for (row, scores) in (first..).zip(chunk.chunks_exact_mut(keys)) {
                let query = start + row % rows;
                host::masked_softmax(scores, shape.first_key(query) - first_key..query + 1 - first_key);
            }
        });
        blocks.push(weights.matmul(v.clone().narrow(1, first_key, keys)).into_data());
    }

    // From [block][batch, head, row, dim] to [batch, seq, head, dim].
    let blocks: Vec<_> = blocks.iter().map(host::values).collect();
    let mut out = vec![0.0; batch * seq * heads * dim];
    out.par_chunks_mut(heads * dim).enumerate().for_each(|(token, out)| {
        let (window, position) = (token / seq, token % seq);
        let (block, row) = (position / QUERY_BLOCK, position % QUERY_BLOCK);
        let rows = QUERY_BLOCK.min(seq - block * QUERY_BLOCK);
        for (head, out) in out.chunks_exact_mut(dim).enumerate() {
            let at = ((window * heads + head) * rows + row) * dim;
            out.copy_from_slice(&blocks[block][at..at + dim]);
        }
    });
    Tensor::from_data(TensorData::new(out, [batch * seq, heads * dim]), &device)
}

/// Positions `start..start + rows` of `x`, `[batch * seq, heads * dim]`, turned and scaled, as
/// `[batch, heads, rows, dim]`.
fn lay_out(
    x: &[f32],
    heads: usize,
    shape: Heads,
    start: usize,
    rows: usize,
    rope: Option<&RopeTables>,
    scale: f32,
) -> Vec<f32> {
    let Heads { batch, seq, dim, .. } = shape;
    let mut out = vec![0.0; batch * heads * rows * dim];
    out.par_chunks_mut(rows * dim).enumerate().for_each(|(index, out)| {
        let (window, head) = (index / heads, index % heads);
        for (row, out) in out.chunks_exact_mut(dim).enumerate() {
            let position = start + row;
            let x = &x[((window * seq + position) * heads + head) * dim..][..dim];
            match rope {
                Some(rope) => rope.rotate(position, x, out),
                None => out.copy_from_slice(x),
            }
            if scale != 1.0 {
                out.iter_mut().for_each(|x| *x *= scale);
            }
        }
    });
    out
}

/// Where query `start + i` may not see key `j`; `[1, 1, rows, keys]`.
fn hidden(
    start: usize,
    rows: usize,
    keys: usize,
    sliding_window: Option<usize>,
    device: &Device,
) -> Tensor<4, Bool> {
    let place = |range: std::ops::Range<usize>, shape: [usize; 4]| -> Tensor<4, Int> {
        Tensor::<1, Int>::arange(range.start as i64..range.end as i64, device).reshape(shape)
    };
    let shape = [1, 1, rows, keys];
    let query = place(start..start + rows, [1, 1, rows, 1]).expand(shape);
    let key = place(0..keys, [1, 1, 1, keys]).expand(shape);
    let ahead = key.clone().greater(query.clone());
    match sliding_window.filter(|window| *window < keys) {
        Some(window) => ahead.bool_or((query - key).greater_equal_elem(window as i64)),
        None => ahead,
    }
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
        let shape @ [heads, kv, seq, dim] = [4, 2, DEVICE_QUERY_BLOCK + 37, 8];
        let noise = |n: usize, seed: u32| -> Vec<f32> {
            (0..n as u32)
                .map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 16) as f32 / 16384.0 - 2.0)
                .collect()
        };
        let (q, k, v) = (noise(heads * seq * dim, 1), noise(kv * seq * dim, 77), noise(kv * seq * dim, 1234));
        // From [heads, seq, dim] to two equal windows of [seq, heads * dim].
        let rows = |x: &[f32], h: usize| -> Tensor<2> {
            let x: Tensor<3> = Tensor::from_data(TensorData::new(x.to_vec(), [h, seq, dim]), &device);
            x.swap_dims(0, 1).reshape([seq, h * dim]).repeat_dim(0, 2)
        };
        for window in [None, Some(1), Some(50), Some(4096)] {
            let shape_of = Heads { batch: 2, seq, heads, kv_heads: kv, dim, window };
            let expected = naive(&q, &k, &v, shape, window.unwrap_or(usize::MAX));
            let (f32, bf16) = (Precision::F32, Precision::Bf16);
            for (precision, way, close) in
                [(f32, Way::Burn, 1e-4), (f32, Way::Host, 1e-4), (bf16, Way::Burn, 0.05)]
            {
                let [q, k, v] = [rows(&q, heads), rows(&k, kv), rows(&v, kv)].map(|x| precision.cast(x));
                let got = causal_attention(q, k, v, shape_of, None, way);
                assert_eq!(got.dtype(), Precision::F32.dtype().into());
                let got = got.reshape([2, seq, heads, dim]).swap_dims(1, 2).try_into_vec_as::<f32>().unwrap();
                for got in got.chunks(expected.len()) {
                    let worst = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(worst < close, "window {window:?}, {precision:?}, {way:?}: {worst}");
                }
            }
        }
    }
}
