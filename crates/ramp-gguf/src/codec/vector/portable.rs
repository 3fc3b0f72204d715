//! Lanes in plain Rust: what runs where no instruction set is known, and under Miri.

use std::ops::{Add, Div, Mul, Sub};

use super::{Vector, nearest_int, truncate};
use crate::block::KVALUES;

/// Lanes of [`Portable`], as many as fit the registers that every x86-64 and aarch64 CPU has.
const L: usize = 4;

#[derive(Copy, Clone)]
pub(in crate::codec) struct Portable([f32; L]);

macro_rules! operator {
    ($($trait:ident, $method:ident, $op:tt;)*) => {$(
        impl $trait for Portable {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                let mut out = self;
                for lane in 0..L {
                    out.0[lane] = self.0[lane] $op other.0[lane];
                }
                out
            }
        }
    )*};
}

operator! {
    Add, add, +;
    Sub, sub, -;
    Mul, mul, *;
    Div, div, /;
}

impl Portable {
    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> Self {
        Self(self.0.map(f))
    }

    #[inline(always)]
    fn compare(self, other: Self, f: impl Fn(f32, f32) -> bool) -> [bool; L] {
        std::array::from_fn(|lane| f(self.0[lane], other.0[lane]))
    }
}

impl Vector for Portable {
    const LANES: usize = L;
    type Mask = [bool; L];

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; L])
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        Self(*from.first_chunk().expect("the caller gives at least LANES numbers"))
    }

    #[inline(always)]
    fn from_bytes(from: &[u8]) -> Self {
        let from: &[u8; L] = from.first_chunk().expect("the caller gives at least LANES bytes");
        Self(from.map(f32::from))
    }

    #[inline(always)]
    fn from_nibbles(from: &[u8]) -> (Self, Self) {
        let from: &[u8; L] = from.first_chunk().expect("the caller gives at least LANES bytes");
        (Self(from.map(|byte| f32::from(byte & 0xf))), Self(from.map(|byte| f32::from(byte >> 4))))
    }

    #[inline(always)]
    fn kvalues(codes: &[u8]) -> (Self, Self) {
        let codes: &[u8; L] = codes.first_chunk().expect("the caller gives at least LANES bytes");
        let value = |code: u8| KVALUES[usize::from(code & 0xf)];
        (Self(codes.map(value)), Self(codes.map(|code| value(code >> 4))))
    }

    #[inline(always)]
    fn to_bytes(self, to: &mut [u8]) {
        *to.first_chunk_mut().expect("the caller gives at least LANES bytes") = self.0.map(truncate);
    }

    #[inline(always)]
    fn reduce_min(self) -> f32 {
        self.0.iter().fold(f32::INFINITY, |min, &x| if x < min { x } else { min })
    }

    #[inline(always)]
    fn reduce_max(self) -> f32 {
        self.0.iter().fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        *to.first_chunk_mut().expect("the caller gives at least LANES numbers") = self.0;
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.map(f32::abs)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.map(f32::sqrt)
    }

    #[inline(always)]
    fn round(self) -> Self {
        self.map(|x| (x + super::ROUND_MAGIC) - super::ROUND_MAGIC)
    }

    #[inline(always)]
    fn nearest(self) -> Self {
        self.map(|x| nearest_int(x) as f32)
    }

    #[inline(always)]
    fn wrap_u8(self) -> Self {
        self.map(|x| f32::from(x as i32 as u8))
    }

    #[inline(always)]
    fn gt(self, other: Self) -> Self::Mask {
        self.compare(other, |a, b| a > b)
    }

    #[inline(always)]
    fn lt(self, other: Self) -> Self::Mask {
        self.compare(other, |a, b| a < b)
    }

    #[inline(always)]
    fn ne(self, other: Self) -> Self::Mask {
        self.compare(other, |a, b| a != b)
    }

    #[inline(always)]
    fn and(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        std::array::from_fn(|lane| a[lane] & b[lane])
    }

    #[inline(always)]
    fn and_not(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        std::array::from_fn(|lane| a[lane] & !b[lane])
    }

    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        mask.contains(&true)
    }

    #[inline(always)]
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|lane| if mask[lane] { a.0[lane] } else { b.0[lane] }))
    }
}
