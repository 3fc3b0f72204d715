//! The blocks of ggml's types, byte for byte as they lie in a file (`ggml-common.h`).
//!
//! All fields are bytes or arrays of bytes, so that every block has an alignment of 1 and no padding: a slice of bytes
//! from any place of a file is a slice of blocks ([`bytemuck::try_cast_slice`],
//! [`TensorView::blocks`](crate::TensorView::blocks)). Field names are those of ggml. The words on each block say
//! which weights its fields stand for; weights are counted from 0 in the order of the row.
//!
//! ```
//! use ramp_gguf::{GgmlType, block::BlockQ4K, encode};
//! let weights: Vec<f32> = (0..512).map(|i| (i as f32 * 0.1).sin()).collect();
//! let bytes = encode(GgmlType::Q4_K, &weights, 512, None)?;
//! let blocks: &[BlockQ4K] = bytemuck::cast_slice(&bytes);
//! assert_eq!(blocks.len(), 2);
//! // The first weight, by hand: scale and minimum 0 have the low 6 bits of bytes 0 and 4, its code a low nibble.
//! let BlockQ4K { d, dmin, scales, qs } = blocks[0];
//! let (scale, min) = (f32::from(scales[0] & 63), f32::from(scales[4] & 63));
//! let weight = d.to_f32() * scale * f32::from(qs[0] & 0xf) - dmin.to_f32() * min;
//! assert!((weight - weights[0]).abs() < 0.1);
//! # Ok::<(), ramp_gguf::Error>(())
//! ```

use bytemuck::{Pod, Zeroable};

use crate::GgmlType;
use crate::codec::binary16;

/// A binary16 number as it is stored, little-endian (`ggml_half`).
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
#[repr(transparent)]
pub struct Half(pub [u8; 2]);

impl Half {
    /// The number with these bits.
    #[must_use]
    #[inline(always)]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits.to_le_bytes())
    }

    /// The bits of the number.
    #[must_use]
    #[inline(always)]
    pub const fn to_bits(self) -> u16 {
        u16::from_le_bytes(self.0)
    }

    /// The nearest number, half to even; infinity beyond 65504 and a half step.
    #[must_use]
    #[inline(always)]
    pub fn from_f32(value: f32) -> Self {
        Self::from_bits(binary16::from_f32(value))
    }

    /// The number.
    #[must_use]
    #[inline(always)]
    pub fn to_f32(self) -> f32 {
        binary16::to_f32(self.to_bits())
    }

    /// Whether it is neither infinite nor NaN.
    #[must_use]
    #[inline(always)]
    pub fn is_finite(self) -> bool {
        binary16::is_finite(self.to_bits())
    }
}

