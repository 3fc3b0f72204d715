//! A categorical policy over actions of which some are not allowed.

use rand::Rng;

use crate::{
    actor_net::{NamedTensor, check_state, read_net, write_net},
    agent::ActMode,
    error::{Error, Result},
    host::mlp::HostMlp,
    networks::Networks,
};

/// Probabilities of one state's actions, and their logarithms.
#[derive(Clone, Debug)]
pub(crate) struct Categorical {
    pub(crate) probabilities: Vec<f64>,
    /// ln π in nats; 0 for an action that is not allowed, so that π ln π is 0 there.
    pub(crate) log: Vec<f64>,
}

impl Categorical {
    /// Softmax of `logits` over the actions that `mask` allows. An empty mask allows all.
    pub(crate) fn new(logits: &[f32], mask: &[f32]) -> Self {
        let allowed = |at: usize| mask.is_empty() || mask[at] != 0.0;
        let ids = 0..logits.len();
        let max =
            ids.clone().filter(|&at| allowed(at)).fold(f32::NEG_INFINITY, |max, at| max.max(logits[at]));
        let above = |at: usize| f64::from(logits[at]) - f64::from(max);
        let total: f64 = ids.clone().filter(|&at| allowed(at)).map(|at| above(at).exp()).sum();
        let log: Vec<f64> =
            ids.clone().map(|at| if allowed(at) { above(at) - total.ln() } else { 0.0 }).collect();
        let probabilities = ids.map(|at| if allowed(at) { log[at].exp() } else { 0.0 }).collect();
        Self { probabilities, log }
    }

    /// -Σ π ln π in nats.
    pub(crate) fn entropy(&self) -> f64 {
        -self.expect(&self.log)
    }

    /// Σ π f, exactly.
    pub(crate) fn expect(&self, values: &[f64]) -> f64 {
        self.probabilities.iter().zip(values).map(|(p, value)| p * value).sum()
    }

    /// Slopes at the logits of Σ π f: π (f - Σ π f), which is 0 for actions that are not allowed. It holds for an f
    /// with a multiple of ln π in it, too, because Σ π ∂ ln π is 0.
    pub(crate) fn pull_back(&self, values: &[f64]) -> Vec<f64> {
        let mean = self.expect(values);
        self.probabilities.iter().zip(values).map(|(p, value)| p * (value - mean)).collect()
    }

    /// An action drawn with `uniform` in [0, 1).
    pub(crate) fn draw(&self, uniform: f64) -> usize {
        let mut rest = uniform;
        let mut last = 0;
        for (at, &p) in self.probabilities.iter().enumerate().filter(|(_, p)| **p > 0.0) {
            last = at;
            rest -= p;
            if rest < 0.0 {
                break;
            }
        }
        last
    }

    /// The most likely action, the first of equals.
    pub(crate) fn best(&self) -> usize {
        let mut best = 0;
        for (at, &p) in self.probabilities.iter().enumerate() {
            if p > self.probabilities[best] {
                best = at;
            }
        }
        best
    }
}

/// Inference of a trained categorical policy on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct CategoricalNet {
    net: HostMlp,
}

impl CategoricalNet {
    pub(crate) fn new(net: HostMlp) -> Self {
        Self { net }
    }

    /// Builds the network from tensors named as [`CategoricalNet::to_tensors`] names them. The sizes come from the
    /// shapes; tensors of other names are ignored, so a file may hold more.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] or [`Error::TensorShape`] names the tensor at fault; [`Error::Value`] if it holds NaN
    /// or infinity.
    pub fn from_tensors(tensors: &[NamedTensor]) -> Result<Self> {
        read_net(tensors).map(Self::new)
    }

    /// The network as named tensors, ready for a safetensors file: as those of
    /// [`ActorNet::to_tensors`](crate::ActorNet::to_tensors); the head's rows are the logits of the actions.
    pub fn to_tensors(&self) -> Vec<NamedTensor> {
        write_net(&self.net)
    }

    pub(crate) fn net(&self) -> &HostMlp {
        &self.net
    }

    /// Elements of a state.
    pub fn state_dim(&self) -> usize {
        self.net.shape.inputs
    }

    /// Number of actions.
    pub fn actions(&self) -> usize {
        self.net.shape.outputs
    }

    /// Units of the hidden layers.
    pub fn hidden(&self) -> [usize; 3] {
        self.net.shape.hidden
    }

    /// Probability of each action; 0 where `mask` says false. An empty mask allows all.
    ///
    /// # Errors
    /// [`Error::Length`] if `state` or `mask` has the wrong length; [`Error::Mask`] if no action is allowed.
    pub fn probabilities(&self, state: &[f32], mask: &[bool]) -> Result<Vec<f64>> {
        Ok(self.distribution(state, mask)?.probabilities)
    }

    /// The most likely allowed action, the first of equals.
    ///
    /// # Errors
    /// As [`probabilities`](Self::probabilities).
    pub fn act(&self, state: &[f32], mask: &[bool]) -> Result<usize> {
        Ok(self.distribution(state, mask)?.best())
    }

    pub(crate) fn distribution(&self, state: &[f32], mask: &[bool]) -> Result<Categorical> {
        check_state(&self.net, state)?;
        check_mask(mask, self.actions(), 0)?;
        Ok(Categorical::new(&self.net.forward(state), &floats(mask)))
    }

