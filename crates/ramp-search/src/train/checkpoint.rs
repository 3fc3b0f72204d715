//! What an interrupted training needs to go on: the agent in a file of its own, everything else in a JSON document that
//! names it. The document is written after the agent, so that it never names a file that is not complete.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{
    episodes::{Task, Trainer},
    error::{Error, Result},
    history::TrainingLog,
};

const VERSION: u32 = 1;
/// As for logs, of which it holds some.
const MAX_BYTES: u64 = 4 << 30;

/// Where and how often a training is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The JSON document; agents are written beside it.
    pub path: PathBuf,
    /// Episodes between two writes.
    pub every: usize,
}

/// Everything but the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    version: u32,
    pub(super) episode: usize,
    pub(super) tokens: usize,
    rng: ChaCha8Rng,
    gathered: usize,
    logs: Vec<TrainingLog>,
}

impl State {
    pub(super) fn new(episode: usize, tokens: usize, trainer: &Trainer, logs: Vec<TrainingLog>) -> Self {
        let (rng, gathered) = (trainer.rng.clone(), trainer.gathered);
        Self { version: VERSION, episode, tokens, rng, gathered, logs }
    }
}

impl Checkpoint {
    /// The document, if there is one.
    pub(super) fn read(&self) -> Result<Option<State>> {
        let fail = |why: String| Error::Log { path: self.path.clone(), why };
        let size = match fs::metadata(&self.path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error.to_string())),
        };
        if size > MAX_BYTES {
            return Err(fail(format!("it has {size} bytes, a checkpoint has at most {MAX_BYTES}")));
        }
        let bytes = fs::read(&self.path).map_err(|e| fail(e.to_string()))?;
        let state: State = serde_json::from_slice(&bytes).map_err(|e| fail(e.to_string()))?;
        if state.version != VERSION {
            return Err(fail(format!("it is of version {}, expected {VERSION}", state.version)));
        }
        for log in &state.logs {
            log.check().map_err(fail)?;
        }
        Ok(Some(state))
    }

    /// Writes the agent, then the document, then removes agents that no document names.
    pub(super) fn write(&self, state: &State, trainer: &Trainer) -> Result<()> {
        let agent = self.agent(state.episode);
        trainer.learner.save(&agent)?;
        ramp_gguf::write_atomically(&self.path, |file| Ok(serde_json::to_writer(file, state)?))?;
        self.remove_agents(Some(&agent));
        Ok(())
    }

    /// Puts the run back where it was; gives the last episode done.
    pub(super) fn restore(
        &self,
        state: State,
        trainer: &mut Trainer,
        tasks: &mut [(usize, Task)],
        device: &Device,
    ) -> Result<usize> {
        let fail = |why: String| Error::Log { path: self.path.clone(), why };
        if state.logs.len() != tasks.len() {
            let (found, expected) = (state.logs.len(), tasks.len());
            return Err(fail(format!(
                "it is of a run on {found} models and budgets, this one has {expected}"
            )));
        }
        for ((_, task), log) in tasks.iter().zip(&state.logs) {
            if let Some(what) = difference(&task.log, log) {
                return Err(fail(format!("it is of another run: {what}")));
            }
        }
        let episodes: usize = state.logs.iter().map(|log| log.episodes.len()).sum();
        if episodes != state.episode || state.episode > trainer.config.episodes {
            let (episode, all) = (state.episode, trainer.config.episodes);
            return Err(fail(format!("it is at episode {episode} of {all} and has logs of {episodes}")));
        }
        trainer.learner = trainer.learner.load_like(&self.agent(state.episode), device)?;
        trainer.rng = state.rng;
        trainer.gathered = state.gathered;
        for ((_, task), log) in tasks.iter_mut().zip(state.logs) {
            task.resume(log);
        }
        Ok(state.episode)
    }

    /// Removes everything that was kept; for a training that is done.
    ///
    /// # Errors
    /// When the document cannot be removed.
    pub fn remove(&self) -> Result<()> {
        self.remove_agents(None);
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::Log { path: self.path.clone(), why: error.to_string() })
            }
            _ => Ok(()),
        }
    }

    fn agent(&self, episode: usize) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".agent-{episode}"));
        name.into()
    }

    /// Agents that are left are a waste of space and no error.
    fn remove_agents(&self, but: Option<&Path>) {
        let Some(prefix) = self.path.file_name().map(|name| format!("{}.agent-", name.to_string_lossy()))
        else {
            return;
        };
        let folder = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number =
                name.to_string_lossy().strip_prefix(&prefix).is_some_and(|n| n.parse::<u64>().is_ok());
            if number && but.and_then(Path::file_name) != Some(&name) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// The first thing, apart from episodes, in which two logs differ.
fn difference(here: &TrainingLog, there: &TrainingLog) -> Option<String> {
    let named = [
        ("model", &here.model, &there.model),
        ("agent", &here.agent, &there.agent),
        ("budget", &here.budget, &there.budget),
    ];
    for (what, here, there) in named {
        if here != there {
            return Some(format!("its {what} is {there}, here it is {here}"));
        }
    }
    if here.seed != there.seed {
        return Some(format!("its seed is {}, here it is {}", there.seed, here.seed));
    }
    let keys = here.config.as_object().into_iter().flatten();
    for (key, value) in keys {
        let other = there.config.get(key);
        if other != Some(value) {
            let other = other.map_or_else(|| "missing".to_owned(), ToString::to_string);
            return Some(format!("its {key} is {other}, here it is {value}"));
        }
    }
    if here.slots != there.slots || here.formats != there.formats || here.feature_names != there.feature_names
    {
        return Some("its layers, formats or features are others".into());
    }
    let numbers = |log: &TrainingLog| [log.base_perplexity, log.uniform_kld, log.uniform_perplexity];
    (numbers(here) != numbers(there)).then(|| "its model scores otherwise on its text".into())
}
