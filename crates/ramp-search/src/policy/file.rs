//! A policy as one safetensors file: tensors, and a JSON header under the metadata key `ramp`.

use std::{collections::HashMap, fs, path::Path};

use ramp_embed::N_FEATURES;
use ramp_sac::{ActorNet, CategoricalNet, NamedTensor};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::{Body, FORMAT_VERSION, Header, Policy, PolicyFeatures, PolicyKind, SavedScaler};
use crate::{
    error::{Error, Result},
    regressor::Regressor,
};

/// A policy is a few hundred thousand weights; nothing sensible is larger.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// Contextual features of a wide state.
const WIDE_CONTEXT: usize = 4;

impl Policy {
    /// Writes the policy as one safetensors file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let fail = |why: String| Error::Policy { path: path.to_owned(), why };
        let header = serde_json::to_string(&self.header).map_err(|e| fail(e.to_string()))?;
        let named = match &self.body {
            Body::Continuous(actor) => actor.to_tensors(),
            Body::Categorical(net) => net.to_tensors(),
            Body::Regressor(regressor) => regressor.to_tensors(),
        };
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = named
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
    /// When the file cannot be read, is no policy, is of another version, or its parts do not fit together.
    pub fn load(path: &Path) -> Result<Self> {
        let fail = |why: String| Error::Policy { path: path.to_owned(), why };
        let size = fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
        if size > MAX_FILE_BYTES {
            return Err(fail(format!("it has {size} bytes, a policy has at most {MAX_FILE_BYTES}")));
        }
        let bytes = fs::read(path).map_err(|e| fail(e.to_string()))?;
        let header = header(&bytes).map_err(fail)?;
        let tensors = tensors(&bytes).map_err(fail)?;
        let body = body(&header, &tensors).map_err(fail)?;
        Ok(Self { body, header })
    }
}

fn header(bytes: &[u8]) -> Result<Header, String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
    let header = metadata.metadata().as_ref().and_then(|map| map.get("ramp"));
    let header = header.ok_or("it has no `ramp` metadata")?;
    // The version comes first: another one may have other fields.
    let value: serde_json::Value = serde_json::from_str(header).map_err(|e| e.to_string())?;
    let version = value.get("version").and_then(serde_json::Value::as_u64);
    if version != Some(u64::from(FORMAT_VERSION)) {
        let found = version.map_or_else(|| "no version".to_owned(), |version| format!("version {version}"));
        return Err(format!(
            "it is of {found}, expected version {FORMAT_VERSION}; train the policy again with this RAMP"
        ));
    }
    let header: Header = serde_json::from_value(value).map_err(|e| e.to_string())?;
    if let SavedScaler::Wide(scaler) = &header.scaler {
        scaler.validate().map_err(|e| e.to_string())?;
    }
    match (header.kind, &header.features, &header.scaler) {
        (PolicyKind::Continuous, PolicyFeatures::Eleven(_), SavedScaler::Eleven(_)) => {}
        (_, PolicyFeatures::Wide(names), SavedScaler::Wide(scaler)) if names == scaler.names() => {}
        (kind, ..) => return Err(format!("features and scaler are not those of a {} policy", kind.name())),
    }
    Ok(header)
}

fn tensors(bytes: &[u8]) -> Result<Vec<NamedTensor>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    file.tensors()
        .into_iter()
        .map(|(name, view)| match view.dtype() {
            Dtype::F32 => {
                let floats =
                    view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                Ok((name, view.shape().to_vec(), floats.collect()))
            }
            other => Err(format!("tensor `{name}` has dtype {other:?}, expected F32")),
        })
        .collect()
}

fn body(header: &Header, tensors: &[NamedTensor]) -> Result<Body, String> {
    match (header.kind, &header.features) {
        (PolicyKind::Regressor, PolicyFeatures::Wide(names)) => {
            Ok(Body::Regressor(Regressor::from_tensors(names, tensors)?))
        }
        (PolicyKind::Categorical, PolicyFeatures::Wide(names)) => {
            let net = CategoricalNet::from_tensors(tensors).map_err(|e| e.to_string())?;
            let expected = (names.len() + WIDE_CONTEXT, header.actions.types().len());
            check_sizes((net.state_dim(), net.actions()), expected)?;
            Ok(Body::Categorical(net))
        }
        (_, features) => {
            let actor = ActorNet::from_tensors(tensors).map_err(|e| e.to_string())?;
            let states = match features {
                PolicyFeatures::Eleven(_) => N_FEATURES,
                PolicyFeatures::Wide(names) => names.len() + WIDE_CONTEXT,
            };
            check_sizes((actor.state_dim(), actor.action_dim()), (states, 1))?;
            Ok(Body::Continuous(actor))
        }
    }
}

fn check_sizes(found: (usize, usize), expected: (usize, usize)) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let ((states, actions), (n, m)) = (found, expected);
    Err(format!("its actor reads {states} numbers and gives {actions}, expected {n} and {m}"))
}
