//! What goes in comes out with its own future, also across the ring's boundary.

use rand::SeedableRng;

use super::*;

const WIDTHS: Widths = Widths { state: 2, action: 1, mask: 0, bounds: [0.0, 1.0] };

/// An episode of `len` steps whose numbers tell where they come from.
fn episode(tag: f32, len: usize, terminated: bool) -> Vec<Transition> {
    (0..len)
        .map(|t| Transition {
            state: vec![tag, t as f32],
            action: vec![0.5],
            reward: if t + 1 == len { 1.0 } else { 0.0 },
            next_state: vec![tag, t as f32 + 1.0],
            terminated: terminated && t + 1 == len,
            truncated: !terminated && t + 1 == len,
        })
        .collect()
}

fn push(replay: &mut Replay, episode: &[Transition], gamma: f64) -> Result<()> {
    let steps: Vec<Step<'_>> = episode.iter().map(Transition::step).collect();
    replay.push_episode(&steps, gamma)
}

fn sample(replay: &Replay, lookahead: usize, gamma: f64) -> Batch {
    replay.sample(64.min(replay.len()), lookahead, gamma, &mut ChaCha8Rng::seed_from_u64(7)).unwrap()
}

#[test]
fn truncation_keeps_the_bootstrap_and_termination_drops_it() {
    let mut replay = Replay::new(WIDTHS, 10);
    push(&mut replay, &episode(0.0, 2, false), 1.0).unwrap();
    push(&mut replay, &episode(1.0, 2, true), 1.0).unwrap();
    assert_eq!(replay.columns[column::CONTINUES], [1.0, 1.0, 1.0, 0.0]);
    assert_eq!(replay.columns[column::STEPS_LEFT], [1.0, 0.0, 1.0, 0.0]);
}

#[test]
fn returns_are_discounted_from_the_end() {
    let mut replay = Replay::new(WIDTHS, 10);
    push(&mut replay, &episode(0.0, 3, true), 0.5).unwrap();
    assert_eq!(replay.columns[column::RETURNS], [0.25, 0.5, 1.0]);
}

#[test]
fn every_row_survives_the_wrap_with_its_own_next_state_and_return() {
    let mut replay = Replay::new(WIDTHS, 7);
    for tag in 0..5 {
        push(&mut replay, &episode(tag as f32, 3, true), 0.5).unwrap();
    }
    assert_eq!((replay.len(), replay.cursor), (7, 1));
    // 15 pushed, 7 kept: the last step of episode 2 and all of episodes 3 and 4.
    let mut seen: Vec<(u32, u32)> = Vec::new();
    for slot in 0..7 {
        let s = &replay.columns[column::STATES][2 * slot..2 * slot + 2];
        let n = &replay.columns[column::NEXT_STATES][2 * slot..2 * slot + 2];
        assert_eq!((s[0], s[1] + 1.0), (n[0], n[1]), "next state comes from the same episode");
        assert_eq!(replay.columns[column::RETURNS][slot], 0.5_f32.powi(2 - s[1] as i32));
        assert_eq!(replay.columns[column::CONTINUES][slot], if s[1] == 2.0 { 0.0 } else { 1.0 });
        seen.push((s[0] as u32, s[1] as u32));
    }
    seen.sort_unstable();
    assert_eq!(seen, [(2, 2), (3, 0), (3, 1), (3, 2), (4, 0), (4, 1), (4, 2)]);
}

/// Rewards 1 in every step, so that sums count steps; the ring has wrapped.
#[test]
fn n_steps_stop_at_the_end_of_an_episode_and_cross_the_boundary_of_the_ring() {
    let mut replay = Replay::new(WIDTHS, 7);
    for tag in 0..5 {
        let mut steps = episode(tag as f32, 3, tag % 2 == 0);
        steps.iter_mut().for_each(|step| step.reward = 1.0);
        push(&mut replay, &steps, 0.5).unwrap();
    }
    let mut ends = [0, 0];
    for (lookahead, gamma) in [(1, 0.5), (2, 0.5), (3, 0.5), (50, 0.5)] {
        let batch = sample(&replay, lookahead, gamma);
        for row in 0..batch.rewards.len() {
            let (s, n) = (&batch.states[2 * row..2 * row + 2], &batch.next_states[2 * row..2 * row + 2]);
            let steps = lookahead.min(3 - s[1] as usize);
            assert_eq!((n[0], n[1]), (s[0], s[1] + steps as f32), "the state that many steps later");
            let sum: f64 = (0..steps).map(|k| gamma.powi(k as i32)).sum();
            assert_eq!(f64::from(batch.rewards[row]), sum);
            let terminated = n[1] == 3.0 && (s[0] as usize).is_multiple_of(2);
            let expected = if terminated { 0.0 } else { gamma.powi(steps as i32) };
            assert_eq!(batch.discounts[row], expected);
            ends[usize::from(terminated)] += 1;
        }
    }
    assert!(ends[0] > 0 && ends[1] > 0, "both kinds of end were seen");
}

#[test]
fn sampling_is_seeded_uniform_and_waits_for_a_full_batch() {
    let mut replay = Replay::new(WIDTHS, 100);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    assert_eq!(replay.sample(4, 1, 1.0, &mut rng), None);
    push(&mut replay, &episode(0.0, 4, true), 1.0).unwrap();
    assert_eq!(sample(&replay, 1, 1.0), sample(&replay, 1, 1.0));
    let mut counts = [0; 4];
    for _ in 0..1000 {
        for row in replay.sample(4, 1, 1.0, &mut rng).unwrap().states.chunks(2) {
            counts[row[1] as usize] += 1;
        }
    }
    // Binomial(4000, 1/4): six standard deviations are 164.
    assert!(counts.iter().all(|&count: &i32| (count - 1000).abs() < 164), "{counts:?}");
}

#[test]
fn malformed_episodes_are_refused_and_leave_the_buffer_alone() {
    type Break = fn(&mut Vec<Transition>);
    let cases: [(Break, &str); 8] = [
        (|e| e.clear(), "holds nothing"),
        (|e| e[2].terminated = false, "neither"),
        (|e| e[0].truncated = true, "goes on"),
        (|e| e[1].state.push(0.0), "state has 3"),
        (|e| e[1].action[0] = 1.5, "action[0] of transition 1 is 1.5"),
        (|e| e[2].reward = f32::NAN, "reward[0] of transition 2 is NaN"),
        (|e| e[2].next_state[1] = f32::INFINITY, "next_state[1] of transition 2"),
        (|e| *e = episode(0.0, 11, true), "does not fit"),
    ];
    let mut replay = Replay::new(WIDTHS, 10);
    for (spoil, message) in cases {
        let mut steps = episode(0.0, 3, true);
        spoil(&mut steps);
        let error = push(&mut replay, &steps, 1.0).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    assert_eq!(replay.len(), 0);
}
