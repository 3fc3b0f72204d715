//! One codec for each instruction set, and the choice between them at run time.
//!
//! The codecs are written once, over [`Vector`]; here they are compiled again for every instruction set, with their
//! loops over single weights, which the compiler vectorises. Everything below these functions is `inline(always)`,
//! so that it becomes part of them. None of them may fuse a multiplication with an addition: Rust never does so on
//! its own.

#![allow(unsafe_code)] // calls of functions that need an instruction set

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
use super::vector::Neon;
#[cfg(target_arch = "x86_64")]
use super::vector::{Avx2, Avx512};
use super::vector::{Portable, Vector};

/// Encoder and decoder of whole rows.
pub(super) trait RowCodec {
    /// Encodes rows of `imatrix.len()` weights, or of any length without `imatrix`. Says whether all weights are
    /// finite and can be stored; if not, `bytes` is unspecified.
    fn encode<V: Vector>(weights: &[f32], imatrix: Option<&[f32]>, bytes: &mut [u8]) -> bool;

    /// Decodes whole blocks.
    fn decode<V: Vector>(bytes: &[u8], weights: &mut [f32]);
}

pub(super) type Encode = fn(&[f32], Option<&[f32]>, &mut [u8]) -> bool;
pub(super) type Decode = fn(&[u8], &mut [f32]);

/// An instruction set that the codecs are compiled for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Isa {
    /// Plain Rust, of which the compiler makes what every CPU of the architecture has.
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Neon,
}

impl Isa {
    /// All that this CPU has, the best one last.
    pub(super) fn available() -> impl DoubleEndedIterator<Item = Self> {
        let all = [
            Some(Self::Portable),
            #[cfg(target_arch = "x86_64")]
            is_x86_feature_detected!("avx2").then_some(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            (is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq"))
            .then_some(Self::Avx512),
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Some(Self::Neon),
        ];
        all.into_iter().flatten()
    }

    pub(super) fn best() -> Self {
        Self::available().next_back().unwrap_or(Self::Portable)
    }
}

/// The codec `C` for `isa`, which must be one that [`Isa::available`] gave.
pub(super) fn kernels<C: RowCodec>(isa: Isa) -> (Encode, Decode) {
    match isa {
        Isa::Portable => (C::encode::<Portable>, C::decode::<Portable>),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => (
            // SAFETY: `isa` says that the CPU has what the function is compiled for.
            |weights, imatrix, bytes| unsafe { encode_avx2::<C>(weights, imatrix, bytes) },
            // SAFETY: as above.
            |bytes, weights| unsafe { decode_avx2::<C>(bytes, weights) },
        ),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => (
            // SAFETY: `isa` says that the CPU has what the function is compiled for.
            |weights, imatrix, bytes| unsafe { encode_avx512::<C>(weights, imatrix, bytes) },
            // SAFETY: as above.
            |bytes, weights| unsafe { decode_avx512::<C>(bytes, weights) },
        ),
        // NEON is part of the architecture: nothing has to be compiled again.
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        Isa::Neon => (C::encode::<Neon>, C::decode::<Neon>),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn encode_avx2<C: RowCodec>(weights: &[f32], imatrix: Option<&[f32]>, bytes: &mut [u8]) -> bool {
    C::encode::<Avx2>(weights, imatrix, bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn decode_avx2<C: RowCodec>(bytes: &[u8], weights: &mut [f32]) {
    C::decode::<Avx2>(bytes, weights);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn encode_avx512<C: RowCodec>(weights: &[f32], imatrix: Option<&[f32]>, bytes: &mut [u8]) -> bool {
    C::encode::<Avx512>(weights, imatrix, bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn decode_avx512<C: RowCodec>(bytes: &[u8], weights: &mut [f32]) {
    C::decode::<Avx512>(bytes, weights);
}

/// A computation over slices, for [`vectorized`].
pub trait Vectorize {
    /// What it gives.
    type Output;

    /// The computation. It and what it calls must be `#[inline(always)]`: only then they are compiled for the CPU's
    /// vectors.
    fn run(self) -> Self::Output;
}

/// Runs a computation compiled for the widest vectors that the CPU has. Its results are the same on every CPU, because
/// no multiplication is fused with an addition.
pub fn vectorized<T: Vectorize>(work: T) -> T::Output {
    match Isa::best() {
        Isa::Portable => work.run(),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the CPU has what the function is compiled for.
        Isa::Avx2 => unsafe { run_avx2(work) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the CPU has what the function is compiled for.
        Isa::Avx512 => unsafe { run_avx512(work) },
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        Isa::Neon => work.run(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn run_avx2<T: Vectorize>(work: T) -> T::Output {
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn run_avx512<T: Vectorize>(work: T) -> T::Output {
    work.run()
}
