//! Answers, accuracies, and two models item by item.

use serde::{Deserialize, Serialize};

use super::{Encoder, Item, Task, TokenPair, likelihood::log_likelihoods};
use crate::{
    error::{Error, Result},
    language_model::LanguageModel,
    moments::Moments,
    significance::{Verdict, sign_test},
};

/// What a model says to one item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Index of the item in its file, from 0.
    pub item: usize,
    /// The right choice.
    pub gold: usize,
    /// Log-likelihood of each choice in nats.
    pub log_likelihoods: Vec<f64>,
    /// Length of each choice in Unicode code points.
    pub lengths: Vec<usize>,
}

impl Sample {
    /// The choice of the largest log-likelihood, the first of equals.
    #[must_use]
    pub fn answer(&self) -> usize {
        argmax(self.log_likelihoods.iter().copied())
    }

    /// The choice of the largest log-likelihood per character.
    #[must_use]
    pub fn answer_norm(&self) -> usize {
        argmax(self.log_likelihoods.iter().zip(&self.lengths).map(|(ll, &length)| ll / length as f64))
    }

    fn right(&self) -> bool {
        self.answer() == self.gold
    }
}

/// The first of the largest values, as numpy's.
fn argmax(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (index, value) in values.enumerate() {
        if value > best.1 {
            best = (index, value);
        }
    }
    best.0
}

/// A model's result on a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// The task.
    pub task: Task,
    /// Number of items.
    pub items: usize,
    /// Share of items whose most likely choice is right.
    pub acc: f64,
    /// Standard error of `acc`, `sqrt(p (1 - p) / (n - 1))`.
    pub acc_se: f64,
    /// Share of items whose most likely choice per character is right; where the harness has it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub acc_norm: Option<f64>,
    /// Standard error of `acc_norm`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub acc_norm_se: Option<f64>,
    /// Every item; not part of the serialized form.
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

impl TaskResult {
    /// From the answers to every item.
    #[must_use]
    pub fn new(task: Task, samples: Vec<Sample>) -> Self {
        let share = |right: &dyn Fn(&Sample) -> bool| {
            let mut moments = Moments::default();
            moments.extend(samples.iter().map(|sample| f64::from(u8::from(right(sample)))));
            (moments.mean(), moments.standard_error())
        };
        let (acc, acc_se) = share(&Sample::right);
        let norm = task.has_acc_norm().then(|| share(&|sample| sample.answer_norm() == sample.gold));
        Self {
            task,
            items: samples.len(),
            acc,
            acc_se,
            acc_norm: norm.map(|norm| norm.0),
            acc_norm_se: norm.map(|norm| norm.1),
            samples,
        }
    }

    /// This model's accuracy against a base model's on the same items.
    ///
    /// # Errors
    /// When the items are not the same.
    pub fn against(&self, base: &Self) -> Result<PairedAccuracy> {
        let same = |(a, b): (&Sample, &Sample)| (a.item, a.gold) == (b.item, b.gold);
        if self.task != base.task
            || self.samples.len() != base.samples.len()
            || !self.samples.iter().zip(&base.samples).all(same)
        {
            return Err(Error::DifferentItems { task: self.task, base: base.task });
        }
        let mut difference = Moments::default();
        let (mut gained, mut lost, mut equal) = (0u64, 0u64, 0u64);
        for (ours, theirs) in self.samples.iter().zip(&base.samples) {
            let (now, before) = (ours.right(), theirs.right());
            difference.push(f64::from(u8::from(now)) - f64::from(u8::from(before)));
            gained += u64::from(now && !before);
            lost += u64::from(!now && before);
            equal += u64::from(ours.answer() == theirs.answer());
        }
        let p_value = sign_test(gained, lost);
        Ok(PairedAccuracy {
            difference: difference.mean(),
            difference_se: difference.standard_error(),
            gained,
            lost,
            same_answer: equal as f64 / self.samples.len().max(1) as f64,
            retention: (base.acc > 0.0).then(|| self.acc / base.acc),
            p_value,
            verdict: Verdict::new(-difference.mean(), p_value),
        })
    }
}

