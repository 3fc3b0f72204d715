//! A saved agent goes on as if it had not stopped, and a damaged file is an error.

use burn::tensor::Device;
use ramp_sac::{ActMode, Agent, Error, SacConfig};

use crate::determinism::{config, train};

#[test]
fn training_goes_on_bit_for_bit_after_loading() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.safetensors");
    let mut agent = Agent::new(config(6), &Device::flex()).unwrap();
    train(&mut agent, 5);
    agent.save(&path).unwrap();
    let mut loaded = Agent::load(&path, &Device::flex()).unwrap();
    assert_eq!((loaded.config(), loaded.updates(), loaded.replay_len()), (agent.config(), 5, 150));
    assert_eq!(loaded.alpha(), agent.alpha());
    assert_eq!(train(&mut loaded, 5), train(&mut agent, 5));
    assert_eq!(loaded.actor_tensors(), agent.actor_tensors());
    let state = [0.2; 11];
    assert_eq!(loaded.act(&state, ActMode::Sample).unwrap(), agent.act(&state, ActMode::Sample).unwrap());
}

#[test]
fn saving_twice_gives_the_same_bytes_and_leaves_no_other_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::new(config(6), &Device::flex()).unwrap();
    train(&mut agent, 2);
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    agent.save(&a).unwrap();
    Agent::load(&a, &Device::flex()).unwrap().save(&b).unwrap();
    assert!(std::fs::read(&a).unwrap() == std::fs::read(&b).unwrap());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn an_agent_without_updates_survives_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent");
    let fixed = SacConfig { auto_alpha: false, init_alpha: 0.0, ..config(6) };
    let agent = Agent::new(fixed, &Device::flex()).unwrap();
    agent.save(&path).unwrap();
    let mut loaded = Agent::load(&path, &Device::flex()).unwrap();
    assert_eq!(loaded.alpha(), 0.0);
    assert!(loaded.update().unwrap().is_none());
}

#[test]
fn damaged_files_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent");
    let small = SacConfig { hidden: [4, 4, 4], ..SacConfig::paper(2, 1) };
    Agent::new(small, &Device::flex()).unwrap().save(&path).unwrap();
    let good = std::fs::read(&path).unwrap();
    let load = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Agent::load(&path, &Device::flex())
    };
    for cut in [0, 7, 100, good.len() / 2, good.len() - 1] {
        assert!(matches!(load(&good[..cut]), Err(Error::Checkpoint { .. })), "cut at {cut}");
    }
    // A number of the header changed in place, so that every offset stays right.
    let replaced = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = good.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = good.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        load(&bytes).unwrap_err().to_string()
    };
    assert!(replaced(r#"\"version\":2"#, r#"\"version\":9"#).contains("version is 9"));
    assert!(replaced(r#"\"state_dim\":2"#, r#"\"state_dim\":3"#).contains("fc1.weight"));
    assert!(replaced(r#"\"replay_cursor\":0"#, r#"\"replay_cursor\":7"#).contains("replay buffer"));
    assert!(replaced("actor.ln1.bias", "actor.ln9.bias").contains("`actor.ln1.bias` is missing"));
    assert!(matches!(Agent::load(dir.path().join("absent"), &Device::flex()), Err(Error::Io { .. })));
}
