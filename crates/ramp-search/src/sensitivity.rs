//! What each choice costs in quality when it is the only one quantized.

use serde::{Deserialize, Serialize};

use crate::{
    bank::WeightBank,
    error::Result,
    evaluator::Evaluator,
    problem::Problem,
    progress::{ProgressFn, Stage, report},
};

/// A divergence that counts as none, in nats.
const NEGLIGIBLE: f64 = 1e-12;

/// How many choices of a slot are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measurements {
    /// The cheapest choice. The others follow from the error of their weights: for small errors a divergence
    /// grows with the square of the error, and the imatrix-weighted error of each choice is known exactly.
    #[default]
    Cheapest,
    /// Every choice.
    Every,
}

/// Which error a proxy takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyError {
    /// That of the weights, `|W - Q(W)|² / |W|²`. On llama2-xs it predicts measured divergences better, since the errors of
    /// outputs are small where a few channels are large, which is where the head is sensitive.
    #[default]
    Weights,
    /// That of the outputs ([`WeightBank::relative_error`]): weighted by the importance matrix, or by the whole Gram
    /// matrix under GPTQ rounding.
    Outputs,
}

/// A cost for every choice of every slot, in nats where it is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sensitivity {
    /// By slot, then by choice.
    cost: Vec<Vec<f64>>,
}

impl Sensitivity {
    /// Measures the KL divergence of choices alone, the rest of the model unquantized.
    ///
    /// Divergences of independent errors add up to first order (the linearity theorem of HIGGS,
    /// arXiv 2411.17525), and against the unquantized model the measurement needs no subtraction, so that few
    /// tokens give a precise number.
    ///
    /// # Errors
    /// When an evaluation fails, or `progress` stops the run.
    pub fn measure(
        evaluator: &mut Evaluator<'_>,
        measurements: Measurements,
        progress: &mut ProgressFn<'_>,
    ) -> Result<Self> {
        let problem = evaluator.problem();
        let measured = |choices: usize| match measurements {
            Measurements::Cheapest => choices.min(1),
            Measurements::Every => choices,
        };
        let total = problem.slots().iter().map(|slot| measured(slot.choices.len())).sum();
        let mut done = 0;
        let mut cost = Vec::with_capacity(problem.slots().len());
        for (slot, options) in problem.slots().iter().enumerate() {
            let mut row = Vec::with_capacity(options.choices.len());
            for choice in 0..measured(options.choices.len()) {
                // Rounding may turn a divergence of nothing into -1e-9. Above zero, the other choices still differ.
                row.push(evaluator.score_single(slot, choice)?.kld.max(NEGLIGIBLE));
                done += 1;
                report(progress, Stage::Sensitivity, done, total, None)?;
            }
            for choice in row.len()..options.choices.len() {
                row.push(row[0] * error_ratio(evaluator.bank(), slot, choice)?);
            }
            cost.push(row);
        }
        Ok(Self { cost })
    }

    /// A proxy without any forward pass: the relative squared error of a choice times the share that the matrix has in
    /// all weights, with which large matrices count more.
    ///
    /// # Errors
    /// When the bank was built without a choice.
    pub fn proxy(problem: &Problem, bank: &WeightBank, error: ProxyError) -> Result<Self> {
        let total: u64 = problem.slots().iter().map(|slot| slot.weights).sum();
        let cost = problem.slots().iter().enumerate().map(|(slot, options)| {
            let share = options.weights as f64 / total as f64;
            let relative = |choice| match error {
                ProxyError::Weights => {
                    let energy = bank.weight_energy(slot).max(f64::MIN_POSITIVE);
                    Ok(bank.squared_error(slot, choice)? / energy)
                }
                ProxyError::Outputs => bank.relative_error(slot, choice),
            };
            (0..options.choices.len()).map(|choice| Ok(share * relative(choice)?)).collect()
        });
        Ok(Self { cost: cost.collect::<Result<_>>()? })
    }

    /// Costs given from outside, by slot and choice.
    #[must_use]
    pub const fn from_costs(cost: Vec<Vec<f64>>) -> Self {
        Self { cost }
    }

    /// Cost of one choice.
    #[must_use]
    pub fn get(&self, slot: usize, choice: usize) -> f64 {
        self.cost[slot][choice]
    }

    /// Predicted cost of an allocation: the sum over its choices.
    #[must_use]
    pub fn predict(&self, choices: &[usize]) -> f64 {
        choices.iter().enumerate().map(|(slot, &choice)| self.get(slot, choice)).sum()
    }
}

/// Squared error of a choice relative to the cheapest one.
fn error_ratio(bank: &WeightBank, slot: usize, choice: usize) -> Result<f64> {
    let cheapest = bank.relative_error(slot, 0)?;
    Ok(if cheapest > 0.0 { bank.relative_error(slot, choice)? / cheapest } else { 1.0 })
}
