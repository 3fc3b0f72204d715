//! The forward pass of Llama and Mistral models on Burn.

use burn::tensor::{Device, Int, Tensor, TensorData, activation::silu};

use crate::{
    attention::causal_attention,
    config::ModelConfig,
    error::{Error, Result},
    layer::{LayerId, Role},
    rope::{Rope, RopeTables},
    source::WeightSource,
    taps::Tap,
};

/// Which RMSNorm of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NormId {
    /// `blk.N.attn_norm.weight`, in front of q, k and v.
    Attn(usize),
    /// `blk.N.ffn_norm.weight`, in front of gate and up.
    Ffn(usize),
    /// `output_norm.weight`, in front of the head.
    Output,
}

impl NormId {
    /// The GGUF tensor name.
    #[must_use]
    pub fn gguf_name(self) -> String {
        match self {
            Self::Attn(block) => format!("blk.{block}.attn_norm.weight"),
            Self::Ffn(block) => format!("blk.{block}.ffn_norm.weight"),
            Self::Output => "output_norm.weight".into(),
        }
    }

    /// The Hugging Face tensor name.
    #[must_use]
    pub fn hf_name(self) -> String {
        match self {
            Self::Attn(block) => format!("model.layers.{block}.input_layernorm.weight"),
            Self::Ffn(block) => format!("model.layers.{block}.post_attention_layernorm.weight"),
            Self::Output => "model.norm.weight".into(),
        }
    }
}

/// A decoder-only language model whose weights live on a device.
///
/// Cloning copies handles, not weights, and [`CausalLm::set_weight`] swaps one handle: that is how a search
/// tries allocations without copying anything.
#[derive(Clone, Debug)]
pub struct CausalLm {
    config: ModelConfig,
    device: Device,
    token_embd: Tensor<2>,
    blocks: Vec<Block>,
    output_norm: Tensor<1>,
    /// `None` when tied to the embedding.
    output: Option<Tensor<2>>,
    rope: Rope,
}

#[derive(Clone, Debug)]
struct Block {
    attn_norm: Tensor<1>,
    ffn_norm: Tensor<1>,
    /// `[out, in]`, indexed by [`Role`].
    weights: [Tensor<2>; 7],
}

