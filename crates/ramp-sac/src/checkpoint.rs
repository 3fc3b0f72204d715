//! Saving and loading a whole agent, so that training goes on as if it had not stopped.
//!
//! One safetensors file: `actor.*`, `critics.*`, `targets.*` (weights `[network, in, out]`),
//! `actor_adam.m.*`, `actor_adam.v.*`, the same for `critic_adam`, and `replay.*`; everything that is
//! not a tensor is one JSON document in the header.

use std::{collections::HashMap, fs, io::Write, path::Path};

use burn::tensor::Device;
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::{
    actor::Actor,
    adam::{Adam, AdamSnapshot},
    agent::Agent,
    config::SacConfig,
    critic,
    error::{Error, Result},
    mlp::{MlpShape, PARAM_NAMES},
    replay::Replay,
    temperature::Temperature,
};

/// Version of the layout; a file of another version is refused.
const VERSION: u32 = 1;

/// Header entry that holds the JSON document.
const HEADER_KEY: &str = "ramp_sac";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    config: SacConfig,
    temperature: Temperature,
    learn_rng: ChaCha8Rng,
    explore_rng: ChaCha8Rng,
    updates: u64,
    actor_adam_time: u64,
    critic_adam_time: u64,
    replay_cursor: usize,
}

impl Agent {
    /// Writes the agent with its replay buffer, optimizer moments and generators to `path`. The file
    /// is complete or absent: it is written beside `path` and then renamed.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written; [`Error::Device`] if a parameter cannot be read.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (actor_adam, critic_adam) = (self.actor_adam.snapshot()?, self.critic_adam.snapshot()?);
        let header = Header {
            version: VERSION,
            config: self.config.clone(),
            temperature: self.temperature.clone(),
            learn_rng: self.learn_rng.clone(),
            explore_rng: self.explore_rng.clone(),
            updates: self.updates,
            actor_adam_time: actor_adam.time,
            critic_adam_time: critic_adam.time,
            replay_cursor: self.replay.cursor,
        };
        let (actor_shape, critic_shape) = (Actor::shape(&self.config), critic::shape(&self.config));
        let mut tensors = Vec::new();
        push_params(&mut tensors, "actor", self.actor.net.download()?, &actor_shape);
        push_params(&mut tensors, "critics", self.critics.download()?, &critic_shape);
        push_params(&mut tensors, "targets", self.targets.download()?, &critic_shape);
        push_params(&mut tensors, "actor_adam.m", actor_adam.moment_1, &actor_shape);
        push_params(&mut tensors, "actor_adam.v", actor_adam.moment_2, &actor_shape);
        push_params(&mut tensors, "critic_adam.m", critic_adam.moment_1, &critic_shape);
        push_params(&mut tensors, "critic_adam.v", critic_adam.moment_2, &critic_shape);
        for (name, width, values) in self.replay.columns() {
            tensors.push((format!("replay.{name}"), vec![values.len() / width, width], to_bytes(values)));
        }
        let bytes =
            encode(&header, &tensors).map_err(|reason| Error::Checkpoint { path: path.into(), reason })?;
        write_atomically(path, &bytes).map_err(|source| Error::Io { path: path.into(), source })
    }

    /// Reads an agent that [`Agent::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Checkpoint`], [`Error::MissingTensor`],
    /// [`Error::TensorShape`], [`Error::Value`] or [`Error::Config`] if it is damaged or of another version.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
        let damaged = |reason: String| Error::Checkpoint { path: path.into(), reason };
        let header = decode_header(&bytes).map_err(damaged)?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
        header.config.validate()?;

        let config = header.config.clone();
        let (actor_shape, critic_shape) = (Actor::shape(&config), critic::shape(&config));
        let mut agent = Self::assemble(
            config,
            take_params(&file, "actor", &actor_shape)?,
            take_params(&file, "critics", &critic_shape)?,
            take_params(&file, "targets", &critic_shape)?,
            device,
        );
        let device = agent.device.clone();
        let restore = |adam: &mut Adam, name: &str, time: u64, shape: &MlpShape| -> Result<()> {
            if time > 0 {
                let moment_1 = take_params(&file, &format!("{name}.m"), shape)?;
                let moment_2 = take_params(&file, &format!("{name}.v"), shape)?;
                adam.restore(AdamSnapshot { time, moment_1, moment_2 }, shape, &device);
            }
            Ok(())
        };
        restore(&mut agent.actor_adam, "actor_adam", header.actor_adam_time, &actor_shape)?;
        restore(&mut agent.critic_adam, "critic_adam", header.critic_adam_time, &critic_shape)?;
        agent.replay = take_replay(&file, agent.replay.clone(), header.replay_cursor)?
            .ok_or_else(|| damaged("the columns of its replay buffer do not fit together".to_string()))?;
        agent.temperature = header.temperature;
        agent.learn_rng = header.learn_rng;
        agent.explore_rng = header.explore_rng;
        agent.updates = header.updates;
        Ok(agent)
    }
}

