//! Which tokens are put around a text.

use super::json::{PostProcessor, TemplatePiece, TokenizerJson, reason};
use crate::Result;

/// The tokens that a post-processor puts in front of and behind a single text.
#[derive(Default)]
pub(super) struct Template {
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
}

impl Template {
    pub(super) fn parse(json: &TokenizerJson<'_>) -> Result<Self> {
        let mut template = Self::default();
        for processor in json.post_processors() {
            let (single, special_tokens) = match processor {
                // Only trims offsets.
                PostProcessor::ByteLevel => continue,
                PostProcessor::TemplateProcessing { single, special_tokens } => (single, special_tokens),
                _ => return Err(reason("the post-processor adds tokens in a way that llama.cpp cannot")),
            };
            let mut text_seen = false;
            for piece in single {
                let TemplatePiece::SpecialToken { id: token } = piece else {
                    text_seen = true;
                    continue;
                };
                let Some(&[id]) = special_tokens.get(token).map(|token| token.ids.as_slice()) else {
                    return Err(reason(format!("template token `{token}` has no single id")));
                };
                let place = if text_seen { &mut template.eos } else { &mut template.bos };
                if place.replace(id).is_some() {
                    return Err(reason("the template adds more than one token to an end of the text"));
                }
            }
        }
        Ok(template)
    }
}
