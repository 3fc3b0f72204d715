//! The forward pass against its definition in f64, written without Burn and without tricks.

use ramp_model::{CausalLm, LayerId, NormId, Role};

struct Oracle<'a>(&'a CausalLm);

impl Oracle<'_> {
    fn matrix(&self, id: LayerId) -> Vec<Vec<f64>> {
        let columns = self.0.config().shape(id)[1];
        let data = self.0.weight_data(id).unwrap();
        data.chunks(columns).map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect()
    }

    fn norm(&self, id: NormId, xs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let weight: Vec<f32> = self.0.norm(id).unwrap().try_into_vec_as().unwrap();
        let eps = self.0.config().rms_norm_eps;
        let norm = |x: &Vec<f64>| {
            let rms = (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64 + eps).sqrt();
            x.iter().zip(&weight).map(|(v, w)| v / rms * f64::from(*w)).collect()
        };
        xs.iter().map(norm).collect()
    }

    fn linear(&self, id: LayerId, xs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let w = self.matrix(id);
        let dot = |x: &[f64], row: &[f64]| x.iter().zip(row).map(|(a, b)| a * b).sum();
        xs.iter().map(|x| w.iter().map(|row| dot(x, row)).collect()).collect()
    }

    /// Position `t` of a head: pairs (i, i + dim / 2) turn by `t * theta^(-2i / dim)`.
    fn rotate(&self, t: usize, head: &mut [f64]) {
        let dim = head.len();
        for i in 0..dim / 2 {
            let angle = t as f64 * self.0.config().rope_theta.powf(-2.0 * i as f64 / dim as f64);
            let (a, b) = (head[i], head[i + dim / 2]);
            head[i] = a * angle.cos() - b * angle.sin();
            head[i + dim / 2] = b * angle.cos() + a * angle.sin();
        }
    }

    fn attention(&self, block: usize, h: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let c = self.0.config();
        let id = |role| LayerId::Block { block, role };
        let (mut q, mut k, v) =
            (self.linear(id(Role::Q), h), self.linear(id(Role::K), h), self.linear(id(Role::V), h));
        for (t, (q, k)) in q.iter_mut().zip(&mut k).enumerate() {
            q.chunks_mut(c.head_dim).for_each(|head| self.rotate(t, head));
            k.chunks_mut(c.head_dim).for_each(|head| self.rotate(t, head));
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
                        (dot / (c.head_dim as f64).sqrt()).exp()
                    })
                    .collect();
                let total: f64 = scores.iter().sum();
                for (s, score) in scores.iter().enumerate() {
                    for (o, value) in out[t][at.clone()].iter_mut().zip(&v[s][kv_at.clone()]) {
                        *o += score / total * value;
                    }
                }
            }
        }
        self.linear(id(Role::O), &out)
    }

    fn feed_forward(&self, block: usize, h: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let id = |role| LayerId::Block { block, role };
        let (gate, up) = (self.linear(id(Role::Gate), h), self.linear(id(Role::Up), h));
        let swiglu =
            |g: &Vec<f64>, u: &Vec<f64>| g.iter().zip(u).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
        let inner: Vec<Vec<f64>> = gate.iter().zip(&up).map(|(g, u)| swiglu(g, u)).collect();
        self.linear(id(Role::Down), &inner)
    }

    fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let embedding = self.matrix(LayerId::TokenEmbd);
        let mut x: Vec<Vec<f64>> = tokens.iter().map(|&t| embedding[t as usize].clone()).collect();
        let add = |x: &mut Vec<Vec<f64>>, y: Vec<Vec<f64>>| {
            x.iter_mut().zip(y).for_each(|(x, y)| x.iter_mut().zip(y).for_each(|(x, y)| *x += y));
        };
        for block in 0..self.0.config().n_blocks {
            let y = self.attention(block, &self.norm(NormId::Attn(block), &x));
            add(&mut x, y);
            let y = self.feed_forward(block, &self.norm(NormId::Ffn(block), &x));
            add(&mut x, y);
        }
        self.linear(LayerId::Output, &self.norm(NormId::Output, &x))
    }
}

#[test]
fn logits_follow_the_definition() {
    let (files, model) = crate::nano();
    let tokens = crate::sample_tokens(&files, 24);
    let expected = Oracle(&model).logits(&tokens);
    // Two equal rows: the batch axis must not leak.
    let logits: Vec<f32> = model.logits(&[&tokens, &tokens]).unwrap().try_into_vec_as().unwrap();
    let vocab = files.config().vocab_size;
    for (row, got) in logits.chunks(vocab).enumerate() {
        let expected = &expected[row % tokens.len()];
        let worst = got.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-4, "row {row}: {worst}");
    }
}