type StoredTensor = (String, Vec<usize>, Vec<u8>);

fn push_params(tensors: &mut Vec<StoredTensor>, prefix: &str, params: Vec<Vec<f32>>, shape: &MlpShape) {
    for ((name, values), dims) in PARAM_NAMES.iter().zip(params).zip(shape.params()) {
        tensors.push((format!("{prefix}.{name}"), dims.to_vec(), to_bytes(&values)));
    }
}

fn take_params(file: &SafeTensors<'_>, prefix: &str, shape: &MlpShape) -> Result<Vec<Vec<f32>>> {
    let named = PARAM_NAMES.iter().zip(shape.params());
    named.map(|(name, dims)| take(file, &format!("{prefix}.{name}"), &dims)).collect()
}

/// The values of a tensor whose shape must be `expected`, in which 0 stands for any size.
fn take(file: &SafeTensors<'_>, name: &str, expected: &[usize]) -> Result<Vec<f32>> {
    let view = file.tensor(name).map_err(|_| Error::MissingTensor { name: name.to_string() })?;
    let found = view.shape();
    let fits = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| *e == 0 || f == e);
    if !fits || view.dtype() != Dtype::F32 {
        return Err(Error::TensorShape {
            name: name.to_string(),
            found: found.to_vec(),
            elements: view.data().len() / size_of::<f32>(),
            expected: expected.to_vec(),
        });
    }
    let bytes = view.data().chunks_exact(size_of::<f32>());
    let values: Vec<f32> = bytes.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(at) => {
            let (what, value) = (format!("{name}[{at}]"), f64::from(values[at]));
            Err(Error::Value { what, value, rule: "a finite number" })
        }
    }
}

/// Fills an empty buffer; `None` if the columns do not fit together.
fn take_replay(file: &SafeTensors<'_>, mut replay: Replay, cursor: usize) -> Result<Option<Replay>> {
    let (s, a) = (replay.state_dim, replay.action_dim);
    replay.states = take(file, "replay.states", &[0, s])?;
    replay.actions = take(file, "replay.actions", &[0, a])?;
    replay.rewards = take(file, "replay.rewards", &[0, 1])?;
    replay.next_states = take(file, "replay.next_states", &[0, s])?;
    replay.continues = take(file, "replay.continues", &[0, 1])?;
    replay.returns = take(file, "replay.returns", &[0, 1])?;
    replay.cursor = cursor;
    let len = replay.len();
    let equal = replay.columns().iter().all(|(_, width, values)| values.len() == len * width);
    let expected_cursor = if len < replay.capacity { cursor == len } else { cursor < replay.capacity };
    Ok((equal && len <= replay.capacity && expected_cursor).then_some(replay))
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn encode(header: &Header, tensors: &[StoredTensor]) -> std::result::Result<Vec<u8>, String> {
    let json = serde_json::to_string(header).map_err(|error| error.to_string())?;
    let views = tensors
        .iter()
        .map(|(name, shape, data)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), data)?)))
        .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>();
    // One entry only: the order of a map's entries in the file would not be the same every time.
    let metadata = HashMap::from([(HEADER_KEY.to_string(), json)]);
    let encoded = views.and_then(|views| safetensors::serialize(views, Some(metadata)));
    encoded.map_err(|error| error.to_string())
}

fn decode_header(bytes: &[u8]) -> std::result::Result<Header, String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let entries = metadata.metadata().as_ref();
    let json = entries.and_then(|map| map.get(HEADER_KEY)).ok_or("it has no header of an agent")?;
    let version: serde_json::Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    if version["version"] != VERSION {
        return Err(format!("its version is {}, not {VERSION}", version["version"]));
    }
    serde_json::from_str(json).map_err(|error| error.to_string())
}

fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?.to_os_string();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let write = || {
        let mut file = fs::File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    // A full disk leaves nothing behind; the first error is the one worth telling.
    write().inspect_err(|_| drop(fs::remove_file(&partial)))
}
