//! The names of llama-quantize's mixes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Error, GgmlType, Result};

macro_rules! ftypes {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $base:ident;)*) => {
        /// A file type of llama.cpp (`enum llama_ftype`): which mix of tensor types a whole file has. Serialises
        /// as its name (`"Q4_K_M"`).
        ///
        /// These are the file types whose rules [`types`](super::types) knows: all float, legacy and K-quant
        /// types, and those of the `IQ` types that need no importance matrix for their base type.
        #[allow(non_camel_case_types)]
        #[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
        #[non_exhaustive]
        pub enum LlamaFtype {
            $($(#[$doc])* $variant,)*
        }

        impl LlamaFtype {
            /// Every file type, in the order of the ids.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number in the metadata key `general.file_type`.
            pub const fn id(self) -> u32 {
                match self {
                    $(Self::$variant => $id,)*
                }
            }

            /// The name, as llama-quantize takes it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)*
                }
            }

            /// The type of every matrix that no rule gives another (`llama_ftype_get_default_type`).
            pub const fn base(self) -> GgmlType {
                match self {
                    $(Self::$variant => GgmlType::$base,)*
                }
            }
        }
    };
}

ftypes! {
    /// All tensors F32.
    F32 = 0, F32;
    /// Matrices F16.
    F16 = 1, F16;
    /// Matrices Q4_0.
    Q4_0 = 2, Q4_0;
    /// Matrices Q4_1.
    Q4_1 = 3, Q4_1;
    /// Matrices Q8_0.
    Q8_0 = 7, Q8_0;
    /// Matrices Q5_0.
    Q5_0 = 8, Q5_0;
    /// Matrices Q5_1.
    Q5_1 = 9, Q5_1;
    /// Q2_K, with Q3_K where it hurts most.
    Q2_K = 10, Q2_K;
    /// Q3_K.
    Q3_K_S = 11, Q3_K;
    /// Q3_K with Q4_K and Q5_K.
    Q3_K_M = 12, Q3_K;
    /// Q3_K with Q5_K.
    Q3_K_L = 13, Q3_K;
    /// Q4_K with some Q5_K.
    Q4_K_S = 14, Q4_K;
    /// Q4_K with Q6_K.
    Q4_K_M = 15, Q4_K;
    /// Q5_K.
    Q5_K_S = 16, Q5_K;
    /// Q5_K with Q6_K.
    Q5_K_M = 17, Q5_K;
    /// Q6_K.
    Q6_K = 18, Q6_K;
    /// Q2_K with some Q4_K.
    Q2_K_S = 21, Q2_K;
    /// IQ3_S with IQ3_XXS.
    IQ3_XS = 22, IQ3_S;
    /// IQ4_NL with some Q5_K.
    IQ4_NL = 25, IQ4_NL;
    /// IQ3_S.
    IQ3_S = 26, IQ3_S;
    /// IQ3_S with Q4_K.
    IQ3_M = 27, IQ3_S;
    /// IQ4_XS with some Q5_K.
    IQ4_XS = 30, IQ4_XS;
    /// Matrices BF16.
    BF16 = 32, BF16;
}

impl LlamaFtype {
    /// The file type with this number.
    ///
    /// # Errors
    /// [`Error::UnknownFtype`].
    pub fn from_id(id: u32) -> Result<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|ftype| ftype.id() == id)
            .ok_or_else(|| Error::UnknownFtype { name: id.to_string() })
    }
}

impl fmt::Display for LlamaFtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for LlamaFtype {
    type Err = Error;

    /// Reads a name in any case. `Q3_K`, `Q4_K` and `Q5_K` stand for the `_M` mixes, as in llama-quantize.
    fn from_str(name: &str) -> Result<Self> {
        match name.to_ascii_uppercase().as_str() {
            "Q3_K" => Ok(Self::Q3_K_M),
            "Q4_K" => Ok(Self::Q4_K_M),
            "Q5_K" => Ok(Self::Q5_K_M),
            upper => Self::ALL
                .iter()
                .copied()
                .find(|ftype| ftype.name() == upper)
                .ok_or_else(|| Error::UnknownFtype { name: name.to_owned() }),
        }
    }
}

impl Serialize for LlamaFtype {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for LlamaFtype {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        name.parse().map_err(de::Error::custom)
    }
}
