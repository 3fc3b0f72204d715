//! Replay buffer on the host: a ring of transitions in flat vectors.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};

/// One step of an episode.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// State before the action, `[state_dim]`.
    pub state: Vec<f32>,
    /// Continuous action as it was sampled, each element in (0, 1), `[action_dim]`.
    pub action: Vec<f32>,
    /// Reward for the action.
    pub reward: f32,
    /// State after the action, `[state_dim]`. At a truncation the real next state, not a reset one;
    /// after a terminal step any finite values.
    pub next_state: Vec<f32>,
    /// The episode is over and has no future: the target is the reward alone.
    pub terminated: bool,
    /// The episode was cut off, e.g. by a time limit: the target still bootstraps.
    pub truncated: bool,
}

/// Transitions of one minibatch in row-major host vectors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Batch {
    /// `[batch, state]`
    pub(crate) states: Vec<f32>,
    /// `[batch, action]`
    pub(crate) actions: Vec<f32>,
    /// `[batch]`
    pub(crate) rewards: Vec<f32>,
    /// `[batch, state]`
    pub(crate) next_states: Vec<f32>,
    /// 1 - d: 0 where the transition terminated, else 1; `[batch]`.
    pub(crate) continues: Vec<f32>,
    /// Discounted sum of the rewards from the transition to the end of its episode; `[batch]`.
    pub(crate) returns: Vec<f32>,
}

/// Ring buffer of transitions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Replay {
    pub(crate) state_dim: usize,
    pub(crate) action_dim: usize,
    pub(crate) capacity: usize,
    /// Slot that the next transition goes to.
    pub(crate) cursor: usize,
    pub(crate) states: Vec<f32>,
    pub(crate) actions: Vec<f32>,
    pub(crate) rewards: Vec<f32>,
    pub(crate) next_states: Vec<f32>,
    pub(crate) continues: Vec<f32>,
    pub(crate) returns: Vec<f32>,
}

