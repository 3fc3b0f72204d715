//! Operations on Burn's tensors. They need a device of which [`is_available`](crate::is_available) is true, and panic on
//! another one, as Burn's own do.

mod attention;
mod blocks;
mod encode;
mod linear;
mod rows;
mod sums;
mod upload;

use burn::{
    backend::{
        Backend, Dispatch, backend_extension,
        fusion::custom::TensorSpec,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, Device, Int, Shape, Tensor},
};
use burn_cubecl::{CubeBackend, tensor::CubeTensor};

pub use self::upload::HostSource;
use crate::error::{Error, Result};

/// How rows of projections are heads of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Tokens of a window; rows are windows of them, one after the other.
    pub seq: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, each shared by `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Channels of a head.
    pub dim: usize,
    /// Keys that a query sees, itself included.
    pub window: usize,
}

/// A type of packed super-blocks of 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KQuant {
    /// Q2_K.
    Q2,
    /// Q3_K.
    Q3,
    /// Q4_K.
    Q4,
    /// Q5_K.
    Q5,
    /// Q6_K.
    Q6,
    /// IQ4_XS.
    Iq4Xs,
}

impl KQuant {
    /// Bytes of a super-block.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Q2 => 84,
            Self::Q3 => 110,
            Self::Q4 => 144,
            Self::Q5 => 176,
            Self::Q6 => 210,
            Self::Iq4Xs => 136,
        }
    }

    /// Whether weights are encoded on the device.
    #[must_use]
    pub const fn has_encoder(self) -> bool {
        self.encoder().is_some()
    }

    /// The kernel, and the sub-blocks of a super-block.
    const fn encoder(self) -> Option<(&'static str, usize)> {
        match self {
            Self::Q3 => Some(("encode_q3_k", 16)),
            Self::Q4 => Some(("encode_q4_k", 8)),
            Self::Q5 => Some(("encode_q5_k", 8)),
            Self::Q6 => Some(("encode_q6_k", 16)),
            Self::Q2 | Self::Iq4Xs => None,
        }
    }

    const fn kernel(self) -> &'static str {
        match self {
            Self::Q2 => "q2_k",
            Self::Q3 => "q3_k",
            Self::Q4 => "q4_k",
            Self::Q5 => "q5_k",
            Self::Q6 => "q6_k",
            Self::Iq4Xs => "iq4_xs",
        }
    }
}

/// How the zero point of a group is found; see ramp-quant's `affine::ZeroPoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum ZeroPoint {
    /// A code; the range is extended to 0.
    InRange = 0,
    /// Any integer.
    Printed = 1,
    /// A code, clamped.
    Clamped = 2,
    /// The middle.
    Symmetric = 3,
}

/// Groups of weights of a row that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AffineGroups {
    /// Weights of a group; the last one of a row may have less.
    pub group: usize,
    /// The largest code.
    pub max_code: u8,
    /// How the zero point is found.
    pub zero_point: ZeroPoint,
}

/// The operations, as Burn finds them.
#[doc(hidden)]
#[backend_extension(Cube, Fusion)]
pub trait Ops: Backend {
    #[fusion(dtype = *out, shape = Shape::new([x[0], w[0]]))]
    fn ramp_linear(x: FloatTensor<Self>, w: FloatTensor<Self>, out: DType) -> FloatTensor<Self>;

