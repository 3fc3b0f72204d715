//! A trained policy: what it reads, what it chooses from, where it comes from, and how it allocates.

mod file;
#[cfg(test)]
mod tests;

use ramp_embed::{DepthIndex, FeatureConfig, FeatureMode, FeatureTable, Scaler, WideScaler, WideTable};
use ramp_sac::{ActorNet, Agent, CategoricalNet};
use serde::{Deserialize, Serialize};

use crate::{
    allocator::Features,
    error::{Error, Result},
    knapsack::{fill, knapsack},
    mode::{ContextUpdate, FirstContext, Mapping, Mode, Normalisation, SacSearchConfig},
    problem::{ActionSet, Choices, Problem},
    projection::{equal_bins, project},
    regressor::Regressor,
    rollout::Walk,
    sensitivity::Sensitivity,
    wide_walk::WideWalk,
};

/// Version of the file's layout.
const FORMAT_VERSION: u32 = 2;

/// Where a policy comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Names of the models that it was trained on, separated by commas.
    pub model: String,
    /// Budgets of the training, separated by commas.
    pub budget: String,
    /// Decisions of the training.
    pub mode: Mode,
    /// Seed.
    pub seed: u64,
    /// Episodes.
    pub episodes: usize,
    /// Tokens forwarded.
    pub tokens: usize,
    /// KL divergence of its own allocation on the search windows in nats, the mean over its problems.
    pub kld: f64,
}

/// What kind of policy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyKind {
    /// An actor whose action in (0, 1) says how many bits; one offset moves all of them into the budget.
    Continuous,
    /// An actor that gives each format a probability; the most likely allocation that fits is taken.
    Categorical,
    /// Predicted sensitivities; the knapsack's allocation is taken.
    Regressor,
}

impl PolicyKind {
    /// The name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Continuous => "continuous",
            Self::Categorical => "categorical",
            Self::Regressor => "regressor",
        }
    }
}

/// Which features a policy reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyFeatures {
    /// Eleven slots.
    Eleven(FeatureMode),
    /// The wide features of these names.
    Wide(Vec<String>),
}

/// Statistics of the features that it was trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SavedScaler {
    Eleven(Scaler),
    Wide(WideScaler),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    kind: PolicyKind,
    features: PolicyFeatures,
    /// Of a continuous policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mapping: Option<Mapping>,
    #[serde(default = "target_context")]
    first_context: FirstContext,
    #[serde(default = "both_contexts")]
    context_update: ContextUpdate,
    /// Of a policy over eleven features, where they are not the usual ones.
    #[serde(default, skip_serializing_if = "is_default")]
    depth: DepthIndex,
    #[serde(default, skip_serializing_if = "is_default")]
    clip_dims: bool,
    norm: Normalisation,
    actions: ActionSet,
    scaler: SavedScaler,
    provenance: Provenance,
}

const fn target_context() -> FirstContext {
    FirstContext::Target
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const fn both_contexts() -> ContextUpdate {
    ContextUpdate::Both
}

/// What decides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    Continuous(ActorNet),
    Categorical(CategoricalNet),
    Regressor(Regressor),
}

/// A policy that allocates without a search: features in, allocation out.
#[derive(Clone, Debug)]
pub struct Policy {
    body: Body,
    header: Header,
}

impl Policy {
    /// The actor of a continuous search.
    pub(crate) fn continuous(
        agent: &Agent,
        config: &SacSearchConfig,
        scaler: Scaler,
        problem: &Problem,
        provenance: Provenance,
    ) -> Result<Self> {
        let header = Header {
            version: FORMAT_VERSION,
            kind: PolicyKind::Continuous,
            features: PolicyFeatures::Eleven(config.features),
            mapping: Some(config.mapping),
            first_context: config.first_context,
            context_update: config.context_update,
            depth: config.depth,
            clip_dims: config.clip_dims,
            norm: config.norm,
            actions: problem.actions().clone(),
            scaler: SavedScaler::Eleven(scaler),
            provenance,
        };
        Ok(Self { body: Body::Continuous(ActorNet::from_tensors(&agent.actor_tensors())?), header })
    }

