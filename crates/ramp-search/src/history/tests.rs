//! A log of three episodes by hand.

use super::*;

fn slot(name: &str, role: &str, block: Option<usize>, features: [f32; 3]) -> LoggedSlot {
    let choice = |format: &str, bits, bytes| LoggedChoice { format: format.into(), bits, bytes };
    LoggedSlot {
        name: name.into(),
        role: role.into(),
        block,
        weights: 100,
        choices: vec![choice("Q3_K", 3.0, 43), choice("Q4_K", 4.0, 57), choice("Q6_K", 6.0, 82)],
        features: features.to_vec(),
    }
}

fn episode(episode: usize, kld: Option<f64>, choices: [usize; 4]) -> EpisodeRecord {
    EpisodeRecord {
        episode,
        tokens: 10 * episode,
        reward: -0.5,
        kld,
        perplexity: kld.map(|kld| 20.0 + kld),
        mean_bits: 4.0,
        bytes: 300,
        fits: true,
        best_kld: kld,
        best_perplexity: None,
        alpha: 0.1,
        learning: None,
        choices: choices.to_vec(),
    }
}

fn log() -> TrainingLog {
    TrainingLog {
        version: LOG_VERSION,
        model: "m".into(),
        agent: "sac".into(),
        budget: "4 bits per weight".into(),
        seed: 1,
        config: serde_json::json!({"episodes": 3}),
        base_perplexity: 20.0,
        uniform_kld: 0.1,
        uniform_perplexity: 21.0,
        formats: vec!["Q3_K".into(), "Q4_K".into(), "Q6_K".into()],
        feature_names: vec!["a".into(), "b".into(), "c".into()],
        slots: vec![
            slot("token_embd.weight", "token_embd", None, [0.0, 0.0, 5.0]),
            slot("blk.0.attn_q.weight", "attn_q", Some(0), [1.0, 2.0, 5.0]),
            slot("blk.1.attn_q.weight", "attn_q", Some(1), [2.0, 4.0, 5.0]),
            slot("blk.1.ffn_up.weight", "ffn_up", Some(1), [3.0, 6.0, 5.0]),
        ],
        episodes: vec![
            episode(1, Some(0.2), [0, 1, 1, 2]),
            episode(2, None, [0, 2, 1, 0]),
            episode(3, Some(0.1), [0, 1, 1, 0]),
        ],
        found: vec![],
    }
}

#[test]
fn flips_count_changes_between_neighbours() {
    assert_eq!(log().flips(), [0, 2, 0, 1]);
}

#[test]
fn transitions_by_hand() {
    let transitions = log().transitions();
    // Episode 1 to 2: 3->3, 4->6, 4->4, 6->3; 2 to 3: 3->3, 6->4, 4->4, 3->3.
    assert_eq!(transitions.counts, [[3, 0, 0], [0, 2, 1], [1, 1, 0]]);
    assert_eq!(transitions.probabilities[2], [0.5, 0.5, 0.0]);
    let rows: Vec<f64> = transitions.probabilities.iter().map(|row| row.iter().sum()).collect();
    assert!(rows.iter().all(|sum: &f64| (sum - 1.0).abs() < 1e-12), "{rows:?}");
    let still = TrainingLog { episodes: vec![], ..log() }.transitions();
    assert_eq!(still.probabilities, vec![vec![0.0; 3]; 3]);
}

#[test]
fn bits_by_role_and_block() {
    let log = log();
    let roles = log.mean_bits_by_role(&[2, 0, 1, 2]);
    let found: Vec<(&str, f64, usize)> =
        roles.iter().map(|r| (r.role.as_str(), r.mean_bits, r.layers)).collect();
    assert_eq!(found, [("token_embd", 6.0, 1), ("attn_q", 3.5, 2), ("ffn_up", 6.0, 1)]);
    assert_eq!(log.mean_bits_by_block(&[2, 0, 1, 2]), [3.0, 5.0]);
    assert_eq!(log.last_choices(), [0, 1, 1, 0]);
    assert_eq!(TrainingLog { found: vec![1; 4], ..log.clone() }.last_choices(), [1; 4]);
    assert_eq!(log.first_and_last(2), (vec![1, 2], vec![3]));
}