    #[fusion(dtype = x, shape = x)]
    fn ramp_rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        seq: usize,
    ) -> FloatTensor<Self>;

    #[fusion(dtype = DType::F32, shape = q)]
    fn ramp_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        heads: Heads,
    ) -> FloatTensor<Self>;

    #[fusion(dtype = *out, shape = x)]
    fn ramp_rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f32,
        out: DType,
    ) -> FloatTensor<Self>;

    #[fusion(dtype = *out, shape = x)]
    fn ramp_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f32,
        out: DType,
    ) -> FloatTensor<Self>;

    #[fusion(dtype = gate, shape = gate)]
    fn ramp_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(dtype = DType::F32, shape = Shape::new([x[0], 1]))]
    fn ramp_log_sum_exp(x: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(dtype = DType::I64, shape = Shape::new([x[0], 3]))]
    fn ramp_divergence(
        log_p: FloatTensor<Self>,
        x: FloatTensor<Self>,
        log_sum_exp: FloatTensor<Self>,
    ) -> IntTensor<Self>;

    #[fusion(dtype = *out, shape = Shape::new(*shape))]
    fn ramp_decode(blocks: IntTensor<Self>, kind: KQuant, shape: [usize; 2], out: DType)
    -> FloatTensor<Self>;

    #[fusion(meta = encode_outputs)]
    fn ramp_encode(x: FloatTensor<Self>, kind: KQuant) -> (IntTensor<Self>, FloatTensor<Self>);

    #[fusion(meta = encode_weighted_outputs)]
    fn ramp_encode_weighted(
        x: FloatTensor<Self>,
        importance: FloatTensor<Self>,
        kind: KQuant,
    ) -> (IntTensor<Self>, FloatTensor<Self>);

    #[fusion(dtype = DType::I64, shape = Shape::new([a[0], 3]))]
    fn ramp_errors(a: FloatTensor<Self>, b: FloatTensor<Self>) -> IntTensor<Self>;

    #[fusion(dtype = DType::I64, shape = Shape::new([a[0], 3]))]
    fn ramp_errors_weighted(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        importance: FloatTensor<Self>,
    ) -> IntTensor<Self>;

    #[fusion(dtype = DType::I64, shape = sum)]
    fn ramp_add_f64(sum: IntTensor<Self>, x: FloatTensor<Self>) -> IntTensor<Self>;

    #[fusion(dtype = DType::I64, shape = before)]
    fn ramp_channel_sums(before: IntTensor<Self>, x: FloatTensor<Self>) -> IntTensor<Self>;

    #[fusion(dtype = DType::F32, shape = Shape::new(*shape))]
    fn ramp_upload(beside: FloatTensor<Self>, source: HostSource, shape: [usize; 2]) -> FloatTensor<Self>;

    #[fusion(meta = affine_outputs)]
    fn ramp_affine(x: FloatTensor<Self>, groups: AffineGroups) -> (FloatTensor<Self>, FloatTensor<Self>);
}

fn encode_outputs(x: &TensorSpec, kind: &KQuant) -> (TensorSpec, TensorSpec) {
    let bytes = x.shape.num_elements() / 256 * kind.bytes();
    (TensorSpec::new(Shape::new([bytes]), DType::U8), TensorSpec::new(Shape::new([1]), DType::F32))
}

fn encode_weighted_outputs(
    x: &TensorSpec,
    _importance: &TensorSpec,
    kind: &KQuant,
) -> (TensorSpec, TensorSpec) {
    encode_outputs(x, kind)
}

fn affine_outputs(x: &TensorSpec, _groups: &AffineGroups) -> (TensorSpec, TensorSpec) {
    (x.clone(), TensorSpec::new(Shape::new([1]), DType::F32))
}

impl Ops for CubeBackend {
    fn ramp_linear(x: CubeTensor, w: CubeTensor, out: DType) -> CubeTensor {
        done(linear::linear(x, w, out))
    }

    fn ramp_rope(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, seq: usize) -> CubeTensor {
        done(rows::rope(x, cos, sin, seq))
    }

    fn ramp_attention(q: CubeTensor, k: CubeTensor, v: CubeTensor, heads: Heads) -> CubeTensor {
        done(attention::attention(q, k, v, heads))
    }

    fn ramp_rms_norm(x: CubeTensor, weight: CubeTensor, eps: f32, out: DType) -> CubeTensor {
        done(rows::norm(x, weight, None, eps, out))
    }

    fn ramp_layer_norm(
        x: CubeTensor,
        weight: CubeTensor,
        bias: CubeTensor,
        eps: f32,
        out: DType,
    ) -> CubeTensor {
        done(rows::norm(x, weight, Some(bias), eps, out))
    }

    fn ramp_swiglu(gate: CubeTensor, up: CubeTensor) -> CubeTensor {
        done(rows::swiglu(gate, up))
    }

    fn ramp_log_sum_exp(x: CubeTensor) -> CubeTensor {
        done(rows::log_sum_exp(x))
    }

    fn ramp_divergence(log_p: CubeTensor, x: CubeTensor, log_sum_exp: CubeTensor) -> CubeTensor {
        done(rows::divergence(log_p, x, log_sum_exp))
    }

