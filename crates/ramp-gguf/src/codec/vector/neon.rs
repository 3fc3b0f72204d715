//! 8 lanes in two registers of NEON, which every aarch64 CPU has.
//!
//! Two registers, because the searches are chains of additions: one chain alone would wait for each of its sums.

#![allow(unsafe_code)] // calls of intrinsics

use std::arch::aarch64::*;
use std::ops::{Add, Div, Mul, Sub};

use super::{ROUND_MAGIC, Vector};
use crate::block::KVALUES;

#[derive(Copy, Clone)]
pub(in crate::codec) struct Neon(float32x4_t, float32x4_t);

/// An expression of intrinsics of NEON.
macro_rules! intrinsics {
    ($value:expr) => {{
        // SAFETY: NEON is part of aarch64's base.
        unsafe { $value }
    }};
}

macro_rules! operator {
    ($($trait:ident, $method:ident, $intrinsic:ident;)*) => {$(
        impl $trait for Neon {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                self.zip(other, |a, b| intrinsics!($intrinsic(a, b)))
            }
        }
    )*};
}

operator! {
    Add, add, vaddq_f32;
    Sub, sub, vsubq_f32;
    Mul, mul, vmulq_f32;
    Div, div, vdivq_f32;
}

impl Neon {
    #[inline(always)]
    fn map(self, f: impl Fn(float32x4_t) -> float32x4_t) -> Self {
        Self(f(self.0), f(self.1))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Self(f(self.0, other.0), f(self.1, other.1))
    }

    #[inline(always)]
    fn compare(self, other: Self, f: impl Fn(float32x4_t, float32x4_t) -> uint32x4_t) -> NeonMask {
        NeonMask(f(self.0, other.0), f(self.1, other.1))
    }

    /// Eight bytes as numbers.
    #[inline(always)]
    fn widen(bytes: uint8x8_t) -> Self {
        let (low, high) = intrinsics!({
            let halves = vmovl_u8(bytes);
            let (low, high) = (vmovl_u16(vget_low_u16(halves)), vmovl_high_u16(halves));
            (vcvtq_f32_u32(low), vcvtq_f32_u32(high))
        });
        Self(low, high)
    }

    /// Eight signed bytes as numbers.
    #[inline(always)]
    fn widen_signed(bytes: int8x8_t) -> Self {
        let (low, high) = intrinsics!({
            let halves = vmovl_s8(bytes);
            let (low, high) = (vmovl_s16(vget_low_s16(halves)), vmovl_high_s16(halves));
            (vcvtq_f32_s32(low), vcvtq_f32_s32(high))
        });
        Self(low, high)
    }

    /// The low byte of each lane of two registers of integers.
    #[inline(always)]
    fn narrow(low: int32x4_t, high: int32x4_t) -> uint8x8_t {
        intrinsics!({
            let halves =
                vcombine_u16(vmovn_u32(vreinterpretq_u32_s32(low)), vmovn_u32(vreinterpretq_u32_s32(high)));
            vmovn_u16(halves)
        })
    }
}

/// All bits set where true, in each of the lanes.
#[derive(Copy, Clone)]
pub(in crate::codec) struct NeonMask(uint32x4_t, uint32x4_t);

/// The integer part where it is an `i32`, 0 elsewhere.
#[inline(always)]
fn truncate(value: float32x4_t) -> int32x4_t {
    intrinsics!({
        // The conversion saturates, and makes 0 of NaN.
        let inside = vcltq_f32(vabsq_f32(value), vdupq_n_f32(2_147_483_648.0));
        vandq_s32(vcvtq_s32_f32(value), vreinterpretq_s32_u32(inside))
    })
}