#[test]
fn a_moving_average_is_centred() {
    assert_eq!(smoothed(&[1.0, 2.0, 6.0, 3.0], 3), [1.5, 3.0, 11.0 / 3.0, 4.5]);
    assert_eq!(smoothed(&[1.0, 2.0], 1), [1.0, 2.0]);
    assert_eq!(smoothed(&[], 5), Vec::<f64>::new());
}

#[test]
fn two_features_in_proportion_are_one_component() {
    // The third feature is constant; the other two are the same after standardisation.
    let components = log().principal_components(2);
    assert!((components[0].share - 1.0).abs() < 1e-9 && components[1].share < 1e-9);
    let half = 0.5f64.sqrt();
    for (found, expected) in components[0].weights.iter().zip([half, half, 0.0]) {
        assert!((found - expected).abs() < 1e-9, "{:?}", components[0].weights);
    }
    // Standardised values of 0, 1, 2, 3 are -3 to 3 in steps of two over root five.
    for (slot, score) in components[0].scores.iter().enumerate() {
        let expected = 2.0f64.sqrt() * (2.0 * slot as f64 - 3.0) / 5.0f64.sqrt();
        assert!((score - expected).abs() < 1e-6, "{score} against {expected}");
    }
    assert!(TrainingLog { slots: vec![], ..log() }.principal_components(2).is_empty());
}

#[test]
fn components_of_unequal_features_are_uncorrelated() {
    let mut log = log();
    for (slot, noise) in log.slots.iter_mut().zip([0.3, -0.7, 0.1, 0.9]) {
        slot.features = vec![slot.features[0] + noise, slot.features[1] - 2.0 * noise, noise * noise];
    }
    let components = log.principal_components(3);
    assert!((components.iter().map(|c| c.share).sum::<f64>() - 1.0).abs() < 1e-9);
    assert!(components[0].share >= components[1].share && components[1].share >= components[2].share);
    for a in 0..3 {
        for b in a + 1..3 {
            let product: f64 =
                components[a].scores.iter().zip(&components[b].scores).map(|(x, y)| x * y).sum();
            assert!(product.abs() < 1e-9, "{a} {b}: {product}");
        }
    }
}

#[test]
fn files_round_trip_and_broken_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.json");
    log().save(&path).unwrap();
    assert_eq!(TrainingLog::load(&path).unwrap(), log());
    assert_eq!((log().curve().len(), log().failed_episodes()), (2, 1));

    let refused = |spoil: fn(&mut TrainingLog)| {
        let mut log = log();
        spoil(&mut log);
        log.save(&path).unwrap();
        TrainingLog::load(&path).unwrap_err().to_string()
    };
    assert!(refused(|log| log.version = 9).contains("version 9, expected 1"));
    assert!(refused(|log| log.episodes[1].choices[2] = 3).contains("episode 2 has choice 3"));
    assert!(refused(|log| log.found = vec![0]).contains("the allocation found has 1 choices, expected 4"));
    assert!(refused(|log| log.slots[0].choices.clear()).contains("has no choices"));
    assert!(refused(|log| log.slots[1].features.truncate(1)).contains("1 features, expected 3"));
    std::fs::write(&path, b"{}").unwrap();
    assert!(TrainingLog::load(&path).unwrap_err().to_string().contains("missing field"));
    assert!(TrainingLog::load(&dir.path().join("absent")).is_err());
}

#[test]
fn a_file_holds_one_log_or_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let (one, many) = (folder.path().join("one.json"), folder.path().join("many.json"));
    log().save(&one).unwrap();
    assert_eq!(TrainingLog::load_all(&one).unwrap(), [log()]);
    let mut other = log();
    other.seed = 2;
    std::fs::write(&many, serde_json::to_vec(&[log(), other.clone()]).unwrap()).unwrap();
    assert_eq!(TrainingLog::load_all(&many).unwrap(), [log(), other.clone()]);
    assert!(TrainingLog::load(&many).is_err());
    other.version = 9;
    std::fs::write(&many, serde_json::to_vec(&[other]).unwrap()).unwrap();
    let error = TrainingLog::load_all(&many).unwrap_err().to_string();
    assert!(error.contains("many.json") && error.contains("version 9"), "{error}");
}
