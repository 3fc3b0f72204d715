//! The table of ggml tensor types: id, name, weights per block and bytes per block.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Error, Result};

/// One row of the type table.
struct Traits {
    id: u32,
    name: &'static str,
    block_size: usize,
    type_size: usize,
}

macro_rules! ggml_types {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $name:literal, $block_size:literal, $type_size:literal;)*) => {
        /// How ggml stores the values of one tensor (`enum ggml_type` and `type_traits` of ggml 0.25).
        ///
        /// Every type that a GGUF file may hold today is listed, so that any valid file can be inspected;
        /// [`can_encode`](Self::can_encode) and [`can_decode`](Self::can_decode) say for which of them this
        /// crate has a codec. Serialises as its name (`"Q4_K"`).
        #[allow(non_camel_case_types)]
        #[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
        #[non_exhaustive]
        pub enum GgmlType {
            $($(#[$doc])* $variant,)*
        }

        impl GgmlType {
            /// Every type, in the order of the ids.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            const fn traits(self) -> Traits {
                match self {
                    $(Self::$variant => Traits {
                        id: $id,
                        name: $name,
                        block_size: $block_size,
                        type_size: $type_size,
                    },)*
                }
            }
        }
    };
}

ggml_types! {
    /// IEEE binary32.
    F32 = 0, "F32", 1, 4;
    /// IEEE binary16.
    F16 = 1, "F16", 1, 2;
    /// 4 bits, one scale per 32 weights.
    Q4_0 = 2, "Q4_0", 32, 18;
    /// 4 bits, one scale and one minimum per 32 weights.
    Q4_1 = 3, "Q4_1", 32, 20;
    /// 5 bits, one scale per 32 weights.
    Q5_0 = 6, "Q5_0", 32, 22;
    /// 5 bits, one scale and one minimum per 32 weights.
    Q5_1 = 7, "Q5_1", 32, 24;
    /// 8 bits, one scale per 32 weights.
    Q8_0 = 8, "Q8_0", 32, 34;
    /// 8 bits with the block sum: a type of activations inside ggml.
    Q8_1 = 9, "Q8_1", 32, 36;
    /// 2-bit K-quant.
    Q2_K = 10, "Q2_K", 256, 84;
    /// 3-bit K-quant: 16 sub-blocks of 16 with 6-bit scales.
    Q3_K = 11, "Q3_K", 256, 110;
    /// 4-bit K-quant: 8 sub-blocks of 32 with 6-bit scales and minima.
    Q4_K = 12, "Q4_K", 256, 144;
    /// 5-bit K-quant: 8 sub-blocks of 32 with 6-bit scales and minima.
    Q5_K = 13, "Q5_K", 256, 176;
    /// 6-bit K-quant: 16 sub-blocks of 16 with 8-bit scales.
    Q6_K = 14, "Q6_K", 256, 210;
    /// 8-bit K-quant: a type of activations inside ggml.
    Q8_K = 15, "Q8_K", 256, 292;
    /// 2.06 bits per weight, codebook.
    IQ2_XXS = 16, "IQ2_XXS", 256, 66;
    /// 2.31 bits per weight, codebook.
    IQ2_XS = 17, "IQ2_XS", 256, 74;
    /// 3.06 bits per weight, codebook.
    IQ3_XXS = 18, "IQ3_XXS", 256, 98;
    /// 1.56 bits per weight, codebook.
    IQ1_S = 19, "IQ1_S", 256, 50;
    /// 4 bits, non-linear codebook, one scale per 32 weights.
    IQ4_NL = 20, "IQ4_NL", 32, 18;
    /// 3.44 bits per weight, codebook.
    IQ3_S = 21, "IQ3_S", 256, 110;
    /// 2.56 bits per weight, codebook.
    IQ2_S = 22, "IQ2_S", 256, 82;
    /// 4.25 bits per weight, non-linear codebook with 6-bit scales.
    IQ4_XS = 23, "IQ4_XS", 256, 136;
    /// 8-bit integer.
    I8 = 24, "I8", 1, 1;
    /// 16-bit integer.
    I16 = 25, "I16", 1, 2;
    /// 32-bit integer.
    I32 = 26, "I32", 1, 4;
    /// 64-bit integer.
    I64 = 27, "I64", 1, 8;
    /// IEEE binary64.
    F64 = 28, "F64", 1, 8;
    /// 1.75 bits per weight, codebook.
    IQ1_M = 29, "IQ1_M", 256, 56;
    /// bfloat16.
    BF16 = 30, "BF16", 1, 2;
    /// Ternary, 1.69 bits per weight.
    TQ1_0 = 34, "TQ1_0", 256, 54;
    /// Ternary, 2.06 bits per weight.
    TQ2_0 = 35, "TQ2_0", 256, 66;
    /// OCP microscaling FP4.
    MXFP4 = 39, "MXFP4", 32, 17;
    /// FP4 with E4M3 scales per 16 weights.
    NVFP4 = 40, "NVFP4", 64, 36;
    /// 1 bit, one scale per 128 weights.
    Q1_0 = 41, "Q1_0", 128, 18;
    /// 2 bits, one scale per 64 weights.
    Q2_0 = 42, "Q2_0", 64, 18;
}