    /// A policy over the wide features.
    pub(crate) fn wide(
        body: Body,
        norm: Normalisation,
        scaler: WideScaler,
        actions: &ActionSet,
        provenance: Provenance,
    ) -> Self {
        let kind = match &body {
            Body::Continuous(_) => PolicyKind::Continuous,
            Body::Categorical(_) => PolicyKind::Categorical,
            Body::Regressor(_) => PolicyKind::Regressor,
        };
        let header = Header {
            version: FORMAT_VERSION,
            kind,
            features: PolicyFeatures::Wide(scaler.names().to_vec()),
            mapping: None,
            first_context: FirstContext::Target,
            context_update: ContextUpdate::Both,
            depth: DepthIndex::Block,
            clip_dims: false,
            norm,
            actions: actions.clone(),
            scaler: SavedScaler::Wide(scaler),
            provenance,
        };
        Self { body, header }
    }

    /// A regression of sensitivities. `scaler` is that of the first model.
    #[must_use]
    pub fn regressor(
        regressor: Regressor,
        norm: Normalisation,
        scaler: WideScaler,
        actions: &ActionSet,
        provenance: Provenance,
    ) -> Self {
        Self::wide(Body::Regressor(regressor), norm, scaler, actions, provenance)
    }

    /// What kind of policy it is.
    #[must_use]
    pub const fn kind(&self) -> PolicyKind {
        self.header.kind
    }

    /// Which features it reads.
    #[must_use]
    pub const fn features(&self) -> &PolicyFeatures {
        &self.header.features
    }

    /// The formats that it chooses from.
    #[must_use]
    pub const fn actions(&self) -> &ActionSet {
        &self.header.actions
    }

    /// Where it comes from.
    #[must_use]
    pub const fn provenance(&self) -> &Provenance {
        &self.header.provenance
    }

    /// Allocates formats to a model that it may never have seen. No forward pass is made.
    ///
    /// # Errors
    /// [`Error::PolicyActions`] if the problem has other formats, [`Error::PolicyFeatures`] if `features` are not those
    /// that it reads.
    pub fn allocate(&self, problem: &Problem, features: &dyn Features) -> Result<Choices> {
        self.check_actions(problem)?;
        match (&self.header.features, &self.body) {
            (PolicyFeatures::Eleven(mode), Body::Continuous(actor)) => {
                let Header { depth, clip_dims, .. } = self.header;
                let config = FeatureConfig { mode: *mode, depth, clip_dims };
                self.allocate_eleven(actor, problem, &features.table(config)?)
            }
            _ => {
                let table = features.wide()?;
                let scaler = self.wide_scaler(&table)?;
                self.body.place(&WideWalk { problem, features: &table, scaler: &scaler, masked: true })
            }
        }
    }

    fn allocate_eleven(&self, actor: &ActorNet, problem: &Problem, table: &FeatureTable) -> Result<Choices> {
        let scaler = match (self.header.norm, &self.header.scaler) {
            (Normalisation::Source, SavedScaler::Eleven(scaler)) => scaler.clone(),
            _ => Scaler::fit(table),
        };
        let walk = Walk {
            problem,
            features: table,
            scaler: &scaler,
            mapping: self.header.mapping.unwrap_or(Mapping::EqualBins),
            first_context: self.header.first_context,
            context_update: self.header.context_update,
        };
        let trajectory = walk.run(|_, state| {
            let (mu, _) = actor.forward(state)?;
            Ok(1.0 / (1.0 + f64::from(-mu[0]).exp()))
        })?;
        Ok(project(problem, &trajectory.actions))
    }

