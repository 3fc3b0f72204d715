//! A SentencePiece `ModelProto` (`tokenizer.model`), a protocol buffer.
//!
//! Fields read (`sentencepiece_model.proto`): `ModelProto.pieces = 1` with `piece = 1`, `score = 2`, `type = 3`;
//! `ModelProto.trainer_spec = 2` with `model_type = 3`, `byte_fallback = 35` and the ids `unk = 40`, `bos = 41`,
//! `eos = 42`, `pad = 43`; `ModelProto.normalizer_spec = 3` with `name = 1`, `precompiled_charsmap = 2`,
//! `add_dummy_prefix = 3`, `remove_extra_whitespaces = 4`, `escape_whitespaces = 5`. All others are skipped.

use super::vocab::TokenType;
use crate::{Error, Result};

/// What of a model matters here. Defaults are those of the proto.
pub(super) struct Model {
    /// In the order of their ids.
    pub(super) pieces: Vec<Piece>,
    pub(super) byte_fallback: bool,
    /// `None` for a token that the model does not have.
    pub(super) unk: Option<u32>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) pad: Option<u32>,
    pub(super) normalizer: Normalizer,
}

/// What happens to a text before it is split.
pub(super) struct Normalizer {
    pub(super) name: String,
    /// Whether characters are replaced by others (NFKC and the like).
    pub(super) has_charsmap: bool,
    pub(super) add_dummy_prefix: bool,
    pub(super) remove_extra_whitespaces: bool,
    pub(super) escape_whitespaces: bool,
}

pub(super) struct Piece {
    pub(super) text: String,
    /// Log probability for unigram models; the negated place in the order of merges for BPE.
    pub(super) score: f32,
    pub(super) kind: TokenType,
}

/// `TrainerSpec.ModelType.UNIGRAM`, the default.
const UNIGRAM: u64 = 1;
/// `TrainerSpec.ModelType.BPE`.
const BPE: u64 = 2;

pub(super) fn parse(bytes: &[u8]) -> Result<Model> {
    let mut model = Model {
        pieces: Vec::new(),
        byte_fallback: false,
        unk: Some(0),
        bos: Some(1),
        eos: Some(2),
        pad: None,
        normalizer: Normalizer {
            name: String::new(),
            has_charsmap: false,
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        },
    };
    let mut model_type = UNIGRAM;
    let mut message = Message { bytes, position: 0, start: 0 };
    while let Some((field, value)) = message.next()? {
        match (field, value) {
            (1, Field::Bytes(piece)) => model.pieces.push(parse_piece(piece)?),
            (2, Field::Bytes(mut spec)) => {
                while let Some((field, value)) = spec.next()? {
                    let Field::Varint(value) = value else { continue };
                    match field {
                        3 => model_type = value,
                        35 => model.byte_fallback = value != 0,
                        40 => model.unk = id(value),
                        41 => model.bos = id(value),
                        42 => model.eos = id(value),
                        43 => model.pad = id(value),
                        _ => {}
                    }
                }
            }
            (3, Field::Bytes(spec)) => parse_normalizer(spec, &mut model.normalizer)?,
            _ => {}
        }
    }
    if model.pieces.is_empty() {
        return Err(message.error("no pieces"));
    }
    if model_type != BPE {
        return Err(message.error("the model is not a BPE model"));
    }
    Ok(model)
}

/// An id is an `int32`; a negative one says that there is no such token.
fn id(value: u64) -> Option<u32> {
    u32::try_from(value).ok().filter(|&id| i32::try_from(id).is_ok())
}

fn parse_normalizer(mut spec: Message<'_>, normalizer: &mut Normalizer) -> Result<()> {
    while let Some((field, value)) = spec.next()? {
        match (field, value) {
            (1, Field::Bytes(name)) => normalizer.name = String::from_utf8_lossy(name.bytes).into_owned(),
            (2, Field::Bytes(charsmap)) => normalizer.has_charsmap = !charsmap.bytes.is_empty(),
            (3, Field::Varint(value)) => normalizer.add_dummy_prefix = value != 0,
            (4, Field::Varint(value)) => normalizer.remove_extra_whitespaces = value != 0,
            (5, Field::Varint(value)) => normalizer.escape_whitespaces = value != 0,
            _ => {}
        }
    }
    Ok(())
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