impl Vector for Neon {
    const LANES: usize = 8;
    type Mask = NeonMask;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        let value = intrinsics!(vdupq_n_f32(value));
        Self(value, value)
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from: &[f32; 8] = from.first_chunk().expect("the caller gives at least LANES numbers");
        // SAFETY: as above, and the array has as many numbers as are read; no alignment is asked for.
        let (low, high) = unsafe { (vld1q_f32(from.as_ptr()), vld1q_f32(from[4..].as_ptr())) };
        Self(low, high)
    }

    #[inline(always)]
    fn from_bytes(from: &[u8]) -> Self {
        let from: &[u8; 8] = from.first_chunk().expect("the caller gives at least LANES bytes");
        Self::widen(intrinsics!(vcreate_u8(u64::from_le_bytes(*from))))
    }

    #[inline(always)]
    fn from_nibbles(from: &[u8]) -> (Self, Self) {
        let from: &[u8; 8] = from.first_chunk().expect("the caller gives at least LANES bytes");
        let (low, high) = intrinsics!({
            let bytes = vcreate_u8(u64::from_le_bytes(*from));
            (vand_u8(bytes, vdup_n_u8(0xf)), vshr_n_u8::<4>(bytes))
        });
        (Self::widen(low), Self::widen(high))
    }

    #[inline(always)]
    fn kvalues(codes: &[u8]) -> (Self, Self) {
        /// The values are whole numbers of a byte.
        const TABLE: [i8; 16] = {
            let (mut table, mut i) = ([0; 16], 0);
            while i < 16 {
                table[i] = KVALUES[i] as i8;
                i += 1;
            }
            table
        };
        let codes: &[u8; 8] = codes.first_chunk().expect("the caller gives at least LANES bytes");
        // SAFETY: as above, and the table has the 16 bytes that are read; no alignment is asked for.
        let (low, high) = unsafe {
            let table = vld1q_s8(TABLE.as_ptr());
            let codes = vcreate_u8(u64::from_le_bytes(*codes));
            (vqtbl1_s8(table, vand_u8(codes, vdup_n_u8(0xf))), vqtbl1_s8(table, vshr_n_u8::<4>(codes)))
        };
        (Self::widen_signed(low), Self::widen_signed(high))
    }

    #[inline(always)]
    fn to_bytes(self, to: &mut [u8]) {
        let to: &mut [u8; 8] = to.first_chunk_mut().expect("the caller gives at least LANES bytes");
        let bytes = Self::narrow(truncate(self.0), truncate(self.1));
        *to = intrinsics!(vget_lane_u64::<0>(vreinterpret_u64_u8(bytes))).to_le_bytes();
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to: &mut [f32; 8] = to.first_chunk_mut().expect("the caller gives at least LANES numbers");
        let (low, high) = to.split_at_mut(4);
        // SAFETY: as above, and the array has as many numbers as are written; no alignment is asked for.
        unsafe {
            vst1q_f32(low.as_mut_ptr(), self.0);
            vst1q_f32(high.as_mut_ptr(), self.1);
        }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.map(|x| intrinsics!(vabsq_f32(x)))
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.map(|x| intrinsics!(vsqrtq_f32(x)))
    }

    // `min` and `max` are those of the trait: NEON's own are NaN where either number is.

    #[inline(always)]
    fn round(self) -> Self {
        self.map(|x| intrinsics!(vrndnq_f32(x)))
    }

    #[inline(always)]
    fn nearest(self) -> Self {
        self.map(|x| {
            intrinsics!({
                let bits = vreinterpretq_s32_f32(vaddq_f32(x, vdupq_n_f32(ROUND_MAGIC)));
                let code = vandq_s32(bits, vdupq_n_s32(0x007f_ffff));
                vcvtq_f32_s32(vsubq_s32(code, vdupq_n_s32(0x0040_0000)))
            })
        })
    }

    #[inline(always)]
    fn wrap_u8(self) -> Self {
        self.map(|x| intrinsics!(vcvtq_f32_s32(vandq_s32(vcvtq_s32_f32(x), vdupq_n_s32(0xff)))))
    }

    #[inline(always)]
    fn gt(self, other: Self) -> NeonMask {
        self.compare(other, |a, b| intrinsics!(vcgtq_f32(a, b)))
    }

    #[inline(always)]
    fn lt(self, other: Self) -> NeonMask {
        self.compare(other, |a, b| intrinsics!(vcltq_f32(a, b)))
    }

    #[inline(always)]
    fn ne(self, other: Self) -> NeonMask {
        self.compare(other, |a, b| intrinsics!(vmvnq_u32(vceqq_f32(a, b))))
    }

    #[inline(always)]
    fn and(a: NeonMask, b: NeonMask) -> NeonMask {
        intrinsics!(NeonMask(vandq_u32(a.0, b.0), vandq_u32(a.1, b.1)))
    }

    #[inline(always)]
    fn and_not(a: NeonMask, b: NeonMask) -> NeonMask {
        intrinsics!(NeonMask(vbicq_u32(a.0, b.0), vbicq_u32(a.1, b.1)))
    }

    #[inline(always)]
    fn any(mask: NeonMask) -> bool {
        intrinsics!(vmaxvq_u32(vorrq_u32(mask.0, mask.1)) != 0)
    }

    #[inline(always)]
    fn select(mask: NeonMask, a: Self, b: Self) -> Self {
        intrinsics!(Self(vbslq_f32(mask.0, a.0, b.0), vbslq_f32(mask.1, a.1, b.1)))
    }

    #[inline(always)]
    fn reduce_min(self) -> f32 {
        intrinsics!(vminvq_f32(vminq_f32(self.0, self.1)))
    }

    #[inline(always)]
    fn reduce_max(self) -> f32 {
        intrinsics!(vmaxvq_f32(vmaxq_f32(self.0, self.1)))
    }
}
