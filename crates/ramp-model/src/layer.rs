//! Names of the quantizable matrices.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a matrix of a transformer block does. The order is the order of execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `q_proj`: queries.
    Q,
    /// `k_proj`: keys.
    K,
    /// `v_proj`: values.
    V,
    /// `c_attn` of GPT-2: queries, keys and values in one matrix, in this order.
    Qkv,
    /// `o_proj`, `attn.c_proj` of GPT-2: output projection of attention.
    O,
    /// `gate_proj` of SwiGLU.
    Gate,
    /// `up_proj` of SwiGLU, `c_fc` of GPT-2.
    Up,
    /// `down_proj` of SwiGLU, `mlp.c_proj` of GPT-2.
    Down,
}

impl Role {
    /// The roles of every architecture, in execution order. The blocks of one model have those of
    /// [`Architecture::roles`](crate::Architecture::roles).
    pub const ALL: [Self; 8] =
        [Self::Q, Self::K, Self::V, Self::Qkv, Self::O, Self::Gate, Self::Up, Self::Down];

    /// The GGUF spec's name for the tensor inside its block.
    #[must_use]
    pub const fn gguf_name(self) -> &'static str {
        match self {
            Self::Q => "attn_q",
            Self::K => "attn_k",
            Self::V => "attn_v",
            Self::Qkv => "attn_qkv",
            Self::O => "attn_output",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }

    /// Whether the matrix belongs to attention (the others belong to the feed-forward network).
    #[must_use]
    pub const fn is_attention(self) -> bool {
        matches!(self, Self::Q | Self::K | Self::V | Self::Qkv | Self::O)
    }
}

/// One quantizable matrix. Orders as llama.cpp executes: `token_embd`, the blocks, `output`.
///
/// Prints and parses as the GGUF tensor name.
///
/// ```
/// use ramp_model::{LayerId, Role};
/// let id: LayerId = "blk.3.ffn_down.weight".parse().unwrap();
/// assert_eq!(id, LayerId::Block { block: 3, role: Role::Down });
/// assert_eq!(id.to_string(), "blk.3.ffn_down.weight");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerId {
    /// The token embedding, `token_embd.weight`.
    TokenEmbd,
    /// A linear layer of a transformer block.
    Block {
        /// Index of the block from 0.
        block: usize,
        /// Which matrix of the block.
        role: Role,
    },
    /// The language-modelling head, `output.weight`; absent when tied to the embedding.
    Output,
}

impl LayerId {
    /// Index of the block, if the matrix is in one.
    #[must_use]
    pub const fn block(self) -> Option<usize> {
        match self {
            Self::Block { block, .. } => Some(block),
            _ => None,
        }
    }

    /// Role inside the block, if the matrix is in one.
    #[must_use]
    pub const fn role(self) -> Option<Role> {
        match self {
            Self::Block { role, .. } => Some(role),
            _ => None,
        }
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenEmbd => f.write_str("token_embd.weight"),
            Self::Output => f.write_str("output.weight"),
            Self::Block { block, role } => write!(f, "blk.{block}.{}.weight", role.gguf_name()),
        }
    }
}

/// A string that is not the GGUF name of a quantizable matrix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the GGUF name of a quantizable matrix")]
pub struct ParseLayerIdError(String);

impl FromStr for LayerId {
    type Err = ParseLayerIdError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let rest = s.strip_suffix(".weight")?;
            match rest {
                "token_embd" => return Some(Self::TokenEmbd),
                "output" => return Some(Self::Output),
                _ => {}
            }
            let (block, name) = rest.strip_prefix("blk.")?.split_once('.')?;
            let role = Role::ALL.into_iter().find(|role| role.gguf_name() == name)?;
            Some(Self::Block { block: block.parse().ok()?, role })
        };
        parse().ok_or_else(|| ParseLayerIdError(s.to_owned()))
    }
}

impl Serialize for LayerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LayerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let ids = [LayerId::TokenEmbd, LayerId::Output]
            .into_iter()
            .chain(Role::ALL.into_iter().map(|role| LayerId::Block { block: 17, role }));
        for id in ids {
            assert_eq!(id.to_string().parse(), Ok(id));
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(serde_json::from_str::<LayerId>(&json).unwrap(), id);
        }
    }

    #[test]
    fn other_names_are_refused() {
        for bad in ["blk.0.attn_norm.weight", "blk.x.attn_q.weight", "blk.0.attn_q", "", "output"] {
            assert!(bad.parse::<LayerId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn order_is_execution_order() {
        let q1 = LayerId::Block { block: 1, role: Role::Q };
        let down0 = LayerId::Block { block: 0, role: Role::Down };
        assert!(LayerId::TokenEmbd < down0 && down0 < q1 && q1 < LayerId::Output);
    }
}