    fn ramp_decode(blocks: CubeTensor, kind: KQuant, shape: [usize; 2], out: DType) -> CubeTensor {
        done(blocks::decode(blocks, kind, shape, out))
    }

    fn ramp_encode(x: CubeTensor, kind: KQuant) -> (CubeTensor, CubeTensor) {
        done(encode::encode(x, None, kind))
    }

    fn ramp_encode_weighted(x: CubeTensor, importance: CubeTensor, kind: KQuant) -> (CubeTensor, CubeTensor) {
        done(encode::encode(x, Some(importance), kind))
    }

    fn ramp_errors(a: CubeTensor, b: CubeTensor) -> CubeTensor {
        done(encode::errors(a, b, None))
    }

    fn ramp_errors_weighted(a: CubeTensor, b: CubeTensor, importance: CubeTensor) -> CubeTensor {
        done(encode::errors(a, b, Some(importance)))
    }

    fn ramp_add_f64(sum: CubeTensor, x: CubeTensor) -> CubeTensor {
        done(sums::add(sum, x))
    }

    fn ramp_channel_sums(before: CubeTensor, x: CubeTensor) -> CubeTensor {
        done(sums::channels(before, x))
    }

    fn ramp_upload(beside: CubeTensor, source: HostSource, shape: [usize; 2]) -> CubeTensor {
        done(upload::upload(&beside, &source, shape))
    }

    fn ramp_affine(x: CubeTensor, groups: AffineGroups) -> (CubeTensor, CubeTensor) {
        done(blocks::affine(x, groups))
    }
}

/// What ran, or a panic, which is how an operation of Burn fails.
fn done<T>(result: Result<T>) -> T {
    match result {
        Ok(tensor) => tensor,
        Err(why) => panic!("{why}"),
    }
}

/// `x w^T`, `[rows, in]` and `[out, in]` of one type to `[rows, out]` of type `out`, which is the factors' or f32. Sums are
/// f32.
#[must_use]
pub fn linear(x: Tensor<2>, w: Tensor<2>, out: DType) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::ramp_linear(x.into_dispatch(), w.into_dispatch(), out))
}

/// Turns every head of `x`, `[rows, heads * dim]`, by its row's position in a window of `seq` tokens. Channel `i` of a head
/// pairs with channel `i + dim / 2`. `cos` and `sin` are f32, `[positions, dim / 2]`.
#[must_use]
pub fn rope(x: Tensor<2>, cos: Tensor<2>, sin: Tensor<2>, seq: usize) -> Tensor<2> {
    let (cos, sin) = (cos.into_dispatch(), sin.into_dispatch());
    Tensor::from_dispatch(Dispatch::ramp_rope(x.into_dispatch(), cos, sin, seq))
}

/// Causal attention, `[rows, heads * dim]` and twice `[rows, kv_heads * dim]` to f32 `[rows, heads * dim]`. Products are in
/// the inputs' type with f32 sums, the softmax is f32.
#[must_use]
pub fn attention(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, heads: Heads) -> Tensor<2> {
    let (q, k, v) = (q.into_dispatch(), k.into_dispatch(), v.into_dispatch());
    Tensor::from_dispatch(Dispatch::ramp_attention(q, k, v, heads))
}

/// RMSNorm of each row, or a LayerNorm where there is a bias; f32 `[rows, channels]` to `out`.
#[must_use]
pub fn norm(x: Tensor<2>, weight: Tensor<1>, bias: Option<Tensor<1>>, eps: f32, out: DType) -> Tensor<2> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        None => Dispatch::ramp_rms_norm(x, weight, eps, out),
        Some(bias) => Dispatch::ramp_layer_norm(x, weight, bias.into_dispatch(), eps, out),
    })
}

/// `silu(gate) * up`, element by element, computed in f32.
#[must_use]
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::ramp_swiglu(gate.into_dispatch(), up.into_dispatch()))
}

/// `ln sum exp` of each row, f32 `[rows, columns]` to `[rows, 1]`.
#[must_use]
pub fn log_sum_exp(x: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::ramp_log_sum_exp(x.into_dispatch()))
}