/// Ids of types that ggml once had and has removed: a file that uses one cannot be read by today's llama.cpp.
const REMOVED: &[u32] = &[4, 5, 31, 32, 33, 36, 37, 38];

/// The quantized types that [`encode`](crate::encode) writes, from fewest to most bits.
pub const QUANTIZED: &[GgmlType] = &[
    GgmlType::Q2_K,
    GgmlType::Q3_K,
    GgmlType::IQ4_XS,
    GgmlType::IQ4_NL,
    GgmlType::Q4_0,
    GgmlType::Q4_K,
    GgmlType::Q4_1,
    GgmlType::Q5_0,
    GgmlType::Q5_K,
    GgmlType::Q5_1,
    GgmlType::Q6_K,
    GgmlType::Q8_0,
];

impl GgmlType {
    /// The number that stands for this type in a GGUF tensor info.
    pub const fn id(self) -> u32 {
        self.traits().id
    }

    /// The type with this id.
    ///
    /// # Errors
    /// [`Error::RemovedTypeId`] for an id that ggml no longer supports, [`Error::UnknownTypeId`] for any other
    /// number that is not in the table.
    pub fn from_id(id: u32) -> Result<Self> {
        match Self::ALL.iter().copied().find(|ty| ty.id() == id) {
            Some(ty) => Ok(ty),
            None if REMOVED.contains(&id) => Err(Error::RemovedTypeId { id }),
            None => Err(Error::UnknownTypeId { id }),
        }
    }

    /// The name in ggml's spelling, as in `GGML_TYPE_Q4_K`.
    pub const fn name(self) -> &'static str {
        self.traits().name
    }

    /// Weights per block: row lengths must be multiples of it.
    pub const fn block_size(self) -> usize {
        self.traits().block_size
    }

    /// Bytes per block.
    pub const fn type_size(self) -> usize {
        self.traits().type_size
    }

    /// Bits per weight, scales included.
    pub fn bits_per_weight(self) -> f64 {
        (self.type_size() * 8) as f64 / self.block_size() as f64
    }

    /// Whether [`encode`](crate::encode) writes this type.
    pub const fn can_encode(self) -> bool {
        use GgmlType::*;
        matches!(
            self,
            F32 | F16
                | BF16
                | Q2_K
                | Q3_K
                | Q4_K
                | Q5_K
                | Q6_K
                | Q4_0
                | Q4_1
                | Q5_0
                | Q5_1
                | Q8_0
                | IQ4_NL
                | IQ4_XS
        )
    }

    /// Whether [`decode`](crate::decode) reads this type.
    pub const fn can_decode(self) -> bool {
        self.can_encode()
    }

    /// Whether a block shares scales between several weights.
    pub const fn is_quantized(self) -> bool {
        self.block_size() > 1
    }

    /// Bytes of one row of `n_per_row` weights.
    ///
    /// # Errors
    /// [`Error::RowNotBlockMultiple`] when the row does not fill whole blocks, [`Error::SizeOverflow`] when the
    /// result does not fit in memory's address space.
    pub fn row_bytes(self, n_per_row: usize) -> Result<usize> {
        if !n_per_row.is_multiple_of(self.block_size()) {
            return Err(Error::RowNotBlockMultiple { ty: self, n_per_row: n_per_row as u64 });
        }
        (n_per_row / self.block_size())
            .checked_mul(self.type_size())
            .ok_or(Error::SizeOverflow { what: "the bytes of a row" })
    }

    /// Bytes of a matrix of `rows` rows of `n_per_row` weights, without padding.
    ///
    /// # Errors
    /// As [`row_bytes`](Self::row_bytes).
    pub fn tensor_bytes(self, rows: usize, n_per_row: usize) -> Result<u64> {
        (self.row_bytes(n_per_row)? as u64)
            .checked_mul(rows as u64)
            .ok_or(Error::SizeOverflow { what: "the bytes of a tensor" })
    }
}

