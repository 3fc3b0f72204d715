//! The forward pass of every architecture on Burn.

mod to_device;

pub(crate) use to_device::{moved, placed};

use std::sync::Arc;

use burn::tensor::{
    Device, Int, Tensor, TensorData,
    activation::{sigmoid, silu},
};

use crate::{
    architecture::NormKind,
    attention::{Heads, causal_attention},
    config::ModelConfig,
    error::{Error, Result},
    host,
    layer::{LayerId, Role},
    norm::Norm,
    parameter::{NormId, Parameter},
    placement::Placement,
    precision::Precision,
    rope::{Rope, RopeTables},
    source::{HostTensor, WeightSource},
    taps::Tap,
    values::HostValues,
    way::Way,
};

/// A decoder-only language model whose weights live on a device.
///
/// Cloning copies handles, not weights, and [`CausalLm::set_weight`] swaps one handle: that is how a search
/// tries allocations without copying anything.
#[derive(Clone, Debug)]
pub struct CausalLm {
    config: ModelConfig,
    device: Device,
    precision: Precision,
    way: Way,
    token_embd: Tensor<2>,
    /// `[positions, hidden]`, where positions are learned.
    position_embd: Option<Tensor<2>>,
    blocks: Vec<Block>,
    output_norm: Norm,
    /// `None` when tied to the embedding.
    output: Option<Tensor<2>>,
    /// `None` where positions are learned.
    rope: Option<Rope>,
}

/// A half of a transformer block. Each adds its output to the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubBlock {
    /// The attention norm, attention and its output projection.
    Attention,
    /// The feed-forward norm and the feed-forward network.
    FeedForward,
}

impl SubBlock {
    /// Both, in execution order.
    pub const ALL: [Self; 2] = [Self::Attention, Self::FeedForward];
}

#[derive(Clone, Debug)]
struct Block {
    attn_norm: Norm,
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
    ffn_norm: Norm,
    /// Indexed by [`Role`]; the architecture's own roles are there.
    linears: [Option<Linear>; Role::ALL.len()],
}

#[derive(Clone, Debug)]
struct Linear {
    /// `[out, in]`.
    weight: Tensor<2>,
    /// `[out]`.
    bias: Option<Tensor<1>>,
}

impl CausalLm {
    /// Reads every weight onto the device, as f32.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape than `config` gives it, or holds NaN or infinity.
    pub fn load(config: &ModelConfig, source: &dyn WeightSource, device: &Device) -> Result<Self> {
        Self::load_as(config, source, device, Precision::F32)
    }

