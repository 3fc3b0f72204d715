//! How one matrix is stored, and what that costs.

use std::{fmt, str::FromStr};

use ramp_gguf::GgmlType;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    affine::AffineConfig,
    error::{Error, Result},
};

/// How one matrix is stored. Prints, parses and serialises as `Q4_K` or `affine4-g128`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Format {
    /// Per-group affine quantization along the input axis (Eq. 10); see [`crate::affine`].
    Affine {
        /// Bits of a code, 2 to 8.
        bits: u8,
        /// Weights of one output channel that share a scale and a zero point.
        group: usize,
    },
    /// A tensor type of GGUF files.
    Ggml(GgmlType),
}

impl Format {
    /// The tensor type for a bit width of the paper (Eq. 23): 3 to 6 bits are Q3_K to Q6_K, and 7 and 8 are
    /// Q8_0 ("higher assignments default to Q8_0"). `None` for any other width.
    ///
    /// Eq. 23 names `Q3_K_M`, `Q4_K_M` and `Q5_K_M`: recipes for whole files, which mix types. One matrix has
    /// one type, and these are the types that give the recipes their names.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(Self::Ggml(match bits {
            3 => GgmlType::Q3_K,
            4 => GgmlType::Q4_K,
            5 => GgmlType::Q5_K,
            6 => GgmlType::Q6_K,
            7 | 8 => GgmlType::Q8_0,
            _ => return None,
        }))
    }

    /// Bits per weight with everything that the format stores, for rows of whole groups or blocks.
    ///
    /// The 16-bit scale and the zero point of an affine group are shared by the group:
    /// `affine4-g128` takes 4 + (16 + 4) / 128 = 4.15625 bits.
    #[must_use]
    pub fn bits_per_weight(self) -> f64 {
        match self {
            Self::Affine { bits, group } => f64::from(bits) + (16.0 + f64::from(bits)) / group.max(1) as f64,
            Self::Ggml(ty) => ty.bits_per_weight(),
        }
    }

    /// Bits per weight as the paper counts them: the number in the name, without scales and zero points
    /// (Q2_K 2, Q3_K 3, Q4_K and IQ4_XS 4, Q5_K 5, Q6_K 6, Q8_0 8, F16 and BF16 16, F32 32).
    #[must_use]
    pub fn nominal_bits(self) -> f64 {
        match self {
            Self::Affine { bits, .. } => f64::from(bits),
            // Here scale and minimum take a whole bit.
            Self::Ggml(ty @ (GgmlType::Q4_1 | GgmlType::Q5_1)) => ty.bits_per_weight() - 1.0,
            // For every other type with an encoder the whole bits are those of the codes.
            Self::Ggml(ty) => ty.bits_per_weight().floor(),
        }
    }

    /// Bytes of a matrix `[out, in]`, without padding between tensors.
    ///
    /// Every cost in this project comes from here, and every stored matrix has exactly this many bytes.
    /// An affine matrix stores each row on its own: the packed codes, one f16 scale per group, the packed zero
    /// points. The last group of a row may be short and costs as much metadata as a whole one.
    ///
    /// # Errors
    /// When the shape is empty or overflows, the affine parameters are out of range or a group is larger than the
    /// row, or the row is not a multiple of the ggml type's block.
    pub fn bytes(self, shape: [usize; 2]) -> Result<u64> {
        let [out, inp] = shape;
        if out == 0 || inp == 0 {
            return Err(Error::EmptyShape { shape });
        }
        match self {
            Self::Affine { bits, group } => AffineConfig::per_group(bits, group).bytes(shape),
            Self::Ggml(ty) => Ok(ty.tensor_bytes(out, inp)?),
        }
    }

    /// The tensor type; `None` for affine formats, which GGUF files cannot hold.
    #[must_use]
    pub const fn ggml(self) -> Option<GgmlType> {
        match self {
            Self::Affine { .. } => None,
            Self::Ggml(ty) => Some(ty),
        }
    }

    /// The format that a matrix with `n_per_row` input channels gets when this one was asked for: itself where
    /// rows are whole blocks, else what [`ramp_gguf::fallback`] says. An affine format's groups become no larger than
    /// the row.
    #[must_use]
    pub fn fallback(self, n_per_row: usize) -> Self {
        match self {
            Self::Affine { bits, group } => Self::Affine { bits, group: group.min(n_per_row.max(1)) },
            Self::Ggml(ty) => Self::Ggml(ramp_gguf::fallback(ty, n_per_row as u64)),
        }
    }
}

