//! Replay buffer on the host: a ring of transitions in flat vectors.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};

/// One step of an episode.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// State before the action, `[state_dim]`.
    pub state: Vec<f32>,
    /// Continuous action as it was sampled, each element in the interval of [`Squash`](crate::Squash),
    /// `[action_dim]`.
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

impl Transition {
    pub(crate) fn step(&self) -> Step<'_> {
        Step {
            state: &self.state,
            action: &self.action,
            masks: [&[], &[]],
            reward: self.reward,
            next_state: &self.next_state,
            terminated: self.terminated,
            truncated: self.truncated,
        }
    }
}

/// A transition of either agent, borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    pub(crate) state: &'a [f32],
    pub(crate) action: &'a [f32],
    /// 1 for each allowed action of `state` and `next_state`, else 0; empty without masks.
    pub(crate) masks: [&'a [f32]; 2],
    pub(crate) reward: f32,
    pub(crate) next_state: &'a [f32],
    pub(crate) terminated: bool,
    pub(crate) truncated: bool,
}

/// Transitions of one minibatch in row-major host vectors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Batch {
    /// `[batch, state]`
    pub(crate) states: Vec<f32>,
    /// `[batch, action]`
    pub(crate) actions: Vec<f32>,
    /// `[batch, mask]`
    pub(crate) masks: Vec<f32>,
    /// Discounted sum of the rewards of the next n steps, or of those to the end; `[batch]`.
    pub(crate) rewards: Vec<f32>,
    /// The state after those steps, `[batch, state]`.
    pub(crate) next_states: Vec<f32>,
    /// `[batch, mask]`
    pub(crate) next_masks: Vec<f32>,
    /// γ to the number of those steps; 0 where the last one terminated; `[batch]`.
    pub(crate) discounts: Vec<f64>,
    /// Discounted sum of the rewards from the transition to the end of its episode; `[batch]`.
    pub(crate) returns: Vec<f32>,
}

/// Ring buffer of transitions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Replay {
    pub(crate) widths: Widths,
    pub(crate) capacity: usize,
    /// Slot that the next transition goes to.
    pub(crate) cursor: usize,
    /// In the order of [`COLUMNS`].
    pub(crate) columns: [Vec<f32>; COLUMNS.len()],
}

/// Numbers per transition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Widths {
    pub(crate) state: usize,
    pub(crate) action: usize,
    /// 0 for an agent without masks.
    pub(crate) mask: usize,
    /// Ends of an action element's interval.
    pub(crate) bounds: [f32; 2],
}

/// Names of the columns.
pub(crate) const COLUMNS: [&str; 9] = [
    "states",
    "actions",
    "masks",
    "rewards",
    "next_states",
    "next_masks",
    "continues",
    "steps_left",
    "returns",
];

mod column {
    pub(super) const STATES: usize = 0;
    pub(super) const ACTIONS: usize = 1;
    pub(super) const MASKS: usize = 2;
    pub(super) const REWARDS: usize = 3;
    pub(super) const NEXT_STATES: usize = 4;
    pub(super) const NEXT_MASKS: usize = 5;
    /// 1 - d: 0 where the transition terminated, else 1.
    pub(super) const CONTINUES: usize = 6;
    /// Transitions of the same episode behind this one.
    pub(super) const STEPS_LEFT: usize = 7;
    pub(super) const RETURNS: usize = 8;
}

/// Numbers of each column in a transition.
pub(crate) const fn widths(w: Widths) -> [usize; COLUMNS.len()] {
    [w.state, w.action, w.mask, 1, w.state, w.mask, 1, 1, 1]
}

