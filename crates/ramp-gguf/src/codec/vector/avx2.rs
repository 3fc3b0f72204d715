//! 8 lanes with AVX2.

#![allow(unsafe_code)] // calls of intrinsics

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

use super::{ROUND_MAGIC, Vector};
use crate::block::KVALUES;

#[derive(Copy, Clone)]
pub(in crate::codec) struct Avx2(__m256);

/// An expression of intrinsics of AVX2.
macro_rules! intrinsics {
    ($value:expr) => {{
        // SAFETY: values of this type exist only in code that the dispatch enters after it has found AVX2.
        unsafe { $value }
    }};
}

macro_rules! operator {
    ($($trait:ident, $method:ident, $intrinsic:ident;)*) => {$(
        impl $trait for Avx2 {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(intrinsics!($intrinsic(self.0, other.0)))
            }
        }
    )*};
}

operator! {
    Add, add, _mm256_add_ps;
    Sub, sub, _mm256_sub_ps;
    Mul, mul, _mm256_mul_ps;
    Div, div, _mm256_div_ps;
}

impl Vector for Avx2 {
    const LANES: usize = 8;
    type Mask = __m256;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(intrinsics!(_mm256_set1_ps(value)))
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from: &[f32; 8] = from.first_chunk().expect("the caller gives at least LANES numbers");
        // SAFETY: as above, and the array has as many numbers as are read; no alignment is asked for.
        Self(unsafe { _mm256_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    fn from_bytes(from: &[u8]) -> Self {
        let from: &[u8; 8] = from.first_chunk().expect("the caller gives at least LANES bytes");
        Self(intrinsics!(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(
            *from
        ))))))
    }

    #[inline(always)]
    fn from_nibbles(from: &[u8]) -> (Self, Self) {
        let from: &[u8; 8] = from.first_chunk().expect("the caller gives at least LANES bytes");
        let (low, high) = intrinsics!({
            let bytes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*from)));
            let low = _mm256_and_si256(bytes, _mm256_set1_epi32(0xf));
            (_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(bytes)))
        });
        (Self(low), Self(high))
    }

    #[inline(always)]
    fn kvalues(codes: &[u8]) -> (Self, Self) {
        let codes: &[u8; 8] = codes.first_chunk().expect("the caller gives at least LANES bytes");
        let (low, high) = (Self::load(&KVALUES), Self::load(&KVALUES[8..]));
        let (first, second) = intrinsics!({
            // The low three bits choose within a half of the table, the fourth bit between the halves.
            let value = |codes| {
                let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes));
                let (low, high) =
                    (_mm256_permutevar8x32_ps(low.0, codes), _mm256_permutevar8x32_ps(high.0, codes));
                _mm256_blendv_ps(low, high, upper)
            };
            let codes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*codes)));
            (value(codes), value(_mm256_srli_epi32::<4>(codes)))
        });
        (Self(first), Self(second))
    }

    #[inline(always)]
    fn to_bytes(self, to: &mut [u8]) {
        let to: &mut [u8; 8] = to.first_chunk_mut().expect("the caller gives at least LANES bytes");
        *to = intrinsics!({
            // The low byte of each number to the front of its half, then the halves together.
            let front = _mm256_set_epi32(-1, -1, -1, 0x0c08_0400, -1, -1, -1, 0x0c08_0400);
            let bytes = _mm256_shuffle_epi8(_mm256_cvttps_epi32(self.0), front);
            let both =
                _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
            _mm_cvtsi128_si64(both)
        })
        .to_le_bytes();
    }

    #[inline(always)]
    fn reduce_min(self) -> f32 {
        intrinsics!({
            let four = _mm_min_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_min_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_min_ps(two, _mm_movehdup_ps(two)))
        })
    }

    #[inline(always)]
    fn reduce_max(self) -> f32 {
        intrinsics!({
            let four = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ps(two, _mm_movehdup_ps(two)))
        })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to: &mut [f32; 8] = to.first_chunk_mut().expect("the caller gives at least LANES numbers");
        // SAFETY: as above, and the array has as many numbers as are written; no alignment is asked for.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(intrinsics!(_mm256_sqrt_ps(self.0)))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(intrinsics!(_mm256_min_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(intrinsics!(_mm256_max_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn nearest(self) -> Self {
        let magic = self + Self::splat(ROUND_MAGIC);
        Self(intrinsics!({
            let bits = _mm256_and_si256(_mm256_castps_si256(magic.0), _mm256_set1_epi32(0x007f_ffff));
            _mm256_cvtepi32_ps(_mm256_sub_epi32(bits, _mm256_set1_epi32(0x0040_0000)))
        }))
    }

    #[inline(always)]
    fn wrap_u8(self) -> Self {
        Self(intrinsics!({
            let byte = _mm256_and_si256(_mm256_cvttps_epi32(self.0), _mm256_set1_epi32(0xff));
            _mm256_cvtepi32_ps(byte)
        }))
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Self(intrinsics!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0)))
    }

    #[inline(always)]
    fn round(self) -> Self {
        Self(intrinsics!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)))
    }

    #[inline(always)]
    fn gt(self, other: Self) -> Self::Mask {
        intrinsics!(_mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0))
    }

    #[inline(always)]
    fn lt(self, other: Self) -> Self::Mask {
        intrinsics!(_mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0))
    }

    #[inline(always)]
    fn ne(self, other: Self) -> Self::Mask {
        intrinsics!(_mm256_cmp_ps::<_CMP_NEQ_UQ>(self.0, other.0))
    }

    #[inline(always)]
    fn and(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        intrinsics!(_mm256_and_ps(a, b))
    }

    #[inline(always)]
    fn and_not(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        intrinsics!(_mm256_andnot_ps(b, a))
    }

    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        intrinsics!(_mm256_movemask_ps(mask)) != 0
    }

    #[inline(always)]
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self {
        Self(intrinsics!(_mm256_blendv_ps(b.0, a.0, mask)))
    }
}