impl From<GgmlType> for Format {
    fn from(ty: GgmlType) -> Self {
        Self::Ggml(ty)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Affine { bits, group } => f.pad(&format!("affine{bits}-g{group}")),
            Self::Ggml(ty) => ty.fmt(f),
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    /// Reads the printed form; ggml names in any case.
    ///
    /// # Errors
    /// When the name is unknown, the affine parameters are out of range, or the type has no encoder.
    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::UnknownFormat { text: text.to_owned() };
        if let Some(rest) = text.strip_prefix("affine") {
            let (bits, group) = rest.split_once("-g").ok_or_else(unknown)?;
            let (bits, group) = (bits.parse().map_err(|_| unknown())?, group.parse().map_err(|_| unknown())?);
            AffineConfig::per_group(bits, group).validate()?;
            return Ok(Self::Affine { bits, group });
        }
        let ty: GgmlType = text.parse().map_err(|_| unknown())?;
        if ty.can_encode() { Ok(Self::Ggml(ty)) } else { Err(Error::NoEncoder { ty }) }
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use ramp_gguf::QUANTIZED;

    use super::*;

    #[test]
    fn nominal_bits_are_the_number_in_the_name() {
        let expected = [
            (GgmlType::Q2_K, 2.0),
            (GgmlType::IQ4_XS, 4.0),
            (GgmlType::IQ4_NL, 4.0),
            (GgmlType::Q4_0, 4.0),
            (GgmlType::Q4_1, 4.0),
            (GgmlType::Q5_0, 5.0),
            (GgmlType::Q5_1, 5.0),
            (GgmlType::Q3_K, 3.0),
            (GgmlType::Q4_K, 4.0),
            (GgmlType::Q5_K, 5.0),
            (GgmlType::Q6_K, 6.0),
            (GgmlType::Q8_0, 8.0),
            (GgmlType::F16, 16.0),
            (GgmlType::BF16, 16.0),
            (GgmlType::F32, 32.0),
        ];
        for (ty, bits) in expected {
            assert_eq!(Format::Ggml(ty).nominal_bits(), bits, "{ty}");
        }
        assert_eq!(Format::Affine { bits: 5, group: 64 }.nominal_bits(), 5.0);
    }

    #[test]
    fn equation_23_maps_bits_to_tensor_types() {
        let names = (0..=9).map(|bits| Format::from_bits(bits).map(|format| format.to_string()));
        let expected = [None, None, None, Some("Q3_K"), Some("Q4_K"), Some("Q5_K"), Some("Q6_K")];
        let expected = expected.into_iter().chain([Some("Q8_0"), Some("Q8_0"), None]);
        assert!(names.eq(expected.map(|name| name.map(str::to_owned))));
    }

    #[test]
    fn bits_per_weight_is_the_cost_of_whole_groups() {
        let affine = [(4, 128), (3, 32), (8, 64)].map(|(bits, group)| Format::Affine { bits, group });
        for format in affine.into_iter().chain(QUANTIZED.iter().map(|&ty| Format::Ggml(ty))) {
            let bytes = format.bytes([8, 1024]).unwrap();
            assert_eq!(format.bits_per_weight() * 8.0 * 1024.0, 8.0 * bytes as f64, "{format}");
        }
        assert_eq!(Format::Affine { bits: 4, group: 128 }.bits_per_weight(), 4.15625);
    }

    #[test]
    fn short_groups_cost_a_scale_and_a_zero_point() {
        // 10 codes of 3 bits: 4 bytes; groups of 4, 4 and 2: three scales, 9 bits of zero points: 2 bytes.
        assert_eq!(Format::Affine { bits: 3, group: 4 }.bytes([7, 10]).unwrap(), 7 * (4 + 6 + 2));
    }

    #[test]
    fn names_round_trip() {
        let all = GgmlType::ALL.iter().filter(|ty| ty.can_encode()).map(|&ty| Format::Ggml(ty));
        for format in
            all.chain([Format::Affine { bits: 2, group: 1 }, Format::Affine { bits: 8, group: 4096 }])
        {
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
            let json = serde_json::to_string(&format).unwrap();
            assert_eq!(json, format!("\"{format}\""));
            assert_eq!(serde_json::from_str::<Format>(&json).unwrap(), format);
        }
        assert_eq!("q4_k".parse::<Format>().unwrap(), Format::Ggml(GgmlType::Q4_K));
    }

    #[test]
    fn broken_names_and_shapes_are_refused() {
        for text in ["", "Q9_K", "affine", "affine4", "affine-g4", "affine4-g", "affine4-g-1", "affine4-g1x"]
        {
            assert!(matches!(text.parse::<Format>(), Err(Error::UnknownFormat { .. })), "{text}");
        }
        assert!(matches!("affine9-g32".parse::<Format>(), Err(Error::Bits { bits: 9 })));
        assert!(matches!("affine4-g0".parse::<Format>(), Err(Error::EmptyGroup)));
        assert!(matches!("IQ2_S".parse::<Format>(), Err(Error::NoEncoder { ty: GgmlType::IQ2_S })));

        let affine = Format::Affine { bits: 4, group: 32 };
        assert!(matches!(affine.bytes([0, 4]), Err(Error::EmptyShape { .. })));
        assert!(matches!(affine.bytes([1 << 40, 1 << 40]), Err(Error::SizeOverflow { .. })));
        assert!(matches!(affine.bytes([1, usize::MAX]), Err(Error::SizeOverflow { .. })));
        assert!(matches!(Format::Affine { bits: 4, group: 0 }.bytes([1, 1]), Err(Error::EmptyGroup)));
        assert!(matches!(Format::Ggml(GgmlType::Q4_K).bytes([1, 300]), Err(Error::Gguf(_))));
    }

    #[test]
    fn fallback_keeps_what_fits() {
        assert_eq!(Format::Ggml(GgmlType::Q4_K).fallback(512), Format::Ggml(GgmlType::Q4_K));
        assert_eq!(Format::Ggml(GgmlType::Q4_K).fallback(1600), Format::Ggml(GgmlType::Q5_0));
        let affine = Format::Affine { bits: 4, group: 128 };
        assert_eq!(affine.fallback(128), affine);
        assert_eq!(affine.fallback(33), Format::Affine { bits: 4, group: 33 });
    }
}
