#![doc = include_str!("../README.md")]

mod actor;
mod actor_net;
mod adam;
mod agent;
mod behaviour;
mod checkpoint;
mod clip;
mod config;
mod critic;
mod error;
mod mlp;
mod polyak;
mod replay;
pub mod squashed;
mod temperature;
mod update;

pub use actor_net::{ActorNet, NamedTensor};
pub use agent::{ActMode, Agent};
pub use config::{Head, SacConfig, TargetKind};
pub use error::{Error, Result};
pub use replay::Transition;
pub use update::UpdateMetrics;
