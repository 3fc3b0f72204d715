//! The forward pass against its definition in f64, written without Burn and without tricks.

use burn::tensor::Device;
use ramp_model::{
    Architecture, CausalLm, LayerId, ModelConfig, ModelFiles, NormId, Parameter, Role, RopeScaling,
};

use crate::random;

type Rows = Vec<Vec<f64>>;

struct Oracle<'a>(&'a CausalLm);

impl Oracle<'_> {
    fn config(&self) -> &ModelConfig {
        self.0.config()
    }

    fn vector(&self, parameter: Parameter) -> Option<Vec<f64>> {
        let known = self.config().parameters().contains(&parameter);
        known.then(|| self.0.parameter_data(parameter).unwrap().into_iter().map(f64::from).collect())
    }

    fn matrix(&self, parameter: Parameter) -> Rows {
        let columns = self.config().parameter_shape(parameter)[1];
        self.vector(parameter).unwrap().chunks(columns).map(<[f64]>::to_vec).collect()
    }

    fn norm(&self, id: NormId, xs: &[Vec<f64>]) -> Rows {
        let weight = self.vector(Parameter::Norm(id)).unwrap();
        let bias = self.vector(Parameter::NormBias(id));
        let eps = self.config().norm_eps;
        let norm = |x: &Vec<f64>| -> Vec<f64> {
            let n = x.len() as f64;
            let mean = if bias.is_some() { x.iter().sum::<f64>() / n } else { 0.0 };
            let deviation = (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n + eps).sqrt();
            let bias = |i: usize| bias.as_ref().map_or(0.0, |bias| bias[i]);
            x.iter().enumerate().map(|(i, v)| (v - mean) / deviation * weight[i] + bias(i)).collect()
        };
        xs.iter().map(norm).collect()
    }

    fn linear(&self, id: LayerId, xs: &[Vec<f64>]) -> Rows {
        let w = self.matrix(Parameter::Matrix(id));
        let bias = self.vector(Parameter::Bias(id)).unwrap_or_else(|| vec![0.0; w.len()]);
        let dot = |x: &[f64], row: &[f64]| -> f64 { x.iter().zip(row).map(|(a, b)| a * b).sum() };
        xs.iter().map(|x| w.iter().zip(&bias).map(|(row, b)| dot(x, row) + b).collect()).collect()
    }

    /// Position `t` of a head: pairs (i, i + dim / 2) turn by `t * theta^(-2i / dim)`, before scaling.
    fn rotate(&self, t: usize, head: &mut [f64]) {
        let (dim, theta) = (head.len(), self.config().rope_theta);
        for i in 0..dim / 2 {
            let freq = theta.powf(-2.0 * i as f64 / dim as f64);
            let (freq, size) = match self.config().rope_scaling {
                None => (freq, 1.0),
                Some(RopeScaling::Yarn { factor, original_context }) => {
                    // Wavelengths longer than the original context are divided, those that turn 32 times in it kept;
                    // the ramp between is over the index of the pair, with its ends rounded outwards.
                    let pair = |turns: f64| {
                        let freq = turns * std::f64::consts::TAU / original_context;
                        -(freq.ln() / theta.ln()) * dim as f64 / 2.0
                    };
                    let (low, high) = (pair(32.0).floor().max(0.0), pair(1.0).ceil().min(dim as f64 - 1.0));
                    let share = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    (freq * (1.0 - share) + freq / factor * share, 1.0 + 0.1 * factor.ln())
                }
                ref other => panic!("{other:?} is not part of this test"),
            };
            let (sin, cos) = (t as f64 * freq).sin_cos();
            let (a, b) = (head[i], head[i + dim / 2]);
            head[i] = (a * cos - b * sin) * size;
            head[i + dim / 2] = (b * cos + a * sin) * size;
        }
    }

    /// Rows of heads to heads as rows, for the norms of single heads.
    fn norm_heads(&self, id: NormId, rows: Rows) -> Rows {
        if self.config().architecture != Architecture::Qwen3 {
            return rows;
        }
        let norm = |row: Vec<f64>| {
            let heads: Rows = row.chunks(self.config().head_dim).map(<[f64]>::to_vec).collect();
            self.norm(id, &heads).concat()
        };
        rows.into_iter().map(norm).collect()
    }

    fn attention(&self, block: usize, h: &[Vec<f64>]) -> Rows {
        let c = self.config();
        let id = |role| LayerId::Block { block, role };
        let (q, k, v): (Rows, Rows, Rows) = if c.architecture == Architecture::Gpt2 {
            let (width, rows) = (c.hidden_size, self.linear(id(Role::Qkv), h));
            let part =
                |at: usize| rows.iter().map(|row| row[at * width..(at + 1) * width].to_vec()).collect();
            (part(0), part(1), part(2))
        } else {
            (self.linear(id(Role::Q), h), self.linear(id(Role::K), h), self.linear(id(Role::V), h))
        };
        let (mut q, mut k) =
            (self.norm_heads(NormId::QHead(block), q), self.norm_heads(NormId::KHead(block), k));
        if c.architecture != Architecture::Gpt2 {
            for (t, (q, k)) in q.iter_mut().zip(&mut k).enumerate() {
                q.chunks_mut(c.head_dim).for_each(|head| self.rotate(t, head));
                k.chunks_mut(c.head_dim).for_each(|head| self.rotate(t, head));
            }
        }
        let mut out = vec![vec![0.0; c.n_heads * c.head_dim]; h.len()];
        for t in 0..h.len() {
            for head in 0..c.n_heads {
                let at = head * c.head_dim..(head + 1) * c.head_dim;
                let kv = head * c.n_kv_heads / c.n_heads;
                let kv_at = kv * c.head_dim..(kv + 1) * c.head_dim;
                let scores: Vec<f64> = (0..=t)
                    .map(|s| {
                        let dot: f64 =
                            q[t][at.clone()].iter().zip(&k[s][kv_at.clone()]).map(|(a, b)| a * b).sum();
                        dot / (c.head_dim as f64).sqrt()
                    })
                    .collect();
                let max = scores.iter().copied().fold(f64::MIN, f64::max);
                let total: f64 = scores.iter().map(|score| (score - max).exp()).sum();
                for (s, score) in scores.iter().enumerate() {
                    for (o, value) in out[t][at.clone()].iter_mut().zip(&v[s][kv_at.clone()]) {
                        *o += (score - max).exp() / total * value;
                    }
                }
            }
        }
        self.linear(id(Role::O), &out)
    }

    fn feed_forward(&self, block: usize, h: &[Vec<f64>]) -> Rows {
        let id = |role| LayerId::Block { block, role };
        let up = self.linear(id(Role::Up), h);
        let inner: Rows = if self.config().architecture == Architecture::Gpt2 {
            // Hendrycks and Gimpel's approximation of GELU.
            let gelu = |x: &f64| {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            };
            up.iter().map(|row| row.iter().map(gelu).collect()).collect()
        } else {
            let swiglu = |g: &Vec<f64>, u: &Vec<f64>| {
                g.iter().zip(u).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect()
            };
            self.linear(id(Role::Gate), h).iter().zip(&up).map(|(g, u)| swiglu(g, u)).collect()
        };
        self.linear(id(Role::Down), &inner)
    }

    fn logits(&self, tokens: &[u32]) -> Rows {
        let embedding = self.matrix(Parameter::Matrix(LayerId::TokenEmbd));
        let mut x: Rows = tokens.iter().map(|&t| embedding[t as usize].clone()).collect();
        let add = |x: &mut Rows, y: Rows| {
            x.iter_mut().zip(y).for_each(|(x, y)| x.iter_mut().zip(y).for_each(|(x, y)| *x += y));
        };
        if self.config().architecture == Architecture::Gpt2 {
            add(&mut x, self.matrix(Parameter::PositionEmbd));
        }
        for block in 0..self.config().n_blocks {
            let y = self.attention(block, &self.norm(NormId::Attn(block), &x));
            add(&mut x, y);
            let y = self.feed_forward(block, &self.norm(NormId::Ffn(block), &x));
            add(&mut x, y);
        }
        let tied = self.config().tie_word_embeddings;
        let head = if tied { LayerId::TokenEmbd } else { LayerId::Output };
        self.linear(head, &self.norm(NormId::Output, &x))
    }
}

