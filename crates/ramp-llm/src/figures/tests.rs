//! Every figure of a small log is a document that says what the log says.

use ramp_search::{EpisodeRecord, Learning, LoggedChoice, LoggedSlot, TrainingLog};

use super::*;

fn log(episodes: usize) -> TrainingLog {
    let choices = |bytes: u64| {
        let choice = |format: &str, bits: f64| LoggedChoice { format: format.into(), bits, bytes };
        vec![choice("Q3_K", 3.0), choice("Q4_K", 4.0), choice("Q6_K", 6.0)]
    };
    let slots: Vec<LoggedSlot> = (0..28)
        .map(|at| LoggedSlot {
            name: format!("blk.{}.x.weight", at / 7),
            role: ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"][at % 7]
                .into(),
            block: Some(at / 7),
            weights: 256,
            choices: choices(100),
            features: vec![at as f32, (at % 7) as f32, 1.0],
        })
        .collect();
    let record = |episode: usize| EpisodeRecord {
        episode,
        tokens: 100 * episode,
        reward: -1.0 / episode as f64,
        kld: (episode != 2).then(|| 0.5 / episode as f64),
        perplexity: (episode != 2).then(|| 20.0 + 5.0 / episode as f64),
        mean_bits: 4.0,
        bytes: 2800,
        fits: true,
        best_kld: Some(0.5 / episode as f64),
        best_perplexity: Some(20.0 + 5.0 / episode as f64),
        alpha: 0.2,
        learning: (episode > 1).then_some(Learning { actor_loss: 1.0, critic_loss: 0.5, entropy: -1.0 }),
        choices: (0..28).map(|slot| (slot + episode) % 3).collect(),
    };
    TrainingLog {
        version: 1,
        model: "nano & co".into(),
        agent: "sac".into(),
        budget: "4 bits per weight".into(),
        seed: 7,
        config: serde_json::json!({}),
        base_perplexity: 20.0,
        uniform_kld: 0.4,
        uniform_perplexity: 22.0,
        formats: vec!["Q3_K".into(), "Q4_K".into(), "Q6_K".into()],
        feature_names: vec!["a".into(), "b".into(), "c".into()],
        slots,
        episodes: (1..=episodes).map(record).collect(),
        found: (0..28).map(|slot| slot % 3).collect(),
    }
}

#[test]
fn a_full_log_gives_every_figure_of_the_paper() {
    let figures = draw(&log(6)).unwrap();
    let names: Vec<&str> = figures.iter().map(|figure| figure.name).collect();
    assert_eq!(
        names,
        [
            "training",
            "best",
            "learning",
            "allocation",
            "ends",
            "depth",
            "depth-smoothed",
            "flips",
            "transitions",
            "roles",
            "components"
        ]
    );
    for Figure { name, svg, .. } in &figures {
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
        assert!(!svg.contains("NaN") && !svg.contains("nano & co"), "{name}: escaped and finite");
    }
    let svg = |name: &str| &figures.iter().find(|figure| figure.name == name).unwrap().svg;
    // Every slot changed in every one of five steps, from each format to the next.
    assert!(svg("transitions").contains("1.00") && svg("transitions").contains("Q6_K"));
    // Layers 0, 7, 14, 21 are attn_q, with formats 0, 1, 2, 0: (3 + 4 + 6 + 3) / 4 bits.
    assert!(svg("roles").contains("attn_q") && svg("roles").contains("4.00"));
    // Ten layers of the first format, nine of each other; one more of every colour in the legend.
    for (colour, layers) in [("#0072B2", 10), ("#56B4E9", 9), ("#009E73", 9)] {
        assert_eq!(svg("allocation").matches(colour).count(), layers + 1, "{colour}");
    }
}

#[test]
fn what_a_log_lacks_is_not_drawn() {
    let mut short = log(1);
    short.feature_names.clear();
    short.slots.iter_mut().for_each(|slot| slot.features.clear());
    let names: Vec<&str> = draw(&short).unwrap().iter().map(|figure| figure.name).collect();
    assert_eq!(names, ["training", "best", "allocation", "ends", "depth", "depth-smoothed", "roles"]);
    short.episodes.clear();
    short.found.clear();
    assert_eq!(draw(&short).unwrap(), []);
}

#[test]
fn a_front_joins_points_of_a_series() {
    let point =
        |series: &str, bytes, loss, interval| ParetoPoint { series: series.into(), bytes, loss, interval };
    let points = [
        point("uniform", 4e6, 0.2, 0.0),
        point("knapsack", 4e6, 0.1, 0.01),
        point("uniform", 6e6, 0.1, 0.0),
        point("knapsack", 6e6, 0.05, 0.0),
    ];
    let svg = pareto(&points, "llama", "KL divergence (nats)").unwrap();
    assert_eq!(svg.matches("<circle").count(), 4);
    // Two lines and one interval.
    assert_eq!(svg.matches("stroke-width=\"2\"").count(), 3, "{svg}");
    assert!(svg.contains("knapsack"));
}