impl Replay {
    pub(crate) fn new(state_dim: usize, action_dim: usize, capacity: usize) -> Self {
        let empty = Vec::new;
        Self {
            state_dim,
            action_dim,
            capacity,
            cursor: 0,
            states: empty(),
            actions: empty(),
            rewards: empty(),
            next_states: empty(),
            continues: empty(),
            returns: empty(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.rewards.len()
    }

    /// Every column with its name and width.
    pub(crate) fn columns(&self) -> [(&'static str, usize, &[f32]); 6] {
        [
            ("states", self.state_dim, &self.states),
            ("actions", self.action_dim, &self.actions),
            ("rewards", 1, &self.rewards),
            ("next_states", self.state_dim, &self.next_states),
            ("continues", 1, &self.continues),
            ("returns", 1, &self.returns),
        ]
    }

    /// Stores a whole episode with its returns; the oldest transitions make room. Taking episodes
    /// only when they are over is what lets a terminal reward reach every step's return, and what
    /// keeps a late reward from landing in a slot that was overwritten meanwhile.
    pub(crate) fn push_episode(&mut self, episode: &[Transition], gamma: f64) -> Result<()> {
        self.check(episode)?;
        let mut returns = vec![0.0; episode.len()];
        let mut following = 0.0;
        for (step, slot) in episode.iter().zip(&mut returns).rev() {
            following = f64::from(step.reward) + gamma * following;
            *slot = following as f32;
        }
        for (step, to_go) in episode.iter().zip(returns) {
            let at = self.cursor;
            write(&mut self.states, at, &step.state);
            write(&mut self.actions, at, &step.action);
            write(&mut self.rewards, at, &[step.reward]);
            write(&mut self.next_states, at, &step.next_state);
            write(&mut self.continues, at, &[if step.terminated { 0.0 } else { 1.0 }]);
            write(&mut self.returns, at, &[to_go]);
            self.cursor = (at + 1) % self.capacity;
        }
        Ok(())
    }

    /// `batch_size` transitions drawn uniformly with replacement; `None` while fewer are stored.
    pub(crate) fn sample(&self, batch_size: usize, rng: &mut ChaCha8Rng) -> Option<Batch> {
        if self.len() < batch_size {
            return None;
        }
        let slots: Vec<usize> = (0..batch_size).map(|_| rng.random_range(0..self.len())).collect();
        let gather = |from: &[f32], width: usize| -> Vec<f32> {
            slots.iter().flat_map(|&slot| &from[slot * width..(slot + 1) * width]).copied().collect()
        };
        Some(Batch {
            states: gather(&self.states, self.state_dim),
            actions: gather(&self.actions, self.action_dim),
            rewards: gather(&self.rewards, 1),
            next_states: gather(&self.next_states, self.state_dim),
            continues: gather(&self.continues, 1),
            returns: gather(&self.returns, 1),
        })
    }

    fn check(&self, episode: &[Transition]) -> Result<()> {
        let len = episode.len();
        let refuse = |problem| Err(Error::Episode { len, problem });
        let Some((last, before)) = episode.split_last() else {
            return refuse("holds nothing");
        };
        if len > self.capacity {
            return refuse("does not fit in the replay buffer");
        }
        if !(last.terminated || last.truncated) {
            return refuse("ends with a transition that is neither terminated nor truncated");
        }
        if before.iter().any(|step| step.terminated || step.truncated) {
            return refuse("goes on after a terminated or truncated transition");
        }
        for (index, step) in episode.iter().enumerate() {
            check_vector("state", &step.state, self.state_dim, index, is_finite, "a finite number")?;
            check_vector("action", &step.action, self.action_dim, index, is_action, "a number in (0, 1)")?;
            check_vector(
                "next_state",
                &step.next_state,
                self.state_dim,
                index,
                is_finite,
                "a finite number",
            )?;
            check_vector("reward", &[step.reward], 1, index, is_finite, "a finite number")?;
        }
        Ok(())
    }
}

fn is_finite(value: f32) -> bool {
    value.is_finite()
}

/// The closed interval: a sigmoid in f32 rounds to its ends, and nothing here divides by them.
pub(crate) fn is_action(value: f32) -> bool {
    (0.0..=1.0).contains(&value)
}

fn check_vector(
    what: &'static str,
    values: &[f32],
    expected: usize,
    step: usize,
    holds: fn(f32) -> bool,
    rule: &'static str,
) -> Result<()> {
    if values.len() != expected {
        return Err(Error::Length { what, found: values.len(), expected });
    }
    match values.iter().position(|&value| !holds(value)) {
        None => Ok(()),
        Some(at) => {
            let what = format!("{what}[{at}] of transition {step}");
            Err(Error::Value { what, value: f64::from(values[at]), rule })
        }
    }
}

/// Writes row `at`, which is either stored already or the next one to append.
fn write(column: &mut Vec<f32>, at: usize, row: &[f32]) {
    let start = at * row.len();
    if start == column.len() {
        column.extend_from_slice(row);
    } else {
        column[start..start + row.len()].copy_from_slice(row);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

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

    #[test]
    fn truncation_keeps_the_bootstrap_and_termination_drops_it() {
        let mut replay = Replay::new(2, 1, 10);
        replay.push_episode(&episode(0.0, 2, false), 1.0).unwrap();
        replay.push_episode(&episode(1.0, 2, true), 1.0).unwrap();
        assert_eq!(replay.continues, [1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn returns_are_discounted_from_the_end() {
        let mut replay = Replay::new(2, 1, 10);
        replay.push_episode(&episode(0.0, 3, true), 0.5).unwrap();
        assert_eq!(replay.returns, [0.25, 0.5, 1.0]);
    }

    #[test]
    fn every_row_survives_the_wrap_with_its_own_next_state_and_return() {
        let mut replay = Replay::new(2, 1, 7);
        for tag in 0..5 {
            replay.push_episode(&episode(tag as f32, 3, true), 0.5).unwrap();
        }
        assert_eq!((replay.len(), replay.cursor), (7, 1));
        // 15 pushed, 7 kept: the last step of episode 2 and all of episodes 3 and 4.
        let mut seen: Vec<(u32, u32)> = Vec::new();
        for slot in 0..7 {
            let (s, n) =
                (&replay.states[2 * slot..2 * slot + 2], &replay.next_states[2 * slot..2 * slot + 2]);
            assert_eq!((s[0], s[1] + 1.0), (n[0], n[1]), "next state comes from the same episode");
            assert_eq!(replay.returns[slot], 0.5_f32.powi(2 - s[1] as i32));
            assert_eq!(replay.continues[slot], if s[1] == 2.0 { 0.0 } else { 1.0 });
            seen.push((s[0] as u32, s[1] as u32));
        }
        seen.sort_unstable();
        assert_eq!(seen, [(2, 2), (3, 0), (3, 1), (3, 2), (4, 0), (4, 1), (4, 2)]);
    }

    #[test]
    fn sampling_is_seeded_uniform_and_waits_for_a_full_batch() {
        let mut replay = Replay::new(2, 1, 100);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(replay.sample(4, &mut rng), None);
        replay.push_episode(&episode(0.0, 4, true), 1.0).unwrap();
        let one = replay.sample(4, &mut ChaCha8Rng::seed_from_u64(7)).unwrap();
        let same = replay.sample(4, &mut ChaCha8Rng::seed_from_u64(7)).unwrap();
        assert_eq!(one, same);
        let mut counts = [0; 4];
        for _ in 0..1000 {
            for row in replay.sample(4, &mut rng).unwrap().states.chunks(2) {
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
        let mut replay = Replay::new(2, 1, 10);
        for (spoil, message) in cases {
            let mut steps = episode(0.0, 3, true);
            spoil(&mut steps);
            let error = replay.push_episode(&steps, 1.0).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        assert_eq!(replay.len(), 0);
    }
}
