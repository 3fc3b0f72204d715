//! 16 lanes with AVX-512F.

#![allow(unsafe_code)] // calls of intrinsics

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

use super::{ROUND_MAGIC, Vector};
use crate::block::KVALUES;

#[derive(Copy, Clone)]
pub(in crate::codec) struct Avx512(__m512);

/// An expression of intrinsics of AVX-512F.
macro_rules! intrinsics {
    ($value:expr) => {{
        // SAFETY: values of this type exist only in code that the dispatch enters after it has found AVX-512F.
        unsafe { $value }
    }};
}

macro_rules! operator {
    ($($trait:ident, $method:ident, $intrinsic:ident;)*) => {$(
        impl $trait for Avx512 {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(intrinsics!($intrinsic(self.0, other.0)))
            }
        }
    )*};
}

operator! {
    Add, add, _mm512_add_ps;
    Sub, sub, _mm512_sub_ps;
    Mul, mul, _mm512_mul_ps;
    Div, div, _mm512_div_ps;
}

impl Vector for Avx512 {
    const LANES: usize = 16;
    type Mask = __mmask16;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(intrinsics!(_mm512_set1_ps(value)))
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from: &[f32; 16] = from.first_chunk().expect("the caller gives at least LANES numbers");
        // SAFETY: as above, and the array has as many numbers as are read; no alignment is asked for.
        Self(unsafe { _mm512_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    fn from_bytes(from: &[u8]) -> Self {
        let from: &[u8; 16] = from.first_chunk().expect("the caller gives at least LANES bytes");
        // SAFETY: as above, and the array has as many bytes as are read; no alignment is asked for.
        Self(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) })
    }

    #[inline(always)]
    fn from_nibbles(from: &[u8]) -> (Self, Self) {
        let from: &[u8; 16] = from.first_chunk().expect("the caller gives at least LANES bytes");
        // SAFETY: as above, and the array has as many bytes as are read; no alignment is asked for.
        let (low, high) = unsafe {
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast()));
            let low = _mm512_and_si512(bytes, _mm512_set1_epi32(0xf));
            (_mm512_cvtepi32_ps(low), _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(bytes)))
        };
        (Self(low), Self(high))
    }

    #[inline(always)]
    fn kvalues(codes: &[u8]) -> (Self, Self) {
        let codes: &[u8; 16] = codes.first_chunk().expect("the caller gives at least LANES bytes");
        let table = Self::load(&KVALUES);
        // SAFETY: as above, and the array has as many bytes as are read; no alignment is asked for.
        let (low, high) = unsafe {
            // The permutation looks at the low four bits of an index.
            let codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.as_ptr().cast()));
            let high = _mm512_srli_epi32::<4>(codes);
            (_mm512_permutexvar_ps(codes, table.0), _mm512_permutexvar_ps(high, table.0))
        };
        (Self(low), Self(high))
    }

    #[inline(always)]
    fn to_bytes(self, to: &mut [u8]) {
        let to: &mut [u8; 16] = to.first_chunk_mut().expect("the caller gives at least LANES bytes");
        // SAFETY: as above, and the array has as many bytes as are written; no alignment is asked for.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(self.0))) }
    }

    #[inline(always)]
    fn reduce_min(self) -> f32 {
        intrinsics!(_mm512_reduce_min_ps(self.0))
    }

    #[inline(always)]
    fn reduce_max(self) -> f32 {
        intrinsics!(_mm512_reduce_max_ps(self.0))
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to: &mut [f32; 16] = to.first_chunk_mut().expect("the caller gives at least LANES numbers");
        // SAFETY: as above, and the array has as many numbers as are written; no alignment is asked for.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(intrinsics!(_mm512_sqrt_ps(self.0)))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(intrinsics!(_mm512_min_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(intrinsics!(_mm512_max_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn nearest(self) -> Self {
        let magic = self + Self::splat(ROUND_MAGIC);
        Self(intrinsics!({
            let bits = _mm512_and_si512(_mm512_castps_si512(magic.0), _mm512_set1_epi32(0x007f_ffff));
            _mm512_cvtepi32_ps(_mm512_sub_epi32(bits, _mm512_set1_epi32(0x0040_0000)))
        }))
    }

    #[inline(always)]
    fn wrap_u8(self) -> Self {
        Self(intrinsics!({
            let byte = _mm512_and_si512(_mm512_cvttps_epi32(self.0), _mm512_set1_epi32(0xff));
            _mm512_cvtepi32_ps(byte)
        }))
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Self(intrinsics!(_mm512_abs_ps(self.0)))
    }

    #[inline(always)]
    fn round(self) -> Self {
        Self(intrinsics!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)))
    }

    #[inline(always)]
    fn gt(self, other: Self) -> Self::Mask {
        intrinsics!(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0))
    }

    #[inline(always)]
    fn lt(self, other: Self) -> Self::Mask {
        intrinsics!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0))
    }

    #[inline(always)]
    fn ne(self, other: Self) -> Self::Mask {
        intrinsics!(_mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(self.0, other.0))
    }

    #[inline(always)]
    fn and(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        a & b
    }

    #[inline(always)]
    fn and_not(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        a & !b
    }

    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        mask != 0
    }

    #[inline(always)]
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self {
        Self(intrinsics!(_mm512_mask_blend_ps(mask, b.0, a.0)))
    }
}
