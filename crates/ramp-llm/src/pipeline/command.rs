//! The command that makes a file again.

use std::{fmt::Write as _, path::Path};

use ramp_gguf::GgmlType;
use ramp_model::Precision;
use ramp_quant::{Budget, FoldConfig};
use ramp_search::{
    ActionSet,
    reward::{RewardSplit, RewardTokens},
};

use super::options::QuantizeOptions;

impl QuantizeOptions {
    /// The `ramp` command of these options, with all that the bytes of the file depend on: without the folders of
    /// inputs, the name of the output or the device, so that the file is the same wherever it is made.
    pub(super) fn command(&self) -> String {
        let mut command = format!("ramp quantize {}", file_name(&self.model));
        let mut put = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = write!(command, " --{name} {value}");
        };
        match self.budget {
            Budget::Bytes(bytes) => put("size", &bytes.to_string()),
            Budget::BitsPerWeight(bits) => put("bpw", &bits.to_string()),
            Budget::MeanBits(bits) => put("mean-bits", &bits.to_string()),
        }
        put("mode", self.mode.name());
        match &self.policy {
            Some(policy) => put("policy", &file_name(policy)),
            None => put("allocator", self.allocator.name()),
        }
        put("rounding", self.rounding.name());
        if let Some(learn) = &self.learn {
            put("learn-rounding", &learn.steps.to_string());
        }
        put("seed", &self.seed.to_string());
        let named = [("text", self.text.as_ref().map(file_name)), ("pre", self.pre.clone())];
        for (name, value) in named {
            value.iter().for_each(|value| put(name, value));
        }
        if self.policy.is_none() && self.actions != ActionSet::of_mode(self.mode) {
            let types: Vec<&str> = self.actions.types().iter().copied().map(GgmlType::name).collect();
            put("types", &types.join(","));
        }
        let fixed = [("token-embd-type", self.fixed.token_embd), ("output-type", self.fixed.output)];
        for (name, ty) in fixed {
            ty.iter().for_each(|ty| put(name, ty.name()));
        }
        if let Some(episodes) = self.episodes {
            put("episodes", &episodes.to_string());
        }
        put("ctx", &self.ctx.to_string());
        put("calibration-tokens", &self.calibration_tokens.to_string());
        let tokens = match self.reward_text.tokens {
            RewardTokens::AtMost(tokens) => tokens.to_string(),
            RewardTokens::Full => "all".to_owned(),
        };
        match self.reward_text.split {
            RewardSplit::Search => put("search-tokens", &tokens),
            // What is reported on decides then, too.
            RewardSplit::Test => {
                put("search-tokens", &format!("{tokens} --reward-on-test-text"));
                put("report-tokens", &self.report_tokens.to_string());
            }
        }
        let fold = match &self.fold {
            None => "off",
            Some(fold) if *fold == FoldConfig::paper() => "paper",
            Some(_) => "sound",
        };
        put("fold", fold);
        if self.precision != Precision::F32 {
            put("precision", self.precision.name());
        }
        command
    }

    /// The name of the text, for the file.
    pub(super) fn dataset(&self) -> String {
        self.text.as_ref().map_or_else(|| "ramp built-in".into(), file_name)
    }
}

fn file_name(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    let name = path.file_name().unwrap_or(path.as_os_str());
    Path::new(name).display().to_string()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use ramp_quant::LearnConfig;

    use super::*;

    #[test]
    fn what_the_bytes_depend_on_and_nothing_else() {
        let make = |output: &str| {
            let mut options = QuantizeOptions::new(
                "/models/llama".into(),
                output.into(),
                Budget::Bytes(6_125_184),
                Device::default(),
            );
            options.text = Some("texts/wiki.train.raw".into());
            options
        };
        let command = make("a.gguf").command();
        assert_eq!(
            command,
            "ramp quantize llama --size 6125184 --mode sound --allocator sac --rounding gptq --seed 0 \
             --text wiki.train.raw --ctx 512 --calibration-tokens 131072 --search-tokens 4096 --fold sound"
        );
        assert_eq!(make("elsewhere/b.gguf").command(), command);
        let mut options = make("a.gguf");
        options.fold = None;
        options.episodes = Some(3);
        options.actions = ActionSet::new(vec![GgmlType::Q4_K, GgmlType::Q6_K]).unwrap();
        let command = options.command();
        assert!(command.contains(" --types Q4_K,Q6_K --episodes 3 ") && command.ends_with(" --fold off"));
        options.fixed.token_embd = Some(GgmlType::Q8_0);
        options.fixed.output = Some(GgmlType::F16);
        let command = options.command();
        assert!(command.contains(" --token-embd-type Q8_0 --output-type F16 --episodes 3 "), "{command}");
        options.learn = Some(LearnConfig { steps: 50, ..LearnConfig::default() });
        let command = options.command();
        assert!(command.contains(" --rounding gptq --learn-rounding 50 --seed 0 "), "{command}");
        options.reward_text = ramp_search::reward::RewardText::paper();
        let command = options.command();
        assert!(
            command.contains(" --search-tokens all --reward-on-test-text --report-tokens 8192 "),
            "{command}"
        );
        options.fold = Some(FoldConfig::paper());
        assert!(options.command().ends_with(" --fold paper"));
    }
}
