#![doc = include_str!("../README.md")]

mod actor;
mod actor_net;
mod agent;
mod behaviour;
mod checkpoint;
mod checkpoint_file;
mod config;
mod critic;
mod device;
mod error;
mod host;
mod networks;
mod replay;
mod shape;
pub mod squashed;
mod temperature;
mod update;

pub use actor_net::{ActorNet, NamedTensor};
pub use agent::{ActMode, Agent};
pub use config::{Head, SacConfig, TargetKind};
pub use error::{Error, Result};
pub use replay::Transition;
pub use squashed::Squash;
pub use update::UpdateMetrics;