    /// The host copy of an actor, downloaded where it was dropped.
    pub(crate) fn cached<'a>(cache: &'a mut Option<Self>, actor: &Networks) -> Result<&'a Self> {
        let policy = match cache.take() {
            Some(policy) => policy,
            None => Self::new(actor.host_copy()?),
        };
        Ok(cache.insert(policy))
    }

    /// An action as `mode` says, and its ln π.
    pub(crate) fn choose(
        &self,
        state: &[f32],
        mask: &[bool],
        mode: ActMode,
        rng: &mut impl Rng,
    ) -> Result<(usize, f64)> {
        let policy = self.distribution(state, mask)?;
        let action = match mode {
            ActMode::Sample => policy.draw(rng.random()),
            ActMode::Deterministic => policy.best(),
        };
        Ok((action, policy.log[action]))
    }
}

/// 1 and 0 for what is allowed and what is not.
pub(crate) fn floats(mask: &[bool]) -> Vec<f32> {
    mask.iter().map(|&allowed| f32::from(u8::from(allowed))).collect()
}

/// A mask is empty or has one element for each action, of which one is true.
pub(crate) fn check_mask(mask: &[bool], actions: usize, transition: usize) -> Result<()> {
    if mask.is_empty() {
        return Ok(());
    }
    if mask.len() != actions {
        return Err(Error::Length { what: "mask", found: mask.len(), expected: actions });
    }
    if mask.contains(&true) { Ok(()) } else { Err(Error::Mask { transition }) }
}

/// As [`floats`], with a 1 for each of `actions` where the mask is empty.
pub(crate) fn full_mask(mask: &[bool], actions: usize) -> Vec<f32> {
    if mask.is_empty() { vec![1.0; actions] } else { floats(mask) }
}

/// Checks that an action is one of those that a mask allows; `what` names it.
pub(crate) fn check_action(
    what: impl FnOnce() -> String,
    action: usize,
    mask: &[bool],
    actions: usize,
) -> Result<()> {
    if action < actions && mask.get(action).copied().unwrap_or(true) {
        return Ok(());
    }
    Err(Error::Value { what: what(), value: action as f64, rule: "the index of an allowed action" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_by_hand() {
        let all = Categorical::new(&[0.0, 2.0_f32.ln(), 5.0_f32.ln()], &[]);
        for (found, expected) in all.probabilities.iter().zip([0.125, 0.25, 0.625]) {
            assert!((found - expected).abs() < 1e-7);
        }
        let some = Categorical::new(&[0.0, 2.0_f32.ln(), 5.0_f32.ln()], &[1.0, 1.0, 0.0]);
        assert_eq!(some.probabilities[2], 0.0);
        assert!((some.probabilities[1] - 2.0 / 3.0).abs() < 1e-7);
        let expected = -(1.0 / 3.0 * (1.0_f64 / 3.0).ln() + 2.0 / 3.0 * (2.0_f64 / 3.0).ln());
        assert!((some.entropy() - expected).abs() < 1e-7);
        assert!((Categorical::new(&[3.0; 4], &[]).entropy() - 4.0_f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn extreme_logits_stay_numbers() {
        let policy = Categorical::new(&[-1e30, 1e30, f32::MAX, 0.0], &[1.0, 1.0, 0.0, 1.0]);
        assert_eq!(policy.probabilities, [0.0, 1.0, 0.0, 0.0]);
        assert_eq!((policy.entropy(), policy.best()), (0.0, 1));
        let single = Categorical::new(&[7.0, 1.0], &[0.0, 1.0]);
        assert_eq!((single.draw(0.0), single.draw(0.999_999), single.entropy()), (1, 1, 0.0));
    }

    #[test]
    fn draws_follow_the_probabilities_and_never_what_is_forbidden() {
        use rand::SeedableRng;
        let policy = Categorical::new(&[0.0, 1.0, 9.0, -1.0], &[1.0, 1.0, 0.0, 1.0]);
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut counts = [0; 4];
        for _ in 0..20_000 {
            counts[policy.draw(rng.random())] += 1;
        }
        assert_eq!(counts[2], 0);
        for (count, p) in counts.iter().zip(&policy.probabilities) {
            assert!((f64::from(*count) / 20_000.0 - p).abs() < 0.02, "{counts:?}");
        }
    }

    #[test]
    fn slopes_match_finite_differences() {
        // Σ π (α ln π - q): the slope of ln π itself sums to nothing.
        let (q, alpha, mask) = ([0.3, -0.7, 5.0, 1.1], 0.4, [1.0, 1.0, 0.0, 1.0]);
        let loss = |logits: &[f32]| {
            let policy = Categorical::new(logits, &mask);
            let values: Vec<f64> = policy.log.iter().zip(q).map(|(log, q)| alpha * log - q).collect();
            (policy.expect(&values), policy.pull_back(&values))
        };
        let logits = [0.5_f32, -0.25, 3.0, 1.0];
        let (_, slopes) = loss(&logits);
        for at in 0..4 {
            let nudged = |by: f32| {
                let mut logits = logits;
                logits[at] += by;
                loss(&logits).0
            };
            let numeric = (nudged(0.0078125) - nudged(-0.0078125)) / 0.015625;
            assert!((numeric - slopes[at]).abs() < 1e-4, "{at}: {numeric} against {}", slopes[at]);
        }
        assert_eq!(slopes[2], 0.0);
    }
}