/// The type that llama-quantize takes for rows of `n_per_row` weights when `ty` was wanted
/// (`tensor_type_fallback`): another of nearly as many bits with smaller blocks where blocks of `ty` do not divide
/// the row, and F16 where those do not, either. (Since 2026; before, Q2_K and Q3_K fell back to IQ4_NL.)
///
/// ```
/// use ramp_gguf::GgmlType::{F16, Q4_K, Q5_0};
/// use ramp_gguf::fallback;
/// assert_eq!(fallback(Q4_K, 4096), Q4_K);
/// assert_eq!(fallback(Q4_K, 896), Q5_0);
/// assert_eq!(fallback(Q4_K, 100), F16);
/// ```
pub fn fallback(ty: GgmlType, n_per_row: u64) -> GgmlType {
    use GgmlType::*;
    let fits = |ty: GgmlType| n_per_row.is_multiple_of(ty.block_size() as u64);
    let smaller = match ty {
        _ if fits(ty) => ty,
        IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S | IQ4_XS => IQ4_NL,
        Q2_0 | Q2_K | Q3_K | TQ1_0 | TQ2_0 => Q4_0,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        other => other,
    };
    if fits(smaller) { smaller } else { F16 }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for GgmlType {
    type Err = Error;

    /// Reads a name in any case: `Q4_K`, `q4_k` and ggml's own `q4_K` are the same type.
    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|ty| ty.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| Error::UnknownTypeName { name: name.to_owned() })
    }
}

impl Serialize for GgmlType {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for GgmlType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        name.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_round_trip_and_ids_ascend() {
        for pair in GgmlType::ALL.windows(2) {
            assert!(pair[0].id() < pair[1].id());
        }
        for &ty in GgmlType::ALL {
            assert_eq!(GgmlType::from_id(ty.id()).unwrap(), ty);
            assert_eq!(ty.name().parse::<GgmlType>().unwrap(), ty);
            assert_eq!(ty.name().to_lowercase().parse::<GgmlType>().unwrap(), ty);
            let json = serde_json::to_string(&ty).unwrap();
            assert_eq!(json, format!("\"{}\"", ty.name()));
            assert_eq!(serde_json::from_str::<GgmlType>(&json).unwrap(), ty);
        }
    }

    #[test]
    fn unknown_and_removed_ids_are_told_apart() {
        assert!(matches!(GgmlType::from_id(4), Err(Error::RemovedTypeId { id: 4 })));
        assert!(matches!(GgmlType::from_id(43), Err(Error::UnknownTypeId { id: 43 })));
        assert!(matches!("Q9_K".parse::<GgmlType>(), Err(Error::UnknownTypeName { name }) if name == "Q9_K"));
    }

    #[test]
    fn bits_per_weight_are_those_of_the_format_table() {
        let expected = [2.625, 3.4375, 4.25, 4.5, 4.5, 4.5, 5.0, 5.5, 5.5, 6.0, 6.5625, 8.5];
        assert_eq!(QUANTIZED.len(), expected.len());
        for (ty, bits) in QUANTIZED.iter().zip(expected) {
            assert_eq!(ty.bits_per_weight(), bits, "{ty}");
        }
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(GgmlType::Q4_K.row_bytes(512).unwrap(), 288);
        assert_eq!(GgmlType::Q4_K.tensor_bytes(3, 512).unwrap(), 864);
        assert!(matches!(
            GgmlType::Q4_K.row_bytes(300),
            Err(Error::RowNotBlockMultiple { ty: GgmlType::Q4_K, n_per_row: 300 })
        ));
        assert!(matches!(GgmlType::F32.row_bytes(usize::MAX), Err(Error::SizeOverflow { .. })));
        assert!(matches!(GgmlType::F32.tensor_bytes(usize::MAX, 1 << 40), Err(Error::SizeOverflow { .. })));
    }

    #[test]
    fn fallback_takes_the_next_type_that_fits() {
        assert_eq!(fallback(GgmlType::Q3_K, 256), GgmlType::Q3_K);
        for (ty, smaller) in [
            (GgmlType::Q2_K, GgmlType::Q4_0),
            (GgmlType::Q3_K, GgmlType::Q4_0),
            (GgmlType::Q4_K, GgmlType::Q5_0),
            (GgmlType::Q5_K, GgmlType::Q5_1),
            (GgmlType::Q6_K, GgmlType::Q8_0),
            (GgmlType::IQ4_XS, GgmlType::IQ4_NL),
            (GgmlType::IQ3_S, GgmlType::IQ4_NL),
            (GgmlType::Q8_0, GgmlType::Q8_0),
        ] {
            assert_eq!(fallback(ty, 512), ty);
            assert_eq!(fallback(ty, 1600), smaller, "{ty}");
            assert_eq!(fallback(ty, 1601), GgmlType::F16, "{ty}");
        }
        assert_eq!(fallback(GgmlType::Q6_K, 50), GgmlType::F16);
        assert_eq!(fallback(GgmlType::Q8_0, 33), GgmlType::F16);
        assert_eq!(fallback(GgmlType::F32, 33), GgmlType::F32);
    }
}
