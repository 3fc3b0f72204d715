//! A trained policy as a file: actor weights, feature scaler, action set and provenance.

use std::{collections::HashMap, fs, path::Path};

use ramp_embed::{FeatureMode, FeatureTable, N_FEATURES, Scaler};
use ramp_sac::{ActorNet, Agent};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    mode::{Mapping, Mode, SacSearchConfig},
    problem::{ActionSet, Choices, Problem},
    projection::project,
    rollout::Walk,
};

/// Version of the file's layout.
const FORMAT_VERSION: u32 = 1;
/// A policy is a few hundred thousand weights; nothing sensible is larger.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Where a policy comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Name of the model that it was trained on.
    pub model: String,
    /// Budget of the training.
    pub budget: String,
    /// Decisions of the training.
    pub mode: Mode,
    /// Seed.
    pub seed: u64,
    /// Episodes.
    pub episodes: usize,
    /// Tokens forwarded.
    pub tokens: usize,
    /// KL divergence of its own allocation on the search windows in nats.
    pub kld: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    features: FeatureMode,
    mapping: Mapping,
    actions: ActionSet,
    scaler: Scaler,
    provenance: Provenance,
}

/// A policy that allocates without a search: features in, allocation out.
#[derive(Clone, Debug)]
pub struct Policy {
    actor: ActorNet,
    header: Header,
}

impl Policy {
    pub(crate) fn new(
        agent: &Agent,
        config: &SacSearchConfig,
        scaler: Scaler,
        problem: &Problem,
        provenance: Provenance,
    ) -> Result<Self> {
        let header = Header {
            version: FORMAT_VERSION,
            features: config.features,
            mapping: config.mapping,
            actions: problem.actions().clone(),
            scaler,
            provenance,
        };
        Ok(Self { actor: ActorNet::from_tensors(&agent.actor_tensors())?, header })
    }

    /// Which features it reads.
    #[must_use]
    pub const fn features(&self) -> FeatureMode {
        self.header.features
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
    /// Features are normalised over the target's own layers, so nothing of the source model's scale is needed.
    ///
    /// # Errors
    /// When the actor cannot read the features.
    pub fn allocate(&self, problem: &Problem, features: &FeatureTable) -> Result<Choices> {
        let scaler = Scaler::fit(features);
        let walk = Walk { problem, features, scaler: &scaler, mapping: self.header.mapping };
        let trajectory = walk.run(|_, state| {
            let (mu, _) = self.actor.forward(state)?;
            Ok(1.0 / (1.0 + f64::from(-mu[0]).exp()))
        })?;
        Ok(project(problem, &trajectory.actions))
    }

    /// Writes the policy as one safetensors file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let fail = |why: String| Error::Policy { path: path.to_owned(), why };
        let header = serde_json::to_string(&self.header).map_err(|e| fail(e.to_string()))?;
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = self
            .actor
            .to_tensors()
            .into_iter()
            .map(|(name, shape, data)| (name, shape, data.iter().flat_map(|x| x.to_le_bytes()).collect()))
            .collect();
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| {
                let view =
                    TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(|e| fail(e.to_string()))?;
                Ok((name.clone(), view))
            })
            .collect::<Result<Vec<_>>>()?;
        let metadata = HashMap::from([("ramp".to_owned(), header)]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| fail(e.to_string()))?;
        Ok(ramp_gguf::write_atomically(path, |file| std::io::Write::write_all(file, &bytes))?)
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// When the file cannot be read, is no policy, or is of another version.
    pub fn load(path: &Path) -> Result<Self> {
        let fail = |why: String| Error::Policy { path: path.to_owned(), why };
        let size = fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
        if size > MAX_FILE_BYTES {
            return Err(fail(format!("it has {size} bytes, a policy has at most {MAX_FILE_BYTES}")));
        }
        let bytes = fs::read(path).map_err(|e| fail(e.to_string()))?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| fail(e.to_string()))?;
        let header = metadata.metadata().as_ref().and_then(|map| map.get("ramp"));
        let header = header.ok_or_else(|| fail("it has no `ramp` metadata".into()))?;
        let header: Header = serde_json::from_str(header).map_err(|e| fail(e.to_string()))?;
        if header.version != FORMAT_VERSION {
            return Err(fail(format!("it is of version {}, expected {FORMAT_VERSION}", header.version)));
        }
        let file = SafeTensors::deserialize(&bytes).map_err(|e| fail(e.to_string()))?;
        let tensors = file
            .tensors()
            .into_iter()
            .map(|(name, view)| match view.dtype() {
                Dtype::F32 => {
                    let floats =
                        view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                    Ok((name, view.shape().to_vec(), floats.collect()))
                }
                other => Err(fail(format!("tensor `{name}` has dtype {other:?}, expected F32"))),
            })
            .collect::<Result<Vec<_>>>()?;
        let actor = ActorNet::from_tensors(&tensors).map_err(|e| fail(e.to_string()))?;
        if actor.state_dim() != N_FEATURES || actor.action_dim() != 1 {
            let (states, actions) = (actor.state_dim(), actor.action_dim());
            return Err(fail(format!(
                "its actor reads {states} numbers and gives {actions}, expected {N_FEATURES} and 1"
            )));
        }
        Ok(Self { actor, header })
    }
}