macro_rules! blocks {
    ($($(#[$doc:meta])* $name:ident, $ty:ident { $($(#[$field_doc:meta])* $field:ident: $field_ty:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Copy, Clone, PartialEq, Eq, Debug, Pod, Zeroable)]
        #[repr(C)]
        pub struct $name { $($(#[$field_doc])* pub $field: $field_ty,)* }

        // A layout that is no longer that of the files does not compile.
        const _: () = assert!(
            size_of::<$name>() == GgmlType::$ty.type_size() && align_of::<$name>() == 1
        );
    )*};
}

blocks! {
    /// Q4_0: 4-bit codes with a scale per 32 weights. Weight: `d * (code - 8)`.
    BlockQ4_0, Q4_0 {
        /// Scale.
        d: Half,
        /// Codes: byte `l` has weight `l` in its low, weight `l + 16` in its high nibble.
        qs: [u8; 16],
    }

    /// Q4_1: 4-bit codes with a scale and a minimum per 32 weights. Weight: `d * code + m`.
    BlockQ4_1, Q4_1 {
        /// Scale.
        d: Half,
        /// Minimum.
        m: Half,
        /// Codes: byte `l` has weight `l` in its low, weight `l + 16` in its high nibble.
        qs: [u8; 16],
    }

    /// Q5_0: 5-bit codes with a scale per 32 weights. Weight: `d * (code - 16)`.
    BlockQ5_0, Q5_0 {
        /// Scale.
        d: Half,
        /// Fifth bits, as a little-endian number: bit `l` belongs to weight `l`.
        qh: [u8; 4],
        /// Low 4 bits: byte `l` has weight `l` in its low, weight `l + 16` in its high nibble.
        qs: [u8; 16],
    }

    /// Q5_1: 5-bit codes with a scale and a minimum per 32 weights. Weight: `d * code + m`.
    BlockQ5_1, Q5_1 {
        /// Scale.
        d: Half,
        /// Minimum.
        m: Half,
        /// Fifth bits, as a little-endian number: bit `l` belongs to weight `l`.
        qh: [u8; 4],
        /// Low 4 bits: byte `l` has weight `l` in its low, weight `l + 16` in its high nibble.
        qs: [u8; 16],
    }

    /// Q8_0: 8-bit codes with a scale per 32 weights. Weight: `d * code`.
    BlockQ8_0, Q8_0 {
        /// Scale.
        d: Half,
        /// Codes, one per weight.
        qs: [i8; 32],
    }

    /// Q2_K: 2-bit codes with a 4-bit scale and minimum per 16 weights, in super-blocks of 256. Weight:
    /// `d * scale * code - dmin * min`.
    BlockQ2K, Q2_K {
        /// One byte per sub-block: scale in the low, minimum in the high nibble.
        scales: [u8; 16],
        /// Codes: 32 bytes for each 128 weights; byte `l` has weights `l`, `l + 32`, `l + 64`, `l + 96`, from its
        /// lowest bits on.
        qs: [u8; 64],
        /// Scale of the scales.
        d: Half,
        /// Scale of the minima.
        dmin: Half,
    }

    /// Q3_K: 3-bit codes with a 6-bit signed scale per 16 weights, in super-blocks of 256. Weight:
    /// `d * (scale - 32) * (code - 4)`.
    BlockQ3K, Q3_K {
        /// Third bits: bit `k` of byte `l` belongs to weight `32 k + l`.
        hmask: [u8; 32],
        /// Low 2 bits: 32 bytes for each 128 weights; byte `l` has weights `l`, `l + 32`, `l + 64`, `l + 96`, from its
        /// lowest bits on.
        qs: [u8; 64],
        /// 16 scales of 6 bits. The low 4 bits of scale `j < 8` are the low nibble of byte `j`, those of scale
        /// `j + 8` its high nibble; byte `8 + j`, `j < 4`, has the top 2 bits of scales `j`, `j + 4`, `j + 8`,
        /// `j + 12`, from its lowest bits on.
        scales: [u8; 12],
        /// Scale of the scales.
        d: Half,
    }

    /// Q4_K: 4-bit codes with a 6-bit scale and minimum per 32 weights, in super-blocks of 256. Weight:
    /// `d * scale * code - dmin * min`.
    BlockQ4K, Q4_K {
        /// Scale of the scales.
        d: Half,
        /// Scale of the minima.
        dmin: Half,
        /// 8 scales and 8 minima of 6 bits. Scales and minima `j < 4` are the low 6 bits of bytes `j` and `4 + j`.
        /// Those of `j + 4` have their low 4 bits in the low and the high nibble of byte `8 + j`, and their top 2
        /// bits at the top of bytes `j` and `4 + j`.
        scales: [u8; 12],
        /// Codes: 32 bytes for each 64 weights; byte `l` has weight `l` in its low, weight `l + 32` in its high
        /// nibble.
        qs: [u8; 128],
    }

    /// Q5_K: 5-bit codes with a 6-bit scale and minimum per 32 weights, in super-blocks of 256. Weight:
    /// `d * scale * code - dmin * min`.
    BlockQ5K, Q5_K {
        /// Scale of the scales.
        d: Half,
        /// Scale of the minima.
        dmin: Half,
        /// 8 scales and 8 minima of 6 bits, as in [`BlockQ4K`].
        scales: [u8; 12],
        /// Fifth bits: bit `j` of byte `l` belongs to weight `l` of sub-block `j`.
        qh: [u8; 32],
        /// Low 4 bits, as the codes of [`BlockQ4K`].
        qs: [u8; 128],
    }

    /// Q6_K: 6-bit codes with an 8-bit signed scale per 16 weights, in super-blocks of 256. Weight:
    /// `d * scale * (code - 32)`.
    BlockQ6K, Q6_K {
        /// Low 4 bits: 64 bytes for each 128 weights; byte `l` has weight `l` in its low, weight `l + 64` in its
        /// high nibble.
        ql: [u8; 128],
        /// Top 2 bits: 32 bytes for each 128 weights; byte `l` has weights `l`, `l + 32`, `l + 64`, `l + 96`, from
        /// its lowest bits on.
        qh: [u8; 64],
        /// 16 scales.
        scales: [i8; 16],
        /// Scale of the scales.
        d: Half,
    }

    /// IQ4_NL: 4-bit codes of uneven steps with a scale per 32 weights. Weight: `d * KVALUES[code]`, with the values
    /// of [`KVALUES`].
    BlockIQ4NL, IQ4_NL {
        /// Scale.
        d: Half,
        /// Codes: byte `l` has weight `l` in its low, weight `l + 16` in its high nibble.
        qs: [u8; 16],
    }

    /// IQ4_XS: 4-bit codes of uneven steps with a 6-bit signed scale per 32 weights, in super-blocks of 256. Weight:
    /// `d * (scale - 32) * KVALUES[code]`, with the values of [`KVALUES`].
    BlockIQ4XS, IQ4_XS {
        /// Scale of the scales.
        d: Half,
        /// Top 2 bits of 8 scales, as a little-endian number: bits `2 j` and `2 j + 1` belong to scale `j`.
        scales_h: [u8; 2],
        /// Low 4 bits of the scales: byte `i` has scale `2 i` in its low, scale `2 i + 1` in its high nibble.
        scales_l: [u8; 4],
        /// Codes: 16 bytes for each 32 weights; byte `l` has weight `l` in its low, weight `l + 16` in its high
        /// nibble.
        qs: [u8; 128],
    }
}

/// What the codes of IQ4_NL and IQ4_XS stand for (`kvalues_iq4nl`).
pub const KVALUES: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];