impl Replay {
    pub(crate) fn new(widths: Widths, capacity: usize) -> Self {
        Self { widths, capacity, cursor: 0, columns: Default::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.columns[column::REWARDS].len()
    }

    /// Stores a whole episode with its returns; the oldest transitions make room. Taking episodes
    /// only when they are over is what lets a terminal reward reach every step's return, and what
    /// keeps a late reward from landing in a slot that was overwritten meanwhile.
    pub(crate) fn push_episode(&mut self, episode: &[Step<'_>], gamma: f64) -> Result<()> {
        self.check(episode)?;
        let mut returns = vec![0.0; episode.len()];
        let mut following = 0.0;
        for (step, slot) in episode.iter().zip(&mut returns).rev() {
            following = f64::from(step.reward) + gamma * following;
            *slot = following as f32;
        }
        for (index, (step, to_go)) in episode.iter().zip(returns).enumerate() {
            let [mask, next_mask] = step.masks;
            let left = (episode.len() - 1 - index) as f32;
            let rows: [&[f32]; COLUMNS.len()] = [
                step.state,
                step.action,
                mask,
                &[step.reward],
                step.next_state,
                next_mask,
                &[if step.terminated { 0.0 } else { 1.0 }],
                &[left],
                &[to_go],
            ];
            for (column, row) in self.columns.iter_mut().zip(rows) {
                write(column, self.cursor, row);
            }
            self.cursor = (self.cursor + 1) % self.capacity;
        }
        Ok(())
    }

    /// `batch_size` transitions drawn uniformly with replacement; `None` while fewer are stored. Rewards and next
    /// states look `lookahead` steps ahead, but not beyond the end of an episode.
    pub(crate) fn sample(
        &self,
        batch_size: usize,
        lookahead: usize,
        gamma: f64,
        rng: &mut ChaCha8Rng,
    ) -> Option<Batch> {
        if self.len() < batch_size {
            return None;
        }
        let slots: Vec<usize> = (0..batch_size).map(|_| rng.random_range(0..self.len())).collect();
        // Later steps of an episode are overwritten later: what is ahead of a stored step is stored.
        let ahead = |slot: usize| {
            let left = self.columns[column::STEPS_LEFT][slot] as usize;
            let steps = lookahead.min(left + 1);
            let rewards = &self.columns[column::REWARDS];
            let sum = (0..steps)
                .rev()
                .fold(0.0, |sum, step| f64::from(rewards[(slot + step) % self.capacity]) + gamma * sum);
            let last = (slot + steps - 1) % self.capacity;
            let goes_on = f64::from(self.columns[column::CONTINUES][last]);
            (sum as f32, last, gamma.powi(steps as i32) * goes_on)
        };
        let ahead: Vec<(f32, usize, f64)> = slots.iter().map(|&slot| ahead(slot)).collect();
        let gather = |which: usize, slots: &mut dyn Iterator<Item = usize>| -> Vec<f32> {
            let (column, width) = (&self.columns[which], widths(self.widths)[which]);
            slots.flat_map(|slot| &column[slot * width..(slot + 1) * width]).copied().collect()
        };
        let here = |which| gather(which, &mut slots.iter().copied());
        let there = |which| gather(which, &mut ahead.iter().map(|&(_, last, _)| last));
        Some(Batch {
            states: here(column::STATES),
            actions: here(column::ACTIONS),
            masks: here(column::MASKS),
            rewards: ahead.iter().map(|&(reward, ..)| reward).collect(),
            next_states: there(column::NEXT_STATES),
            next_masks: there(column::NEXT_MASKS),
            discounts: ahead.iter().map(|&(.., discount)| discount).collect(),
            returns: here(column::RETURNS),
        })
    }

    /// Whether columns that came from a file belong together, so that no look ahead leaves them.
    pub(crate) fn is_whole(&self) -> bool {
        let len = self.len();
        let lengths = self.columns.iter().zip(widths(self.widths)).all(|(column, w)| column.len() == len * w);
        let cursor = if len < self.capacity { self.cursor == len } else { self.cursor < self.capacity };
        // A full ring goes round; in a part of one, what is left of an episode must lie in front of its end.
        let left = &self.columns[column::STEPS_LEFT];
        let ahead = |(slot, &left): (usize, &f32)| {
            left >= 0.0 && left.fract() == 0.0 && {
                let age = if len < self.capacity { len - slot } else { self.age(slot) };
                (left as usize) < age
            }
        };
        lengths && len <= self.capacity && cursor && left.iter().enumerate().all(ahead)
    }

    /// Transitions from a slot of a full ring to the newest one, both included.
    fn age(&self, slot: usize) -> usize {
        (self.cursor + self.capacity - slot - 1) % self.capacity + 1
    }

    fn check(&self, episode: &[Step<'_>]) -> Result<()> {
        let Some((last, before)) = episode.split_last() else {
            return Err(Error::Episode { len: 0, problem: "holds nothing" });
        };
        let refuse = |problem| Err(Error::Episode { len: episode.len(), problem });
        if episode.len() > self.capacity {
            return refuse("does not fit in the replay buffer");
        }
        if !(last.terminated || last.truncated) {
            return refuse("ends with a transition that is neither terminated nor truncated");
        }
        if before.iter().any(|step| step.terminated || step.truncated) {
            return refuse("goes on after a terminated or truncated transition");
        }
        let Widths { state, action, bounds: [low, high], .. } = self.widths;
        for (index, step) in episode.iter().enumerate() {
            check_vector("state", step.state, state, index, is_finite, "a finite number")?;
            let inside = |value: f32| (low..=high).contains(&value);
            check_vector("action", step.action, action, index, inside, interval([low, high]))?;
            check_vector("next_state", step.next_state, state, index, is_finite, "a finite number")?;
            check_vector("reward", &[step.reward], 1, index, is_finite, "a finite number")?;
        }
        Ok(())
    }
}

/// How an error names the interval of an action. The ends are allowed: a sigmoid in f32 rounds to them, and nothing
/// here divides by the distance.
pub(crate) fn interval(bounds: [f32; 2]) -> &'static str {
    match bounds {
        [0.0, 1.0] => "a number in (0, 1)",
        [-1.0, 1.0] => "a number in (-1, 1)",
        _ => "the index of an action",
    }
}

fn is_finite(value: f32) -> bool {
    value.is_finite()
}

fn check_vector(
    what: &'static str,
    values: &[f32],
    expected: usize,
    step: usize,
    holds: impl Fn(f32) -> bool,
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
#[path = "replay_tests.rs"]
mod tests;
