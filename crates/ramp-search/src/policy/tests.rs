//! Policies of every kind, saved, read and refused.

use burn::tensor::Device;
use ramp_sac::{DiscreteAgent, DiscreteConfig, SacConfig};

use super::*;
use crate::{MeasuredModel, test_bench::Bench};

fn provenance() -> Provenance {
    Provenance {
        model: "nano".into(),
        budget: "4.2 bits per weight".into(),
        mode: Mode::Sound,
        seed: 1,
        episodes: 0,
        tokens: 0,
        kld: 0.5,
    }
}

fn sensitivity(problem: &Problem) -> Sensitivity {
    let rows = problem.slots().iter().enumerate().map(|(slot, options)| {
        (0..options.choices.len()).map(|choice| (1.0 + slot as f64) * 0.3f64.powi(choice as i32)).collect()
    });
    Sensitivity::from_costs(rows.collect())
}

/// One policy of each kind over the wide features, and the continuous one over eleven.
fn policies() -> Vec<Policy> {
    let bench = Bench::nano();
    let table = bench.features().wide().unwrap();
    let scaler = WideScaler::fit(&table);
    let (actions, n) = (bench.problem.actions(), bench.problem.actions().types().len());
    let small = SacConfig { hidden: [8, 8, 8], ..SacConfig::paper(table.state_len(), 1) };
    let actor = |config: &SacConfig| {
        let agent = Agent::new(config.clone(), &Device::flex()).unwrap();
        ActorNet::from_tensors(&agent.actor_tensors()).unwrap()
    };
    let discrete = DiscreteConfig { hidden: [8, 8, 8], ..DiscreteConfig::new(table.state_len(), n) };
    let net = DiscreteAgent::new(discrete, &Device::flex()).unwrap().policy().unwrap();
    let (problem, costs) = (&bench.problem, sensitivity(&bench.problem));
    let measured = MeasuredModel { problem, table: &table, scaler: &scaler, sensitivity: &costs };
    let bodies = [
        Body::Continuous(actor(&small)),
        Body::Categorical(net),
        Body::Regressor(Regressor::fit(&[measured]).unwrap()),
    ];
    let wide = bodies
        .into_iter()
        .map(|body| Policy::wide(body, Normalisation::Source, scaler.clone(), actions, provenance()));
    let mut config = SacSearchConfig::sound(1);
    config.agent.hidden = [8, 8, 8];
    let agent = Agent::new(config.agent.clone(), &Device::flex()).unwrap();
    let eleven = bench.features().table(config.feature_config()).unwrap();
    let policy =
        Policy::continuous(&agent, &config, Scaler::fit(&eleven), &bench.problem, provenance()).unwrap();
    wide.chain([policy]).collect()
}

#[test]
fn every_kind_allocates_the_same_after_a_round_trip() {
    let bench = Bench::nano();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy");
    let features = bench.features();
    for (policy, kind) in policies().into_iter().zip(["continuous", "categorical", "regressor", "continuous"])
    {
        policy.save(&path).unwrap();
        let loaded = Policy::load(&path).unwrap();
        assert_eq!((loaded.kind().name(), loaded.provenance()), (kind, &provenance()));
        assert_eq!(loaded.features(), policy.features());
        for bits in [3.7, 4.2, 5.5] {
            let problem = bench.at(bits);
            let choices = policy.allocate(&problem, &features).unwrap();
            assert!(problem.fits(&choices), "{kind} at {bits} bits");
            let (cost, capacity) = (problem.cost(&choices) as f64, problem.capacity() as f64);
            assert!(cost >= 0.99 * capacity, "{kind} leaves {cost} of {capacity}");
            // Weights of a regression are f32 in the file.
            if kind != "regressor" {
                assert_eq!(loaded.allocate(&problem, &features).unwrap(), choices);
            }
            assert_eq!(
                loaded.allocate(&problem, &features).unwrap(),
                loaded.allocate(&problem, &features).unwrap()
            );
        }
    }
}

#[test]
fn other_formats_and_features_are_refused() {
    let bench = Bench::nano();
    let features = bench.features();
    let types = vec![ramp_gguf::GgmlType::Q4_K, ramp_gguf::GgmlType::Q6_K];
    let other = ActionSet::new(types).unwrap();
    let budget = ramp_quant::Budget::BitsPerWeight(5.0);
    let problem = Problem::new(bench.model.config(), &ramp_gguf::Metadata::new(), &other, budget).unwrap();
    for mut policy in policies() {
        let error = policy.allocate(&problem, &features).unwrap_err().to_string();
        assert!(error.contains("other formats: it chooses from Q3_K, IQ4_XS"), "{error}");
        let PolicyFeatures::Wide(names) = &mut policy.header.features else { continue };
        names[0] = "width".into();
        let error = policy.allocate(&bench.problem, &features).unwrap_err().to_string();
        assert!(error.contains("other features: it reads width, ") && error.contains("depth"), "{error}");
    }
}

#[test]
fn old_versions_and_parts_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy");
    let refused = |spoil: &dyn Fn(&mut Policy)| {
        let mut policy = policies().swap_remove(1);
        spoil(&mut policy);
        policy.save(&path).unwrap();
        Policy::load(&path).unwrap_err().to_string()
    };
    let old = refused(&|policy| policy.header.version = 1);
    assert!(old.contains("it is of version 1, expected version 2; train the policy again"), "{old}");
    let kind = refused(&|policy| policy.header.kind = PolicyKind::Regressor);
    assert!(kind.contains("`regressor.weights` is missing"), "{kind}");
    let features = refused(&|policy| policy.header.features = PolicyFeatures::Eleven(FeatureMode::Sound));
    assert!(features.contains("features and scaler are not those of a categorical policy"), "{features}");
    let actions = refused(&|policy| policy.header.actions = ActionSet::paper());
    assert!(actions.contains("and gives 5, expected") && actions.contains("and 4"), "{actions}");
    std::fs::write(&path, b"nothing of the kind").unwrap();
    assert!(Policy::load(&path).is_err());
}
