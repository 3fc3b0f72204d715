//! Vectors of `f32` lanes: the arithmetic that the searches need, once for each instruction set.
//!
//! Every operation is that of IEEE binary32, lane by lane, rounded on its own: nothing here fuses a product into
//! a sum, because ggml's bytes come from sums that are not fused.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
mod portable;

use std::ops::{Add, Div, Mul, Sub};

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::Avx512;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
pub(super) use neon::Neon;
pub(super) use portable::Portable;

use super::search::MIDPOINTS;
use crate::block::KVALUES;

/// 1.5 * 2^23: adding it leaves the integer part of a small number in the low bits, rounded half to even.
const ROUND_MAGIC: f32 = 12_582_912.0;

/// `nearest_int`, including what it gives for numbers beyond its range of +-4194303.
#[inline(always)]
pub(super) fn nearest_int(value: f32) -> i32 {
    ((value + ROUND_MAGIC).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// The integer part modulo 256, and 0 for numbers that are no `i32`: what a C compiler makes of `(int8_t)` on x86-64.
#[inline(always)]
pub(super) fn truncate(value: f32) -> u8 {
    if value.abs() < 2_147_483_648.0 { value as i32 as u8 } else { 0 }
}

/// The largest number of lanes of any implementation.
pub(super) const MAX_LANES: usize = 16;

/// `LANES` numbers that are computed with side by side.
///
/// # Safety of the implementations
/// The types of an instruction set are named by the dispatch alone (`kernel.rs`), behind the check that the CPU has
/// it. That is what the SAFETY lines of the implementations refer to.
pub(super) trait Vector:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// Numbers in a vector, at most [`MAX_LANES`].
    const LANES: usize;
    /// A truth value per lane.
    type Mask: Copy;

    /// `value` in every lane.
    fn splat(value: f32) -> Self;
    /// The first `LANES` numbers of a slice that has at least so many.
    fn load(from: &[f32]) -> Self;
    /// The first `LANES` bytes of a slice that has at least so many, as numbers.
    fn from_bytes(from: &[u8]) -> Self;
    /// The low and the high nibbles of the first `LANES` bytes of a slice that has at least so many, as numbers.
    fn from_nibbles(from: &[u8]) -> (Self, Self);
    /// The values of IQ4's codebook that the low and the high nibbles of the first `LANES` bytes stand for.
    fn kvalues(codes: &[u8]) -> (Self, Self);
    /// Overwrites the first `LANES` bytes of a slice that has at least so many with the integer parts, modulo 256; 0
    /// for numbers that are no `i32`.
    fn to_bytes(self, to: &mut [u8]);
    /// Overwrites the first `LANES` numbers of a slice that has at least so many.
    fn store(self, to: &mut [f32]);

    fn abs(self) -> Self;
    fn sqrt(self) -> Self;
    /// `self < other ? self : other`, so `other` where one of them is NaN.
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self::select(self.lt(other), self, other)
    }
    /// `self > other ? self : other`, so `other` where one of them is NaN.
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self::select(self.gt(other), self, other)
    }
    /// The nearest integer, half to even, of numbers within +-4194303; unspecified beyond.
    fn round(self) -> Self;
    /// [`nearest_int`] of any number, as a number.
    fn nearest(self) -> Self;
    /// An integer modulo 256, as C stores an `int` in a `uint8_t`.
    fn wrap_u8(self) -> Self;

    fn gt(self, other: Self) -> Self::Mask;
    fn lt(self, other: Self) -> Self::Mask;
    /// Not equal, true for NaN.
    fn ne(self, other: Self) -> Self::Mask;
    fn and(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// `a` and not `b`.
    fn and_not(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn any(mask: Self::Mask) -> bool;
    /// `a` where `mask` is true, `b` elsewhere.
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self;

    /// The smallest lane; of zeros of both signs, any.
    fn reduce_min(self) -> f32;
    /// The largest lane; of zeros of both signs, any.
    fn reduce_max(self) -> f32;

    /// The value of IQ4's codebook that is nearest ([`best_index`](super::search::best_index)), not for NaN.
    #[inline(always)]
    fn nearest_kvalue(self) -> Self {
        let mut value = Self::splat(KVALUES[15]);
        for (&middle, &below) in MIDPOINTS.iter().zip(&KVALUES).rev() {
            value = Self::select(self.lt(Self::splat(middle)), Self::splat(below), value);
        }
        value
    }

    /// `0.0` in every lane.
    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }
}
