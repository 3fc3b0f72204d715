//! What a model may cost.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A limit on the size of a quantized model, in one of three units.
///
/// Serialises as `{"bytes": 3700000000}`, `{"bits_per_weight": 4.25}` or `{"mean_bits": 4.0}`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Bytes of the whole file, header and unquantized tensors included.
    Bytes(u64),
    /// Bits per weight over all matrices, scales included: llama.cpp's unit.
    BitsPerWeight(f64),
    /// Mean of the nominal bits over the matrices of the blocks, each counted once whatever its size: the
    /// paper's unit (Eq. 8).
    MeanBits(f64),
}

impl Budget {
    /// Checks that there is something to spend.
    ///
    /// # Errors
    /// When the number is zero, negative, infinite or NaN.
    pub fn validate(self) -> Result<()> {
        let possible = match self {
            Self::Bytes(bytes) => bytes > 0,
            Self::BitsPerWeight(bits) | Self::MeanBits(bits) => bits > 0.0 && bits.is_finite(),
        };
        if possible { Ok(()) } else { Err(Error::Budget { budget: self }) }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
            Self::BitsPerWeight(bits) => write!(f, "{bits} bits per weight"),
            Self::MeanBits(bits) => write!(f, "{bits} mean bits"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_no_budget_are_refused() {
        for budget in [Budget::Bytes(1), Budget::BitsPerWeight(4.25), Budget::MeanBits(3.65)] {
            assert!(budget.validate().is_ok(), "{budget}");
            let json = serde_json::to_string(&budget).unwrap();
            assert_eq!(serde_json::from_str::<Budget>(&json).unwrap(), budget);
        }
        for bits in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(Budget::BitsPerWeight(bits).validate(), Err(Error::Budget { .. })));
            assert!(matches!(Budget::MeanBits(bits).validate(), Err(Error::Budget { .. })));
        }
        let error = Budget::Bytes(0).validate().unwrap_err();
        assert_eq!(error.to_string(), "a budget must be a number above zero, it is 0 bytes");
    }

    #[test]
    fn json_names_the_unit() {
        assert_eq!(serde_json::to_string(&Budget::Bytes(7)).unwrap(), r#"{"bytes":7}"#);
        assert_eq!(serde_json::to_string(&Budget::MeanBits(4.5)).unwrap(), r#"{"mean_bits":4.5}"#);
    }
}