impl CausalLm {
    /// Reads every weight onto the device, as f32.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape than `config` gives it, or holds NaN or infinity.
    pub fn load(config: &ModelConfig, source: &dyn WeightSource, device: &Device) -> Result<Self> {
        let matrix = |id: LayerId| -> Result<Tensor<2>> {
            let shape = config.shape(id);
            let tensor = source.tensor_of_shape(&id.hf_name(), &shape)?;
            Ok(Tensor::from_data(TensorData::new(tensor.data, shape), device))
        };
        let norm = |id: NormId| -> Result<Tensor<1>> {
            let tensor = source.tensor_of_shape(&id.hf_name(), &[config.hidden_size])?;
            Ok(Tensor::from_data(TensorData::new(tensor.data, [config.hidden_size]), device))
        };
        let blocks = (0..config.n_blocks)
            .map(|block| {
                let weight = |role| matrix(LayerId::Block { block, role });
                Ok(Block {
                    attn_norm: norm(NormId::Attn(block))?,
                    ffn_norm: norm(NormId::Ffn(block))?,
                    weights: [
                        weight(Role::Q)?,
                        weight(Role::K)?,
                        weight(Role::V)?,
                        weight(Role::O)?,
                        weight(Role::Gate)?,
                        weight(Role::Up)?,
                        weight(Role::Down)?,
                    ],
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            config: config.clone(),
            device: device.clone(),
            token_embd: matrix(LayerId::TokenEmbd)?,
            blocks,
            output_norm: norm(NormId::Output)?,
            output: if config.tie_word_embeddings { None } else { Some(matrix(LayerId::Output)?) },
            rope: Rope::new(config),
        })
    }

    /// Shape and constants.
    #[must_use]
    pub const fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device of the weights.
    #[must_use]
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// A matrix, `[out, in]`.
    ///
    /// # Errors
    /// When the model has no such matrix.
    pub fn weight(&self, id: LayerId) -> Result<Tensor<2>> {
        let weight = match id {
            LayerId::TokenEmbd => Some(&self.token_embd),
            LayerId::Output => self.output.as_ref(),
            LayerId::Block { block, role } => self.blocks.get(block).map(|b| &b.weights[role as usize]),
        };
        weight.cloned().ok_or_else(|| Error::NoSuchLayer { name: id.to_string() })
    }

    /// A matrix in host memory, row-major `[out, in]`.
    ///
    /// # Errors
    /// When the model has no such matrix, or the device fails.
    pub fn weight_data(&self, id: LayerId) -> Result<Vec<f32>> {
        to_host(self.weight(id)?)
    }

    /// Replaces a matrix by another of the same shape.
    ///
    /// # Errors
    /// When the model has no such matrix, or the shapes differ.
    pub fn set_weight(&mut self, id: LayerId, weight: Tensor<2>) -> Result<()> {
        let slot = match id {
            LayerId::TokenEmbd => Some(&mut self.token_embd),
            LayerId::Output => self.output.as_mut(),
            LayerId::Block { block, role } => {
                self.blocks.get_mut(block).map(|b| &mut b.weights[role as usize])
            }
        }
        .ok_or_else(|| Error::NoSuchLayer { name: id.to_string() })?;
        if slot.dims() != weight.dims() {
            return Err(Error::Replacement {
                name: id.to_string(),
                expected: slot.dims().to_vec(),
                found: weight.dims().to_vec(),
            });
        }
        *slot = weight;
        Ok(())
    }

    /// The weight of a norm, `[hidden]`.
    ///
    /// # Errors
    /// When the model has no such norm.
    pub fn norm(&self, id: NormId) -> Result<Tensor<1>> {
        let norm = match id {
            NormId::Attn(block) => self.blocks.get(block).map(|b| &b.attn_norm),
            NormId::Ffn(block) => self.blocks.get(block).map(|b| &b.ffn_norm),
            NormId::Output => Some(&self.output_norm),
        };
        norm.cloned().ok_or_else(|| Error::NoSuchLayer { name: id.gguf_name() })
    }

    /// Replaces the weight of a norm.
    ///
    /// # Errors
    /// When the model has no such norm, or the width differs.
    pub fn set_norm(&mut self, id: NormId, weight: Tensor<1>) -> Result<()> {
        let slot = match id {
            NormId::Attn(block) => self.blocks.get_mut(block).map(|b| &mut b.attn_norm),
            NormId::Ffn(block) => self.blocks.get_mut(block).map(|b| &mut b.ffn_norm),
            NormId::Output => Some(&mut self.output_norm),
        }
        .ok_or_else(|| Error::NoSuchLayer { name: id.gguf_name() })?;
        if slot.dims() != weight.dims() {
            return Err(Error::Replacement {
                name: id.gguf_name(),
                expected: slot.dims().to_vec(),
                found: weight.dims().to_vec(),
            });
        }
        *slot = weight;
        Ok(())
    }

    /// Looks tokens up; `[batch, seq, hidden]`.
    ///
    /// # Errors
    /// When a row is empty, rows have different lengths, or an id has no row in the embedding.
    pub fn embed(&self, batch: &[&[u32]]) -> Result<Tensor<3>> {
        let seq = batch.first().map_or(0, |row| row.len());
        let mut ids: Vec<i32> = Vec::with_capacity(batch.len() * seq);
        for (row, tokens) in batch.iter().enumerate() {
            if tokens.len() != seq || seq == 0 {
                return Err(Error::Batch { row, found: tokens.len(), expected: seq });
            }
            for &token in *tokens {
                if token as usize >= self.config.vocab_size {
                    return Err(Error::Token { token, vocab_size: self.config.vocab_size });
                }
                ids.push(token as i32);
            }
        }
        if ids.is_empty() {
            return Err(Error::Batch { row: 0, found: 0, expected: 1 });
        }
        let n = ids.len();
        let ids: Tensor<1, Int> = Tensor::from_data(TensorData::new(ids, [n]), &self.device);
        let rows = self.token_embd.clone().select(0, ids); // [batch * seq, hidden]
        Ok(rows.reshape([batch.len(), seq, self.config.hidden_size]))
    }

    /// Runs blocks `first..last` on a residual stream `[batch, seq, hidden]`.
    ///
    /// The split entry point lets a search keep the stream in front of a block and run only what follows.
    ///
    /// # Errors
    /// When the tap fails.
    pub fn run_blocks(
        &self,
        hidden: Tensor<3>,
        blocks: std::ops::Range<usize>,
        tap: &mut dyn Tap,
    ) -> Result<Tensor<3>> {
        let [batch, seq, width] = hidden.dims();
        let tables = self.rope.tables(seq, &self.device);
        let mut x = hidden.reshape([batch * seq, width]);
        for index in blocks {
            x = self.run_block(index, x, batch, &tables, tap)?;
        }
        Ok(x.reshape([batch, seq, width]))
    }

    /// One transformer block on `x`, `[batch * seq, hidden]`.
    fn run_block(
        &self,
        block: usize,
        x: Tensor<2>,
        batch: usize,
        tables: &RopeTables,
        tap: &mut dyn Tap,
    ) -> Result<Tensor<2>> {
        let b = &self.blocks[block];
        let id = |role| LayerId::Block { block, role };
        let (heads, kv_heads, dim) = (self.config.n_heads, self.config.n_kv_heads, self.config.head_dim);
        let seq = x.dims()[0] / batch;
        let split = |y: Tensor<2>, heads: usize| y.reshape([batch, seq, heads, dim]).swap_dims(1, 2);

        let h = self.rms_norm(x.clone(), &b.attn_norm);
        tap.observe(&[id(Role::Q), id(Role::K), id(Role::V)], &h)?;
        let q = tables.apply(split(b.linear(Role::Q, h.clone()), heads));
        let k = tables.apply(split(b.linear(Role::K, h.clone()), kv_heads));
        let v = split(b.linear(Role::V, h), kv_heads);
        let a = causal_attention(q, k, &v, self.config.sliding_window);
        let a = a.swap_dims(1, 2).reshape([batch * seq, heads * dim]);
        tap.observe(&[id(Role::O)], &a)?;
        let x = x + b.linear(Role::O, a);

        let h = self.rms_norm(x.clone(), &b.ffn_norm);
        tap.observe(&[id(Role::Gate), id(Role::Up)], &h)?;
        let h = silu(b.linear(Role::Gate, h.clone())) * b.linear(Role::Up, h);
        tap.observe(&[id(Role::Down)], &h)?;
        Ok(x + b.linear(Role::Down, h))
    }

    /// The final norm, `[batch, seq, hidden]` to `[batch * seq, hidden]`.
    #[must_use]
    pub fn finish(&self, hidden: Tensor<3>) -> Tensor<2> {
        let [batch, seq, width] = hidden.dims();
        self.rms_norm(hidden.reshape([batch * seq, width]), &self.output_norm)
    }

    /// The head: normed hidden states `[rows, hidden]` to logits `[rows, vocab]`.
    #[must_use]
    pub fn head(&self, normed: Tensor<2>) -> Tensor<2> {
        let weight = self.output.as_ref().unwrap_or(&self.token_embd);
        normed.matmul(weight.clone().transpose())
    }

    /// Logits of a batch of equally long rows, `[batch, seq, vocab]`.
    ///
    /// # Errors
    /// As [`CausalLm::embed`].
    pub fn logits(&self, batch: &[&[u32]]) -> Result<Tensor<3>> {
        let hidden = self.run_blocks(self.embed(batch)?, 0..self.config.n_blocks, &mut crate::taps::NoTap)?;
        let [rows, seq, _] = hidden.dims();
        Ok(self.head(self.finish(hidden)).reshape([rows, seq, self.config.vocab_size]))
    }

    /// `x / rms(x) * weight` over the last axis of `[rows, hidden]`.
    fn rms_norm(&self, x: Tensor<2>, weight: &Tensor<1>) -> Tensor<2> {
        let mean_square = x.clone().square().mean_dim(1); // [rows, 1]
        let scale = mean_square.add_scalar(self.config.rms_norm_eps).sqrt().recip();
        x * scale * weight.clone().unsqueeze()
    }
}

impl Block {
    /// `x W^T`, `[rows, in]` to `[rows, out]`.
    fn linear(&self, role: Role, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weights[role as usize].clone().transpose())
    }
}

/// Copies a tensor to host memory as f32, row-major.
pub(crate) fn to_host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.try_into_vec_as::<f32>().map_err(Error::device)
}
