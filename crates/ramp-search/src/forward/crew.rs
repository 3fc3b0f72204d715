//! Devices that share the parts of a text: which has which, and what happens when one is lost.
//!
//! The first device works on the thread of the caller. Each other one has a thread of its own for as long as the crew
//! exists: what is queued on a GPU is kept in order by thread, so that a thread for each call would be a new queue for each
//! call. A device that gives an error or panics, or gives nothing for too long, is lost: its parts go to the others, for good.

use std::{
    fmt,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use super::{
    guard::guarded,
    lane::{Done, Order},
};
use crate::error::{Error, Result};

/// How long a device may be silent at least: a first pass on a cold GPU compiles and tunes.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// How many times as long as the slowest work so far.
const SLOWEST: u32 = 20;

/// What runs parts on one device.
pub(crate) trait Worker: fmt::Debug {
    /// Runs the parts of an order one by one, up to the first error.
    fn run(&mut self, order: &Order) -> Vec<Done>;

    /// Whether the device is this process itself, whose panics are bugs.
    fn is_host(&self) -> bool;
}

/// A device that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostDevice {
    /// Its name.
    pub name: String,
    /// What it said.
    pub why: String,
}

impl fmt::Display for LostDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {} was lost: {}", self.name, self.why)
    }
}

/// Devices with the parts that they have.
#[derive(Debug)]
pub(crate) struct Crew<'a> {
    members: Vec<Member<'a>>,
    /// The member that has each part.
    owners: Vec<usize>,
    /// Tokens of each part.
    sizes: Vec<usize>,
    /// The longest that any work took.
    slowest: Duration,
    patience: Duration,
}

#[derive(Debug)]
struct Member<'a> {
    name: String,
    /// `None` when it is lost.
    hands: Option<Hands<'a>>,
    why: String,
}

#[derive(Debug)]
enum Hands<'a> {
    /// The caller's thread.
    Own(Box<dyn Worker + Send + 'a>),
    Thread {
        orders: Sender<Order>,
        done: Receiver<Result<Vec<Done>, String>>,
    },
}

impl<'a> Crew<'a> {
    /// A crew of one, whose parts have these sizes.
    pub(crate) fn new(name: String, first: Box<dyn Worker + Send + 'a>, sizes: Vec<usize>) -> Self {
        let first = Member { name, hands: Some(Hands::Own(first)), why: String::new() };
        let owners = vec![0; sizes.len()];
        Self { members: vec![first], owners, sizes, slowest: Duration::ZERO, patience: PATIENCE }
    }

    /// With one more device. Parts are shared out anew, the largest first.
    pub(crate) fn with(mut self, name: String, worker: Box<dyn Worker + Send>) -> Self {
        self.members.push(Member { name, hands: Some(hire(worker)), why: String::new() });
        let mut parts: Vec<usize> = (0..self.sizes.len()).collect();
        parts.sort_by_key(|&part| std::cmp::Reverse(self.sizes[part]));
        self.owners.fill(usize::MAX);
        for part in parts {
            self.owners[part] = self.least_loaded().unwrap_or_default();
        }
        self
    }

    #[cfg(test)]
    pub(crate) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The member that has a part.
    pub(crate) fn owner(&self, part: usize) -> usize {
        self.owners[part]
    }

    /// The devices that failed.
    pub(crate) fn lost(&self) -> Vec<LostDevice> {
        let lost = self.members.iter().filter(|member| member.hands.is_none());
        lost.map(|member| LostDevice { name: member.name.clone(), why: member.why.clone() }).collect()
    }

