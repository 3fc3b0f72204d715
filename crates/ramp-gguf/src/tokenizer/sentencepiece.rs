//! The pieces of a SentencePiece `ModelProto` (`tokenizer.model`), a protocol buffer.
//!
//! Fields read (`sentencepiece_model.proto`): `ModelProto.pieces = 1` with `piece = 1`, `score = 2`, `type = 3`,
//! and `ModelProto.trainer_spec = 2` with `model_type = 3`. All others are skipped.

use super::vocab::TokenType;
use crate::{Error, Result};

pub(super) struct Piece {
    pub(super) text: String,
    /// Log probability for unigram models; the negated place in the order of merges for BPE.
    pub(super) score: f32,
    pub(super) kind: TokenType,
}

/// `TrainerSpec.ModelType.BPE`.
const BPE: u64 = 2;

/// The pieces in the order of their ids.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    // The proto's default is a unigram model.
    let mut model_type = 1;
    let mut message = Message { bytes, position: 0, start: 0 };
    while let Some((field, value)) = message.next()? {
        match (field, value) {
            (1, Field::Bytes(piece)) => pieces.push(parse_piece(piece)?),
            (2, Field::Bytes(mut spec)) => {
                while let Some((field, value)) = spec.next()? {
                    if let (3, Field::Varint(value)) = (field, value) {
                        model_type = value;
                    }
                }
            }
            _ => {}
        }
    }
    if pieces.is_empty() {
        return Err(message.error("no pieces"));
    }
    if model_type != BPE {
        return Err(message.error("the model is not a BPE model"));
    }
    Ok(pieces)
}

fn parse_piece(mut message: Message<'_>) -> Result<Piece> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: TokenType::Normal };
    while let Some((field, value)) = message.next()? {
        match (field, value) {
            (1, Field::Bytes(text)) => {
                piece.text = std::str::from_utf8(text.bytes)
                    .map_err(|_| text.error("a piece is not UTF-8"))?
                    .to_owned();
            }
            (2, Field::Fixed32(bits)) => piece.score = f32::from_bits(bits),
            (3, Field::Varint(kind)) => {
                piece.kind = match kind {
                    1 => TokenType::Normal,
                    2 => TokenType::Unknown,
                    3 => TokenType::Control,
                    4 => TokenType::UserDefined,
                    5 => TokenType::Unused,
                    6 => TokenType::Byte,
                    _ => return Err(message.error("unknown type of a piece")),
                }
            }
            _ => {}
        }
    }
    if !piece.score.is_finite() {
        return Err(message.error("the score of a piece is not finite"));
    }
    Ok(piece)
}

/// The value of a field; 64-bit values are skipped where they stand.
enum Field<'a> {
    Varint(u64),
    Fixed32(u32),
    Fixed64,
    Bytes(Message<'a>),
}

/// Bytes of a message, and how far they are read.
struct Message<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Where `bytes` start in the file, for errors.
    start: usize,
}

impl<'a> Message<'a> {
    fn error(&self, reason: &'static str) -> Error {
        Error::SentencePiece { reason, offset: self.start + self.position }
    }

    /// The number and value of the next field, or `None` at the end.
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>> {
        if self.position == self.bytes.len() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Field::Fixed64
            }
            2 => {
                let length = self.varint()?;
                let start = self.start + self.position;
                let length = usize::try_from(length).map_err(|_| self.error("a length is too large"))?;
                Field::Bytes(Message { bytes: self.take(length)?, position: 0, start })
            }
            5 => {
                let mut bits = [0; 4];
                bits.copy_from_slice(self.take(4)?);
                Field::Fixed32(u32::from_le_bytes(bits))
            }
            _ => return Err(self.error("unknown wire type")),
        };
        Ok(Some((key >> 3, value)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.position.checked_add(length).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| self.error("a field reaches past the end"))?;
        let taken = &self.bytes[self.position..end];
        self.position = end;
        Ok(taken)
    }

    /// Up to ten bytes of seven bits, lowest first.
    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error("a number is longer than ten bytes"))
    }
}
