//! What text an episode is rewarded on.

use serde::{Deserialize, Serialize};

/// Which part of the text episodes are rewarded on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardSplit {
    /// Windows of their own, which neither calibrate nor report.
    #[default]
    Search,
    /// The windows that the result is reported on: what is found is then chosen by its test. The paper rewards with
    /// perplexity "on WikiText-2" and reports on WikiText-2's test part.
    Test,
}

/// How much of that part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardTokens {
    /// Windows spread over the part, with this many tokens at most.
    AtMost(usize),
    /// All of it. The paper names no subset; its 108 seconds for an episode do not allow all of WikiText-2.
    Full,
}

impl RewardTokens {
    /// The most tokens.
    #[must_use]
    pub const fn limit(self) -> usize {
        match self {
            Self::AtMost(tokens) => tokens,
            Self::Full => usize::MAX,
        }
    }
}

/// The text of rewards. Who cuts the text into windows keeps to it: [`Evaluator`](crate::Evaluator) takes windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardText {
    /// Which part of the text.
    pub split: RewardSplit,
    /// How much of it.
    pub tokens: RewardTokens,
}

impl RewardText {
    /// The paper's text to the letter: all of the text that is reported on.
    #[must_use]
    pub const fn paper() -> Self {
        Self { split: RewardSplit::Test, tokens: RewardTokens::Full }
    }

    /// 4,096 tokens that nothing else looks at: enough for divergences, which are far less noisy than perplexities.
    #[must_use]
    pub const fn sound() -> Self {
        Self { split: RewardSplit::Search, tokens: RewardTokens::AtMost(4096) }
    }
}

impl Default for RewardText {
    fn default() -> Self {
        Self::sound()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_readings_are_written_in_words() {
        let json = |text| serde_json::to_string(&text).unwrap();
        assert_eq!(json(RewardText::paper()), r#"{"split":"test","tokens":"full"}"#);
        assert_eq!(json(RewardText::sound()), r#"{"split":"search","tokens":{"at_most":4096}}"#);
        let read: RewardText = serde_json::from_str(r#"{"split":"test","tokens":{"at_most":7}}"#).unwrap();
        assert_eq!((read.split, read.tokens.limit()), (RewardSplit::Test, 7));
    }
}