    /// Has parts run by the devices that have them. What comes back, with the device that did it, is in the order of the
    /// parts and ends behind the first error. `order` makes the order for a device and some of the parts.
    pub(crate) fn run(
        &mut self,
        parts: &[usize],
        order: impl Fn(usize, &[usize]) -> Order,
    ) -> Vec<(usize, Done)> {
        let mut results: Vec<Option<(usize, Done)>> = parts.iter().map(|_| None).collect();
        loop {
            // Nothing behind an error is needed.
            let end = results
                .iter()
                .position(|result| matches!(result, Some((_, done)) if done.losses.is_err()))
                .unwrap_or(results.len());
            let missing: Vec<usize> = (0..end).filter(|&at| results[at].is_none()).collect();
            if missing.is_empty() {
                return results.into_iter().map_while(|result| result).take(end + 1).collect();
            }
            let begun = Instant::now();
            let shares: Vec<(usize, Vec<usize>)> = (0..self.members.len())
                .map(|member| {
                    let own = missing.iter().copied().filter(|&at| self.owners[parts[at]] == member);
                    (member, own.collect())
                })
                .filter(|(_, own): &(usize, Vec<usize>)| !own.is_empty())
                .collect();
            let orders = |member: usize, own: &[usize]| {
                let own: Vec<usize> = own.iter().map(|&at| parts[at]).collect();
                order(member, &own)
            };
            // The others are told first, so that they work while this thread does.
            let mut lost = Vec::new();
            for (member, own) in &shares {
                if let Some(Hands::Thread { orders: sender, .. }) = &self.members[*member].hands
                    && sender.send(orders(*member, own)).is_err()
                {
                    lost.push((*member, "its thread has ended".to_owned()));
                }
            }
            for (member, own) in &shares {
                let outcome = match &mut self.members[*member].hands {
                    Some(Hands::Own(worker)) => Some(work(worker.as_mut(), &orders(*member, own))),
                    _ => None,
                };
                self.collect(*member, own, outcome, begun, &mut results, &mut lost);
            }
            for (member, why) in lost {
                if let Err(error) = self.lose(member, why) {
                    let at = missing.iter().copied().find(|&at| results[at].is_none()).unwrap_or_default();
                    results[at] = Some((member, Done { losses: Err(error), reference: None }));
                    results.truncate(at + 1);
                    break;
                }
            }
        }
    }

    /// Takes what a device did, or notes why it is lost.
    fn collect(
        &mut self,
        member: usize,
        own: &[usize],
        outcome: Option<Result<Vec<Done>, String>>,
        begun: Instant,
        results: &mut [Option<(usize, Done)>],
        lost: &mut Vec<(usize, String)>,
    ) {
        if lost.iter().any(|(other, _)| *other == member) {
            return;
        }
        let patience = self.patience.max(self.slowest * SLOWEST).saturating_sub(begun.elapsed());
        let outcome = match (outcome, &self.members[member].hands) {
            (Some(outcome), _) => outcome,
            (None, Some(Hands::Thread { done, .. })) => match done.recv_timeout(patience) {
                Ok(outcome) => outcome,
                Err(RecvTimeoutError::Timeout) => {
                    Err(format!("it gave nothing for {:.0} s", begun.elapsed().as_secs_f64()))
                }
                Err(RecvTimeoutError::Disconnected) => Err("its thread has ended".into()),
            },
            (None, _) => Err("it is lost".into()),
        };
        self.slowest = self.slowest.max(begun.elapsed());
        match outcome {
            Ok(done) => {
                for (&at, done) in own.iter().zip(done) {
                    match done.losses {
                        Err(error) if error.is_device() => lost.push((member, error.to_string())),
                        losses => results[at] = Some((member, Done { losses, ..done })),
                    }
                }
            }
            Err(why) => lost.push((member, why)),
        }
    }

    /// Gives the parts of a device to the others.
    fn lose(&mut self, member: usize, why: String) -> Result<()> {
        let name = self.members[member].name.clone();
        self.members[member].hands = None;
        self.members[member].why.clone_from(&why);
        let mut parts: Vec<usize> =
            (0..self.owners.len()).filter(|&part| self.owners[part] == member).collect();
        parts.sort_by_key(|&part| std::cmp::Reverse(self.sizes[part]));
        parts.iter().for_each(|&part| self.owners[part] = usize::MAX);
        for part in parts {
            let Some(heir) = self.least_loaded() else {
                self.owners.fill(member);
                return Err(Error::DevicesLost { name, why });
            };
            self.owners[part] = heir;
        }
        tracing::warn!(device = name, why, "a device was lost; the others evaluate its parts");
        Ok(())
    }

    /// The living member with the fewest tokens.
    fn least_loaded(&self) -> Option<usize> {
        let load = |member: usize| -> usize {
            let own = (0..self.owners.len()).filter(|&part| self.owners[part] == member);
            own.map(|part| self.sizes[part]).sum()
        };
        let living = (0..self.members.len()).filter(|&member| self.members[member].hands.is_some());
        living.min_by_key(|&member| load(member))
    }
}

/// A thread for a device. It ends when the crew does, or with its device.
fn hire<'a>(mut worker: Box<dyn Worker + Send>) -> Hands<'a> {
    let (orders, receiver) = channel::<Order>();
    let (sender, done) = channel();
    // A process that has no threads left has orders that nobody takes: the device is lost.
    let _ = thread::Builder::new().name("ramp-device".into()).spawn(move || {
        while let Ok(order) = receiver.recv() {
            let outcome = work(worker.as_mut(), &order);
            if sender.send(outcome).is_err() {
                break;
            }
        }
    });
    Hands::Thread { orders, done }
}

fn work(worker: &mut dyn Worker, order: &Order) -> Result<Vec<Done>, String> {
    if worker.is_host() { Ok(worker.run(order)) } else { guarded(|| worker.run(order)) }
}
