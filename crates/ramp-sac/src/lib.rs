#![doc = include_str!("../README.md")]

mod actor;
mod actor_net;
mod agent;
mod behaviour;
mod categorical;
mod checkpoint;
mod checkpoint_file;
mod config;
mod critic;
mod device;
mod discrete;
mod error;
mod host;
mod learner;
mod networks;
mod ppo;
mod replay;
#[cfg(feature = "rl")]
pub mod rl;
mod shape;
pub mod squashed;
mod temperature;
mod update;

pub use actor_net::{ActorNet, NamedTensor};
pub use agent::{ActMode, Agent};
pub use categorical::CategoricalNet;
pub use config::{Head, SacConfig, TargetKind};
pub use discrete::{DiscreteAgent, DiscreteConfig, DiscreteTransition};
pub use error::{Error, Result};
pub use ppo::{Choice, End, Ppo, PpoConfig, PpoMetrics, PpoStep};
pub use replay::Transition;
pub use squashed::Squash;
pub use update::UpdateMetrics;