/// Two models on the same items.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedAccuracy {
    /// `acc(model) - acc(base)`.
    pub difference: f64,
    /// Standard error of `difference`, from the pairs.
    pub difference_se: f64,
    /// Items that only the model answers rightly.
    pub gained: u64,
    /// Items that only the base answers rightly.
    pub lost: u64,
    /// Share of items that both answer alike, right or wrong.
    pub same_answer: f64,
    /// `acc(model) / acc(base)` (Table 17 of the paper); `None` when the base has no right answer.
    pub retention: Option<f64>,
    /// Probability of a split at least as uneven of `gained` and `lost` without a difference: McNemar's exact test.
    pub p_value: f64,
    /// What follows from `p_value`.
    pub verdict: Verdict,
}

/// Asks a model every item. `progress` is told the tokens done and may stop by returning `false`.
///
/// # Errors
/// When a choice cannot be encoded, the model fails or gives NaN or infinity, or [`Error::Interrupted`].
pub fn evaluate(
    task: Task,
    items: &[Item],
    model: &dyn LanguageModel,
    encoder: &Encoder,
    progress: impl FnMut(usize, usize) -> bool,
) -> Result<TaskResult> {
    let mut pairs: Vec<TokenPair> = Vec::new();
    for item in items {
        for request in &item.requests {
            pairs.push(encoder.encode_pair(request).map_err(|error| error.in_item(task, item.index))?);
        }
    }
    let total = super::tokens_of(&pairs);
    let mut progress = progress;
    let values = log_likelihoods(model, &pairs, |done| progress(done, total))?;
    let mut values = values.into_iter();
    let samples = items
        .iter()
        .map(|item| Sample {
            item: item.index,
            gold: item.gold,
            log_likelihoods: values.by_ref().take(item.requests.len()).collect(),
            lengths: item.lengths.clone(),
        })
        .collect();
    Ok(TaskResult::new(task, samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(item: usize, gold: usize, lls: &[f64], lengths: &[usize]) -> Sample {
        Sample { item, gold, log_likelihoods: lls.to_vec(), lengths: lengths.to_vec() }
    }

    #[test]
    fn accuracy_by_hand() {
        let result = TaskResult::new(
            Task::Piqa,
            vec![
                sample(0, 0, &[-4.0, -6.0], &[2, 6]), // right; per character -2 against -1: wrong
                sample(1, 1, &[-5.0, -5.0], &[1, 1]), // a tie is the first: wrong, wrong
                sample(2, 1, &[-9.0, -3.0], &[4, 4]), // right, right
                sample(3, 1, &[-1.0, -2.0], &[1, 4]), // wrong; per character right
            ],
        );
        assert_eq!((result.items, result.acc, result.acc_norm), (4, 0.5, Some(0.5)));
        assert!((result.acc_se - (0.25f64 / 3.0).sqrt()).abs() < 1e-12);
        let right: Vec<bool> = result.samples.iter().map(|s| s.answer_norm() == s.gold).collect();
        assert_eq!(right, [false, false, true, true]);
        let winogrande = TaskResult::new(Task::WinoGrande, result.samples);
        assert_eq!((winogrande.acc, winogrande.acc_norm), (0.5, None));
    }

    #[test]
    fn pairs_by_hand() {
        let result = |answers: &[usize]| {
            let samples = answers.iter().enumerate().map(|(item, &answer)| {
                let lls = if answer == 0 { [-1.0, -2.0] } else { [-2.0, -1.0] };
                sample(item, 0, &lls, &[1, 1])
            });
            TaskResult::new(Task::ArcEasy, samples.collect())
        };
        let (base, model) = (result(&[0, 0, 0, 0, 1, 0, 0]), result(&[0, 1, 1, 1, 0, 1, 1]));
        let paired = model.against(&base).unwrap();
        assert_eq!((paired.gained, paired.lost), (1, 5));
        assert!((paired.difference + 4.0 / 7.0).abs() < 1e-12);
        assert!((paired.same_answer - 1.0 / 7.0).abs() < 1e-12);
        // 2 (1 + 6) / 64
        assert!((paired.p_value - 0.21875).abs() < 1e-12);
        assert!((paired.retention.unwrap() - 2.0 / 6.0).abs() < 1e-12);
        assert_eq!(paired.verdict, Verdict::Undecided);
        let worse = result(&[1; 7]).against(&result(&[0; 7])).unwrap();
        assert_eq!((worse.verdict, worse.retention), (Verdict::Worse, Some(0.0)));
        assert_eq!(result(&[0; 7]).against(&result(&[1; 7])).unwrap().verdict, Verdict::Better);
        let error = result(&[0]).against(&base).unwrap_err();
        assert!(matches!(error, Error::DifferentItems { task: Task::ArcEasy, .. }));
    }
}