    /// As [`CausalLm::load`], with the matrices of the blocks in another type.
    ///
    /// # Errors
    /// As [`CausalLm::load`].
    pub fn load_as(
        config: &ModelConfig,
        source: &dyn WeightSource,
        device: &Device,
        precision: Precision,
    ) -> Result<Self> {
        let matrix = |parameter: Parameter| -> Result<Tensor<2>> {
            let HostTensor { shape, data } =
                source.tensor_of_shape(parameter, &config.parameter_shape(parameter))?;
            let columns = shape.last().copied().unwrap_or(0);
            let rows = data.len() / columns.max(1);
            Ok(placed(data, [rows, columns], device))
        };
        let vector = |parameter: Parameter| -> Result<Tensor<1>> {
            let tensor = source.tensor_of_shape(parameter, &config.parameter_shape(parameter))?;
            Ok(Tensor::from_data(TensorData::new(tensor.data, tensor.shape), device))
        };
        let architecture = config.architecture;
        let norm = |id: NormId| -> Result<Norm> {
            let has_bias = architecture.norm_kind() == NormKind::Layer;
            let bias = has_bias.then(|| vector(Parameter::NormBias(id))).transpose()?;
            Ok(Norm { weight: vector(Parameter::Norm(id))?, bias })
        };
        let head_norm = |id: NormId| architecture.norms_heads().then(|| norm(id)).transpose();
        let linear = |id: LayerId| -> Result<Linear> {
            let bias = architecture.has_bias(id).then(|| vector(Parameter::Bias(id))).transpose()?;
            let weight = precision.cast(matrix(Parameter::Matrix(id))?);
            Ok(Linear { weight, bias: bias.map(|bias| precision.cast(bias)) })
        };
        let blocks = (0..config.n_blocks)
            .map(|block| {
                let attn_norm = norm(NormId::Attn(block))?;
                let mut linears = [const { None }; Role::ALL.len()];
                for &role in architecture.roles() {
                    linears[role as usize] = Some(linear(LayerId::Block { block, role })?);
                }
                Ok(Block {
                    attn_norm,
                    q_norm: head_norm(NormId::QHead(block))?,
                    k_norm: head_norm(NormId::KHead(block))?,
                    ffn_norm: norm(NormId::Ffn(block))?,
                    linears,
                })
            })
            .collect::<Result<_>>()?;
        let output = Parameter::Matrix(LayerId::Output);
        Ok(Self {
            config: config.clone(),
            device: device.clone(),
            precision,
            way: Way::of(device, precision),
            token_embd: matrix(Parameter::Matrix(LayerId::TokenEmbd))?,
            position_embd: if architecture.is_rotary() {
                None
            } else {
                Some(matrix(Parameter::PositionEmbd)?)
            },
            blocks,
            output_norm: norm(NormId::Output)?,
            output: if config.tie_word_embeddings { None } else { Some(matrix(output)?) },
            rope: architecture.is_rotary().then(|| Rope::new(config)),
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

    /// The type of float that the blocks compute in.
    #[must_use]
    pub const fn precision(&self) -> Precision {
        self.precision
    }

    /// Whether the model computes in this process's memory, where a batch should fit the caches.
    #[must_use]
    pub const fn is_on_host(&self) -> bool {
        matches!(self.way, Way::Host)
    }

    /// A matrix from host memory, row-major `[out, in]`, as the model holds the one of that name: on its device, in
    /// its type.
    #[must_use]
    pub fn place(&self, id: LayerId, data: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
        self.placement().place(id, data, shape)
    }

    /// How the model holds its matrices: what puts others into it makes them so.
    #[must_use]
    pub fn placement(&self) -> Placement {
        Placement::new(self.device.clone(), self.precision)
    }

    /// A matrix, `[out, in]`.
    ///
    /// # Errors
    /// When the model has no such matrix.
    pub fn weight(&self, id: LayerId) -> Result<Tensor<2>> {
        let weight = match id {
            LayerId::TokenEmbd => Some(&self.token_embd),
            LayerId::Output => self.output.as_ref(),
            LayerId::Block { block, role } => self.blocks.get(block).and_then(|b| b.weight(role)),
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

    /// As [`CausalLm::weight_data`], without a copy where the matrix is in this process's memory.
    ///
    /// # Errors
    /// As [`CausalLm::weight_data`].
    pub fn weight_values(&self, id: LayerId) -> Result<HostValues> {
        HostValues::of(self.weight(id)?)
    }

    /// Replaces a matrix by another of the same shape. One of another type of float is converted; those that
    /// [`Placement`] gives are not.
    ///
    /// # Errors
    /// When the model has no such matrix, or the shapes differ.
    pub fn set_weight(&mut self, id: LayerId, weight: Tensor<2>) -> Result<()> {
        let weight = self.placement().typed(id, weight);
        let slot = match id {
            LayerId::TokenEmbd => Some(&mut self.token_embd),
            LayerId::Output => self.output.as_mut(),
            LayerId::Block { block, role } => {
                let linear = self.blocks.get_mut(block).and_then(|b| b.linears[role as usize].as_mut());
                linear.map(|linear| &mut linear.weight)
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

    /// The weight of a norm, `[channels]`.
    ///
    /// # Errors
    /// When the model has no such norm.
    pub fn norm(&self, id: NormId) -> Result<Tensor<1>> {
        Ok(self.norm_of(id)?.weight.clone())
    }

    /// The bias of a norm, `[channels]`; `None` for an RMSNorm.
    ///
    /// # Errors
    /// When the model has no such norm.
    pub fn norm_bias(&self, id: NormId) -> Result<Option<Tensor<1>>> {
        Ok(self.norm_of(id)?.bias.clone())
    }

    /// Multiplies the channels that a norm gives by `scale`, `[channels]`: its weight and, if it has one, its bias.
    ///
    /// # Errors
    /// When the model has no such norm, or the width differs.
    pub fn scale_norm(&mut self, id: NormId, scale: &Tensor<1>) -> Result<()> {
        let width = self.norm_of(id)?.weight.dims();
        if width != scale.dims() {
            return Err(Error::Replacement {
                name: id.gguf_name(),
                expected: width.to_vec(),
                found: scale.dims().to_vec(),
            });
        }
        let norm = match id {
            NormId::Attn(block) => self.blocks.get_mut(block).map(|b| &mut b.attn_norm),
            NormId::QHead(block) => self.blocks.get_mut(block).and_then(|b| b.q_norm.as_mut()),
            NormId::KHead(block) => self.blocks.get_mut(block).and_then(|b| b.k_norm.as_mut()),
            NormId::Ffn(block) => self.blocks.get_mut(block).map(|b| &mut b.ffn_norm),
            NormId::Output => Some(&mut self.output_norm),
        }
        .ok_or_else(|| Error::NoSuchLayer { name: id.gguf_name() })?;
        norm.weight = norm.weight.clone() * scale.clone();
        norm.bias = norm.bias.take().map(|bias| bias * scale.clone());
        Ok(())
    }

    /// Multiplies channels that a linear layer gives by `scale`: as many rows of its matrix, from row `first` on, and
    /// of its bias, if it has one.
    ///
    /// # Errors
    /// When the model has no such layer in a block, or the layer has fewer rows.
    pub fn scale_rows(&mut self, id: LayerId, first: usize, scale: &[f32]) -> Result<()> {
        let linear = match id {
            LayerId::Block { block, role } => {
                self.blocks.get_mut(block).and_then(|b| b.linears[role as usize].as_mut())
            }
            _ => None,
        }
        .ok_or_else(|| Error::NoSuchLayer { name: id.to_string() })?;
        let [rows, columns] = linear.weight.dims();
        let mut factors = vec![1.0_f32; rows];
        let Some(some) = factors.get_mut(first..).and_then(|rest| rest.get_mut(..scale.len())) else {
            let (expected, found) = (vec![rows, columns], vec![first.saturating_add(scale.len()), columns]);
            return Err(Error::Replacement { name: id.to_string(), expected, found });
        };
        some.copy_from_slice(scale);
        let factors: Tensor<1> = Tensor::from_data(TensorData::new(factors, [rows]), &self.device);
        let factors = self.precision.cast(factors);
        linear.weight = linear.weight.clone() * factors.clone().reshape([rows, 1]);
        linear.bias = linear.bias.take().map(|bias| bias * factors);
        Ok(())
    }

    fn norm_of(&self, id: NormId) -> Result<&Norm> {
        match id {
            NormId::Attn(block) => self.blocks.get(block).map(|b| &b.attn_norm),
            NormId::QHead(block) => self.blocks.get(block).and_then(|b| b.q_norm.as_ref()),
            NormId::KHead(block) => self.blocks.get(block).and_then(|b| b.k_norm.as_ref()),
            NormId::Ffn(block) => self.blocks.get(block).map(|b| &b.ffn_norm),
            NormId::Output => Some(&self.output_norm),
        }
        .ok_or_else(|| Error::NoSuchLayer { name: id.gguf_name() })
    }

    /// Any learned tensor in host memory, row-major in the shape of [`ModelConfig::parameter_shape`].
    ///
    /// # Errors
    /// When the model has no such tensor, or the device fails.
    pub fn parameter_data(&self, parameter: Parameter) -> Result<Vec<f32>> {
        let missing = || Error::NoSuchLayer { name: parameter.gguf_name() };
        match parameter {
            Parameter::Matrix(id) => self.weight_data(id),
            Parameter::Bias(LayerId::Block { block, role }) => {
                let linear = self.blocks.get(block).and_then(|b| b.linears[role as usize].as_ref());
                to_host(linear.and_then(|linear| linear.bias.clone()).ok_or_else(missing)?)
            }
            Parameter::Bias(_) => Err(missing()),
            Parameter::Norm(id) => to_host(self.norm(id)?),
            Parameter::NormBias(id) => to_host(self.norm_bias(id)?.ok_or_else(missing)?),
            Parameter::PositionEmbd => to_host(self.position_embd.clone().ok_or_else(missing)?),
        }
    }

    /// Looks tokens up and adds learned positions; `[batch, seq, hidden]`.
    ///
    /// # Errors
    /// When a row is empty, rows have different lengths, a row is longer than the model has positions for, or an id
    /// has no row in the embedding.
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
        if let Some(limit) = self.config.max_tokens().filter(|limit| seq > *limit) {
            return Err(Error::TooLong { found: seq, limit });
        }
        let n = ids.len();
        let ids: Tensor<1, Int> = Tensor::from_data(TensorData::new(ids, [n]), &self.device);
        let rows = self.token_embd.clone().select(0, ids); // [batch * seq, hidden]
        let rows: Tensor<3> = rows.reshape([batch.len(), seq, self.config.hidden_size]);
        Ok(match &self.position_embd {
            Some(positions) => rows + positions.clone().narrow(0, 0, seq).unsqueeze(),
            None => rows,
        })
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
        let tables = self.rope_tables(seq);
        let mut x = hidden.reshape([batch * seq, width]);
        for block in blocks {
            x = self.attention(block, x, batch, tables.as_ref(), tap)?;
            x = self.feed_forward(block, x, tap)?;
        }
        Ok(x.reshape([batch, seq, width]))
    }

    /// Runs a half of a block on a residual stream `[batch, seq, hidden]`, and gives the stream behind it.
    ///
    /// # Errors
    /// When there is no such block, or the tap fails.
    pub fn run_sub_block(
        &self,
        block: usize,
        half: SubBlock,
        hidden: Tensor<3>,
        tap: &mut dyn Tap,
    ) -> Result<Tensor<3>> {
        let [batch, seq, width] = hidden.dims();
        let x = hidden.reshape([batch * seq, width]);
        let x = match half {
            SubBlock::Attention => self.attention(block, x, batch, self.rope_tables(seq).as_ref(), tap)?,
            SubBlock::FeedForward => self.feed_forward(block, x, tap)?,
        };
        Ok(x.reshape([batch, seq, width]))
    }

    fn rope_tables(&self, seq: usize) -> Option<Arc<RopeTables>> {
        self.rope.as_ref().map(|rope| rope.tables(seq, &self.device))
    }

    fn block(&self, block: usize) -> Result<&Block> {
        self.blocks.get(block).ok_or_else(|| Error::NoSuchLayer { name: format!("blk.{block}") })
    }

    /// A linear layer of a block on `x`, `[rows, in]`.
    fn linear(&self, block: usize, role: Role, x: Tensor<2>) -> Result<Tensor<2>> {
        self.linear_as(block, role, x, self.precision)
    }

    /// The same with a result of another type; what is not rounded is better in f32.
    fn linear_as(&self, block: usize, role: Role, x: Tensor<2>, out: Precision) -> Result<Tensor<2>> {
        let linear = self.block(block)?.linears[role as usize].as_ref();
        let missing = || Error::NoSuchLayer { name: LayerId::Block { block, role }.to_string() };
        Ok(linear.ok_or_else(missing)?.apply(self.precision.cast(x), self.way, out))
    }

    /// Attention of one block and the stream `x`, `[batch * seq, hidden]`, that it is added to.
    fn attention(
        &self,
        block: usize,
        x: Tensor<2>,
        batch: usize,
        tables: Option<&Arc<RopeTables>>,
        tap: &mut dyn Tap,
    ) -> Result<Tensor<2>> {
        let b = self.block(block)?;
        let linear = |role: Role, x: Tensor<2>| self.linear(block, role, x);

        let h = self.apply_norm(&b.attn_norm, x.clone());
        tap.observe(&ids(block, self.config.architecture.attn_inputs()), &h)?;
        let h = self.precision.cast(h);
        let [q, k, v] = if b.linears[Role::Qkv as usize].is_some() {
            self.split_qkv(&linear(Role::Qkv, h)?)
        } else {
            [linear(Role::Q, h.clone())?, linear(Role::K, h.clone())?, linear(Role::V, h)?]
        };
        let (q, k) = (self.norm_heads(b.q_norm.as_ref(), q), self.norm_heads(b.k_norm.as_ref(), k));
        let heads = Heads {
            batch,
            seq: x.dims()[0] / batch,
            heads: self.config.n_heads,
            kv_heads: self.config.n_kv_heads,
            dim: self.config.head_dim,
            window: self.config.sliding_window,
        };
        let a = causal_attention(q, k, v, heads, tables.map(Arc::as_ref), self.way);
        tap.observe(&ids(block, &[Role::O]), &a)?;
        Ok(x + self.linear_as(block, Role::O, a, Precision::F32)?)
    }

    /// The feed-forward network of one block and the stream `x`, `[rows, hidden]`, that it is added to.
    fn feed_forward(&self, block: usize, x: Tensor<2>, tap: &mut dyn Tap) -> Result<Tensor<2>> {
        let b = self.block(block)?;
        let linear = |role: Role, x: Tensor<2>| self.linear(block, role, x);

        let h = self.apply_norm(&b.ffn_norm, x.clone());
        tap.observe(&ids(block, self.config.architecture.ffn_inputs()), &h)?;
        let h = self.precision.cast(h);
        let h = if b.linears[Role::Gate as usize].is_some() {
            self.swiglu(linear(Role::Gate, h.clone())?, linear(Role::Up, h)?)
        } else {
            self.gelu(linear(Role::Up, h)?)
        };
        tap.observe(&ids(block, &[Role::Down]), &h)?;
        Ok(x + self.linear_as(block, Role::Down, h, Precision::F32)?)
    }

    /// Queries, keys and values of one matrix, `[rows, (heads + 2 kv_heads) * head_dim]`.
    fn split_qkv(&self, qkv: &Tensor<2>) -> [Tensor<2>; 3] {
        let (q, kv) =
            (self.config.n_heads * self.config.head_dim, self.config.n_kv_heads * self.config.head_dim);
        [(0, q), (q, kv), (q + kv, kv)].map(|(start, width)| qkv.clone().narrow(1, start, width))
    }

    /// Norms each head of `[rows, heads * head_dim]`, where the model has such a norm.
    fn norm_heads(&self, norm: Option<&Norm>, x: Tensor<2>) -> Tensor<2> {
        let Some(norm) = norm else { return x };
        let [rows, width] = x.dims();
        let dim = self.config.head_dim;
        self.precision
            .cast(self.apply_norm(norm, x.reshape([rows * width / dim, dim])).reshape([rows, width]))
    }

    fn apply_norm(&self, norm: &Norm, x: Tensor<2>) -> Tensor<2> {
        norm.apply(Precision::F32.cast(x), self.config.norm_eps, self.way)
    }

    fn swiglu(&self, gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
        match self.way {
            Way::Host => return host::swiglu(gate, up),
            #[cfg(feature = "cuda")]
            Way::Cuda => return ramp_cuda::ops::swiglu(gate, up),
            Way::Burn => {}
        }
        self.precision.cast(silu(Precision::F32.cast(gate)) * Precision::F32.cast(up))
    }

    /// GELU in its tanh form; `tanh(x) = 2 sigmoid(2 x) - 1`.
    fn gelu(&self, x: Tensor<2>) -> Tensor<2> {
        if self.way == Way::Host {
            return host::gelu_tanh(x);
        }
        let x = Precision::F32.cast(x);
        let cube = x.clone() * x.clone().square() * f64::from(host::GELU_CUBE);
        let inner = (x.clone() + cube) * f64::from(host::GELU_SLOPE);
        self.precision.cast(x * sigmoid(inner))
    }

    /// The final norm, `[batch, seq, hidden]` to `[batch * seq, hidden]`.
    #[must_use]
    pub fn finish(&self, hidden: Tensor<3>) -> Tensor<2> {
        let [batch, seq, width] = hidden.dims();
        self.apply_norm(&self.output_norm, hidden.reshape([batch * seq, width]))
    }

    /// The head: normed hidden states `[rows, hidden]` to logits `[rows, vocab]`.
    #[must_use]
    pub fn head(&self, normed: Tensor<2>) -> Tensor<2> {
        let weight = self.output.as_ref().unwrap_or(&self.token_embd);
        transposed_product(normed, weight.clone(), self.way, Precision::F32)
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
}

/// The logits, `[rows, vocab]`, which need not be copied for it, and `ln sum exp` of each row, `[rows, 1]`.
#[must_use]
pub fn log_sum_exp(logits: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    match Way::of(&logits.device(), Precision::F32) {
        Way::Host => return host::log_sum_exp(logits),
        #[cfg(feature = "cuda")]
        Way::Cuda => return (logits.clone(), ramp_cuda::ops::log_sum_exp(logits)),
        Way::Burn => {}
    }
    let max = logits.clone().max_dim(1);
    let log_sum_exp = (logits.clone() - max.clone()).exp().sum_dim(1).log() + max;
    (logits, log_sum_exp)
}

fn ids(block: usize, roles: &[Role]) -> Vec<LayerId> {
    roles.iter().map(|&role| LayerId::Block { block, role }).collect()
}

impl Block {
    fn weight(&self, role: Role) -> Option<&Tensor<2>> {
        self.linears[role as usize].as_ref().map(|linear| &linear.weight)
    }
}

impl Linear {
    /// `x W^T + b`, `[rows, in]` to `[rows, out]` of type `out`.
    fn apply(&self, x: Tensor<2>, way: Way, out: Precision) -> Tensor<2> {
        let y = transposed_product(x, self.weight.clone(), way, out);
        match self.bias.clone() {
            None => y,
            Some(bias) if way == Way::Host => host::add_bias(y, bias),
            Some(bias) => y + out.cast(bias).unsqueeze(),
        }
    }
}

/// `x w^T`, `[rows, in]` and `[out, in]` to `[rows, out]`. The transpose is a view.
pub(crate) fn transposed_product(x: Tensor<2>, w: Tensor<2>, way: Way, out: Precision) -> Tensor<2> {
    match way {
        #[cfg(feature = "cuda")]
        Way::Cuda => ramp_cuda::ops::linear(x, w, out.dtype().into()),
        Way::Host | Way::Burn => out.cast(x.matmul(w.transpose())),
    }
}

/// Copies a tensor to host memory as f32, row-major.
pub(crate) fn to_host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.try_into_vec_as::<f32>().map_err(Error::device)
}

/// Copies numbers that a GPU keeps as the bits of f64 to host memory, row-major.
#[cfg(feature = "cuda")]
pub(crate) fn bits_to_host(bits: Tensor<2, Int>) -> Result<Vec<f64>> {
    let bits = bits.try_into_vec_as::<i64>().map_err(Error::device)?;
    Ok(bits.into_iter().map(|bits| f64::from_bits(bits as u64)).collect())
}
