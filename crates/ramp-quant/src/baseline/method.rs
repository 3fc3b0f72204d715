//! Names of methods.

use std::{fmt, str::FromStr};

use ramp_gguf::GgmlType;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    affine::AffineConfig,
    error::{Error, Result},
    format::Format,
    gptq::GptqConfig,
    layer_quantizer::Rounding,
};

/// The group of a method whose name has none; the paper's (Table 10).
const GROUP: usize = 128;

/// A published method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// Round to nearest.
    Rtn,
    /// GPTQ with act-order, static groups and, by default, true-sequential inputs.
    Gptq,
    /// AWQ with scales and clipping.
    Awq,
    /// SmoothQuant, weights only.
    Smoothquant,
    /// SqueezeLLM, dense and sparse.
    Squeezellm,
    /// QuIP# without its lattice and fine-tuning.
    Quip,
    /// LRQ, for the output of each block; with inputs of the unquantized model, for the output of each matrix.
    Lrq,
}

impl Kind {
    /// Every method.
    pub const ALL: [Self; 7] =
        [Self::Rtn, Self::Gptq, Self::Awq, Self::Smoothquant, Self::Squeezellm, Self::Quip, Self::Lrq];

    /// The name in front of the bits.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rtn => "rtn",
            Self::Gptq => "gptq",
            Self::Awq => "awq",
            Self::Smoothquant => "smoothquant",
            Self::Squeezellm => "squeezellm",
            Self::Quip => "quip",
            Self::Lrq => "lrq",
        }
    }

    /// Whether weights share scales in groups; SqueezeLLM has a table for each row.
    #[must_use]
    pub const fn has_groups(self) -> bool {
        !matches!(self, Self::Squeezellm)
    }

    /// Whose inputs the method's program takes.
    #[must_use]
    pub const fn inputs(self) -> Inputs {
        match self {
            Self::Gptq | Self::Lrq => Inputs::Quantized,
            _ => Inputs::Unquantized,
        }
    }
}

/// Which model the inputs of a matrix come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Inputs {
    /// The unquantized model, in one pass for all: `-onepass`.
    Unquantized,
    /// The model in which everything in front of the matrix is quantized already: `-sequential`. Within a block these are
    /// q, k and v, then o, then gate and up, then down (AutoGPTQ's and GPTQModel's `true_sequential`).
    Quantized,
}

impl Inputs {
    /// The end of a name.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Unquantized => "-onepass",
            Self::Quantized => "-sequential",
        }
    }
}

/// How a model can be quantized. Prints, parses and serialises as `gptq4`, `gptq4-onepass`, `awq3-g64`, `q4_k`, `q3_k-gptq`,
/// `q3_k-gptq-sequential` or `q4_k-learned`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// A published method.
    Published {
        /// Which.
        kind: Kind,
        /// Bits of a code, 2 to 8.
        bits: u8,
        /// Weights that share a scale; of no meaning where the method has no groups.
        group: usize,
        /// Whose inputs; of no meaning for RTN, which looks at none.
        inputs: Inputs,
    },
    /// A format, mostly a tensor type of GGUF files, with the imatrix.
    Format {
        /// The format.
        format: Format,
        /// How its codes are chosen.
        rounding: Rounding,
        /// Whose inputs. A file that was searched for has [`Inputs::Unquantized`]: what a matrix becomes must not depend
        /// on the others.
        inputs: Inputs,
    },
    /// A format with a grid, whose codes begin with GPTQ rounding and are learned for the output of blocks
    /// ([`crate::learn_rounding`]): `q4_k-learned`.
    Learned {
        /// The format.
        format: Format,
    },
}

impl Method {
    /// A published method, with the inputs that its program takes.
    #[must_use]
    pub const fn published(kind: Kind, bits: u8, group: usize) -> Self {
        Self::Published { kind, bits, group, inputs: kind.inputs() }
    }

    /// Whose inputs the method takes.
    #[must_use]
    pub const fn inputs(self) -> Inputs {
        match self {
            Self::Published { inputs, .. } | Self::Format { inputs, .. } => inputs,
            Self::Learned { .. } => Inputs::Quantized,
        }
    }

    /// Bits per weight as the paper counts them: the number in the name.
    #[must_use]
    pub fn nominal_bits(self) -> f64 {
        match self {
            Self::Published { bits, .. } => f64::from(bits),
            Self::Format { format, .. } | Self::Learned { format } => format.nominal_bits(),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, default) = match self {
            Self::Published { kind, bits, group, .. } => {
                let name = format!("{}{bits}", kind.name());
                let with_group = kind.has_groups() && *group != GROUP;
                (if with_group { format!("{name}-g{group}") } else { name }, kind.inputs())
            }
            Self::Format { format, rounding, .. } => {
                let suffix = if matches!(rounding, Rounding::Gptq(_)) { "-gptq" } else { "" };
                (format!("{}{suffix}", format.to_string().to_lowercase()), Inputs::Unquantized)
            }
            Self::Learned { format } => {
                (format!("{}-learned", format.to_string().to_lowercase()), Inputs::Quantized)
            }
        };
        let inputs = Some(self.inputs()).filter(|inputs| *inputs != default).map_or("", Inputs::suffix);
        f.pad(&(text + inputs))
    }
}

impl FromStr for Method {
    type Err = Error;