/// Of each row three sums in f64, as their bits, `[rows, 3]`: of `p`, of `p u` and of `p φ(u)`, for `ln p` and logits `x`, f32
/// `[rows, vocab]`, and the `ln sum exp` of the logits, `[rows, 1]`, with `u = ln q - ln p` and `φ(u) = e^u - 1 - u`.
#[must_use]
pub fn divergence(log_p: Tensor<2>, x: Tensor<2>, log_sum_exp: Tensor<2>) -> Tensor<2, Int> {
    let (log_p, x, log_sum_exp) = (log_p.into_dispatch(), x.into_dispatch(), log_sum_exp.into_dispatch());
    Tensor::from_dispatch(Dispatch::ramp_divergence(log_p, x, log_sum_exp))
}

/// The weights, `[rows, columns]` of type `out`, of packed super-blocks, `u8`, which follow one another row by row.
#[must_use]
pub fn decode(blocks: Tensor<1, Int>, kind: KQuant, shape: [usize; 2], out: DType) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::ramp_decode(blocks.into_dispatch(), kind, shape, out))
}

/// The packed super-blocks, `u8`, of f32 rows, with errors weighted by a number for each column: the bytes of ramp-gguf. A
/// tensor of one element is 1 where a weight or a scale is not finite, else 0. Columns are a multiple of 256.
///
/// # Panics
/// When the type has no encoder ([`KQuant::has_encoder`]), as all operations do that cannot run.
#[must_use]
pub fn encode(x: Tensor<2>, importance: Option<Tensor<1>>, kind: KQuant) -> (Tensor<1, Int>, Tensor<1>) {
    let (blocks, bad) = match importance {
        None => Dispatch::ramp_encode(x.into_dispatch(), kind),
        Some(importance) => {
            Dispatch::ramp_encode_weighted(x.into_dispatch(), importance.into_dispatch(), kind)
        }
    };
    (Tensor::from_dispatch(blocks), Tensor::from_dispatch(bad))
}

/// Of each row of two f32 matrices three sums in f64, as their bits, `[rows, 3]`: squared differences and squares of `a`, both
/// weighted by a number for each column, and squared differences that are not weighted.
#[must_use]
pub fn errors(a: Tensor<2>, b: Tensor<2>, importance: Option<Tensor<1>>) -> Tensor<2, Int> {
    let (a, b) = (a.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(match importance {
        None => Dispatch::ramp_errors(a, b),
        Some(importance) => Dispatch::ramp_errors_weighted(a, b, importance.into_dispatch()),
    })
}

/// `sum + x`, element by element, for f64 sums as their bits and f32 `x`, both `[rows, columns]`.
#[must_use]
pub fn add_f64(sum: Tensor<2, Int>, x: Tensor<2>) -> Tensor<2, Int> {
    Tensor::from_dispatch(Dispatch::ramp_add_f64(sum.into_dispatch(), x.into_dispatch()))
}

/// Three f64 of each column of f32 `x`, `[rows, columns]`, as their bits, `[3, columns]`: sum of `|x|`, largest `|x|`, and
/// sum of `x²`, over those in `before`, which begins with zeros.
#[must_use]
pub fn channel_sums(before: Tensor<2, Int>, x: Tensor<2>) -> Tensor<2, Int> {
    Tensor::from_dispatch(Dispatch::ramp_channel_sums(before.into_dispatch(), x.into_dispatch()))
}

/// A matrix of f32, `[rows, columns]`, from host memory.
#[must_use]
pub fn upload(source: HostSource, shape: [usize; 2], device: &Device) -> Tensor<2> {
    let beside = Tensor::<1>::empty([1], device);
    Tensor::from_dispatch(Dispatch::ramp_upload(beside.into_dispatch(), source, shape))
}

/// Quantizes and dequantizes f32 rows, and says in a tensor of one element whether that failed: 1 where a weight is not
/// finite or a scale is beyond f16, else 0.
#[must_use]
pub fn affine(x: Tensor<2>, groups: AffineGroups) -> (Tensor<2>, Tensor<1>) {
    let (weights, bad) = Dispatch::ramp_affine(x.into_dispatch(), groups);
    (Tensor::from_dispatch(weights), Tensor::from_dispatch(bad))
}

/// A condition on shapes and types.
fn require(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Buffer(format!("{what} do not fit together"))) }
}