/// Largest difference of logits relative to the largest logit.
fn worst(model: &CausalLm, tokens: &[u32]) -> f64 {
    let expected = Oracle(model).logits(tokens);
    let scale = expected.iter().flatten().fold(0.0, |max: f64, x| max.max(x.abs()));
    // Two equal rows: the batch axis must not leak.
    let logits: Vec<f32> = model.logits(&[tokens, tokens]).unwrap().try_into_vec_as().unwrap();
    let rows = logits.chunks(model.config().vocab_size).enumerate();
    rows.flat_map(|(row, got)| got.iter().zip(&expected[row % tokens.len()]))
        .map(|(a, b)| (f64::from(*a) - b).abs() / scale)
        .fold(0.0, |max, x| if x > max || x.is_nan() { x } else { max })
}

#[test]
fn logits_follow_the_definition() {
    let (files, model) = crate::nano();
    let worst = worst(&model, &crate::sample_tokens(&files, 24));
    assert!(worst < 1e-5, "{worst}");
}

#[test]
fn so_do_those_of_the_other_architectures() {
    let (nano, _) = crate::nano();
    let tokens = crate::sample_tokens(&nano, 100);
    for (name, config) in [
        ("qwen2", random::QWEN2),
        ("qwen3", random::QWEN3),
        ("yarn", random::QWEN2_YARN),
        ("gpt2", random::GPT2),
    ] {
        let dir = tempfile::tempdir().unwrap();
        random::folder(dir.path(), config, &crate::nano_dir());
        let model = ModelFiles::open(dir.path()).unwrap().load(&Device::flex()).unwrap();
        let worst = worst(&model, &tokens);
        assert!(worst < 2e-5, "{name}: {worst}");
    }
}