    /// Reads the printed form, in any case.
    ///
    /// # Errors
    /// When the name is unknown, the width is not 2 to 8 bits, a group is empty or the method has none, or the format
    /// cannot be encoded or has no grid to round on.
    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::UnknownMethod { text: text.to_owned() };
        let name = text.to_lowercase();
        let (name, inputs) = [Inputs::Unquantized, Inputs::Quantized]
            .into_iter()
            .find_map(|inputs| Some((name.strip_suffix(inputs.suffix())?, Some(inputs))))
            .unwrap_or((&name, None));
        for kind in Kind::ALL {
            let Some(rest) = name.strip_prefix(kind.name()) else { continue };
            let (bits, group) = match rest.split_once("-g") {
                Some(_) if !kind.has_groups() => return Err(Error::NoGroups { kind: kind.name() }),
                Some((bits, group)) => (bits, number(group).ok_or_else(unknown)?),
                None => (rest, GROUP),
            };
            let bits = number(bits).ok_or_else(unknown)?;
            // A number that is no u8 is no width either.
            let bits = u8::try_from(bits).unwrap_or(u8::MAX);
            AffineConfig::per_group(bits, group).validate()?;
            if kind == Kind::Rtn && inputs.is_some() {
                return Err(unknown());
            }
            let inputs = inputs.unwrap_or(kind.inputs());
            return Ok(Self::Published { kind, bits, group, inputs });
        }
        let (format, rounding) = match name.strip_suffix("-gptq") {
            Some(format) => (format, Rounding::Gptq(GptqConfig::default())),
            None => (name.strip_suffix("-learned").unwrap_or(name), Rounding::Nearest),
        };
        let learned = name.ends_with("-learned");
        if rounding == Rounding::Nearest && inputs.is_some() {
            return Err(unknown());
        }
        let inputs = inputs.unwrap_or(Inputs::Unquantized);
        let format: Format = format.parse().map_err(|error| match error {
            Error::UnknownFormat { .. } => unknown(),
            other => other,
        })?;
        let on_a_grid = learned || matches!(rounding, Rounding::Gptq(_));
        match format {
            Format::Affine { .. } if on_a_grid => Err(unknown()),
            Format::Ggml(ty) if on_a_grid && !ramp_gguf::has_grid(ty) => {
                Err(ramp_gguf::Error::NoGrid { ty }.into())
            }
            _ if learned => Ok(Self::Learned { format }),
            _ => Ok(Self::Format { format, rounding, inputs }),
        }
    }
}

/// Digits only: `parse` alone would take `+4`.
fn number(text: &str) -> Option<usize> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

impl From<GgmlType> for Method {
    fn from(ty: GgmlType) -> Self {
        Self::Format { format: ty.into(), rounding: Rounding::Nearest, inputs: Inputs::Unquantized }
    }
}

impl Serialize for Method {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let names = [
            "rtn4",
            "gptq3",
            "gptq3-onepass",
            "gptq4-g32-onepass",
            "quip3-sequential",
            "q4_k-gptq-sequential",
            "awq4-g64",
            "smoothquant8",
            "squeezellm3",
            "quip2-g32",
            "lrq4",
            "q4_k",
            "q3_k-gptq",
            "q3_k-learned",
            "iq4_xs",
            "q8_0",
            "affine4-g128",
        ];
        for name in names {
            let method: Method = name.parse().unwrap();
            assert_eq!(method.to_string(), name);
            assert_eq!(
                serde_json::from_str::<Method>(&serde_json::to_string(&method).unwrap()).unwrap(),
                method
            );
        }
        let published = |kind| Method::published(kind, 4, 128);
        assert_eq!("GPTQ4".parse::<Method>().unwrap(), published(Kind::Gptq));
        assert_eq!("awq4-g128".parse::<Method>().unwrap(), published(Kind::Awq));
        assert_eq!("gptq4-sequential".parse::<Method>().unwrap(), published(Kind::Gptq));
        assert_eq!("gptq4".parse::<Method>().unwrap().inputs(), Inputs::Quantized);
        assert_eq!("awq4-onepass".parse::<Method>().unwrap(), published(Kind::Awq));
        assert_eq!("q3_k-gptq-onepass".parse::<Method>().unwrap().to_string(), "q3_k-gptq");
        assert_eq!("Q4_K".parse::<Method>().unwrap(), GgmlType::Q4_K.into());
        assert_eq!("q6_k".parse::<Method>().unwrap().nominal_bits(), 6.0);
        assert_eq!("lrq3".parse::<Method>().unwrap().nominal_bits(), 3.0);
    }

    #[test]
    fn broken_names_are_refused() {
        let error = |text: &str| text.parse::<Method>().unwrap_err();
        for text in [
            "",
            "rtn",
            "rtn-g4",
            "rtn4-",
            "rtn4g4",
            "gptq4-g",
            "gptq+4",
            "awq4-g-1",
            "omniquant4",
            "rtn4-sequential",
            "q4_k-sequential",
            "q4_k-learned-sequential",
            "affine4-g128-learned",
            "gptq4-sequential-g64",
            "-onepass",
            "q9_k",
            "affine4-g128-gptq",
        ] {
            assert!(matches!(error(text), Error::UnknownMethod { .. }), "{text}: {}", error(text));
        }
        assert!(matches!(error("rtn9"), Error::Bits { bits: 9 }));
        assert!(matches!(error("rtn1"), Error::Bits { bits: 1 }));
        assert!(matches!(error("rtn4444"), Error::Bits { .. }));
        assert!(matches!(error("gptq4-g0"), Error::EmptyGroup));
        assert!(matches!(error("squeezellm4-g64"), Error::NoGroups { .. }));
        assert!(matches!(error("f16-learned"), Error::Gguf(ramp_gguf::Error::NoGrid { .. })));
        assert!(matches!(error("f16-gptq"), Error::Gguf(ramp_gguf::Error::NoGrid { .. })));
    }
}