    /// The sensitivities that a regressor predicts, up to a common factor; `None` for other kinds.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    pub fn predicted(&self, problem: &Problem, table: &WideTable) -> Result<Option<Sensitivity>> {
        self.check_actions(problem)?;
        match &self.body {
            Body::Regressor(regressor) => {
                Ok(Some(regressor.predict(problem, table, &self.wide_scaler(table)?)?))
            }
            _ => Ok(None),
        }
    }

    fn wide_scaler(&self, table: &WideTable) -> Result<WideScaler> {
        let PolicyFeatures::Wide(names) = &self.header.features else {
            return Err(self.other_features(table.names().join(", ")));
        };
        if names != table.names() {
            return Err(self.other_features(table.names().join(", ")));
        }
        Ok(match (self.header.norm, &self.header.scaler) {
            (Normalisation::Source, SavedScaler::Wide(scaler)) => scaler.clone(),
            _ => WideScaler::fit(table),
        })
    }

    fn other_features(&self, found: String) -> Error {
        let policy = match &self.header.features {
            PolicyFeatures::Eleven(mode) => mode.names().join(", "),
            PolicyFeatures::Wide(names) => names.join(", "),
        };
        Error::PolicyFeatures { policy, found }
    }

    fn check_actions(&self, problem: &Problem) -> Result<()> {
        if problem.actions() == &self.header.actions {
            return Ok(());
        }
        let list = |actions: &ActionSet| {
            let names: Vec<String> = actions.types().iter().map(ToString::to_string).collect();
            names.join(", ")
        };
        Err(Error::PolicyActions { policy: list(&self.header.actions), problem: list(problem.actions()) })
    }
}

impl Body {
    /// The allocation of a policy over wide features.
    pub(crate) fn place(&self, walk: &WideWalk<'_>) -> Result<Choices> {
        let WideWalk { problem, features, scaler, .. } = *walk;
        match self {
            Self::Continuous(actor) => {
                let mut actions = Vec::with_capacity(problem.slots().len());
                walk.run(&problem.floor(), |slot, state, mask| {
                    let (mu, _) = actor.forward(state)?;
                    actions.push(1.0 / (1.0 + f64::from(-mu[0]).exp()));
                    let wanted = equal_bins(actions[slot], problem.slots()[slot].choices.len());
                    let allowed = |choice: &usize| mask[walk.action(slot, *choice)];
                    Ok(walk.action(slot, (0..=wanted).rev().find(allowed).unwrap_or(0)))
                })?;
                Ok(project(problem, &actions))
            }
            Self::Categorical(net) => most_likely(net, walk),
            Self::Regressor(regressor) => {
                Ok(knapsack(problem, &regressor.predict(problem, features, scaler)?))
            }
        }
    }
}

/// The allocation of largest probability among those that fit, exactly.
///
/// What a walk chooses greedily leaves to its last layers what the first ones did not take. Here the budget is divided by a
/// knapsack over -ln π instead. States depend on what was chosen before, so that the walk is repeated along the result.
pub(crate) fn most_likely(net: &CategoricalNet, walk: &WideWalk<'_>) -> Result<Choices> {
    let problem = walk.problem;
    let costs_along = |choices: Option<&Choices>| -> Result<Sensitivity> {
        let mut costs: Vec<Vec<f64>> = Vec::with_capacity(problem.slots().len());
        walk.run(&problem.floor(), |slot, state, mask| {
            let probabilities = net.probabilities(state, &[])?;
            let n = problem.slots()[slot].choices.len();
            costs.push(
                (0..n).map(|choice| -probabilities[walk.action(slot, choice)].max(1e-30).ln()).collect(),
            );
            match choices {
                Some(choices) => Ok(walk.action(slot, choices[slot])),
                None => Ok(net.act(state, mask)?),
            }
        })?;
        Ok(Sensitivity::from_costs(costs))
    };
    let first = knapsack(problem, &costs_along(None)?);
    let mut choices = knapsack(problem, &costs_along(Some(&first))?);
    // What no likelihood asked for is better than nothing.
    fill(problem, &mut choices, |_, choice| choice as f64);
    Ok(choices)
}
