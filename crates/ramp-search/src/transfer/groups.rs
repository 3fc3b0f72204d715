//! Policies that differ in nothing but their seed: what a claim about a way of training is made of.

use ramp_eval::MeanInterval;
use serde::Serialize;

use super::TransferRow;
use crate::policy::Policy;

/// Policies of one kind that learnt from the same models, budgets and number of episodes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TransferGroup {
    /// `categorical policies of llama2-xs`, or the name of a policy that is alone.
    pub name: String,
    /// Their places among the policies.
    pub members: Vec<usize>,
    /// KL divergence in nats over the policies.
    pub kld: MeanInterval,
    /// Size of the file in bytes, the mean.
    pub bytes: f64,
    /// Transfer regret over the policies.
    pub regret: MeanInterval,
    /// The same with shuffled features, of each policy the mean over its shuffles; `None` without shuffles.
    pub shuffled_regret: Option<MeanInterval>,
}

/// Groups policies, in the order of their first members. `shuffled` has a row for each policy, or none.
pub(super) fn groups(
    policies: &[(String, &Policy)],
    own: &[TransferRow],
    shuffled: &[TransferRow],
) -> Vec<TransferGroup> {
    let mut members: Vec<Vec<usize>> = Vec::new();
    for at in 0..policies.len() {
        let alike = |other: usize| key(policies[other].1) == key(policies[at].1);
        match members.iter_mut().find(|members| alike(members[0])) {
            Some(group) => group.push(at),
            None => members.push(vec![at]),
        }
    }
    let over = |members: &[usize], rows: &[TransferRow], of: fn(&TransferRow) -> f64| {
        let values: Vec<f64> = members.iter().filter_map(|&at| rows.get(at)).map(of).collect();
        MeanInterval::new(&values)
    };
    members
        .into_iter()
        .filter_map(|members| {
            let policy = policies[members[0]].1;
            let name = match members.as_slice() {
                [only] => policies[*only].0.clone(),
                _ => format!("{} policies of {}", policy.kind().name(), policy.provenance().model),
            };
            Some(TransferGroup {
                name,
                kld: over(&members, own, |row| row.kld)?,
                bytes: over(&members, own, |row| row.bytes)?.mean,
                regret: over(&members, own, |row| row.regret)?,
                shuffled_regret: over(&members, shuffled, |row| row.regret),
                members,
            })
        })
        .collect()
}

/// Everything about a training but its seed.
fn key(policy: &Policy) -> (&'static str, &str, &str, usize) {
    let provenance = policy.provenance();
    (policy.kind().name(), &provenance.model, &provenance.budget, provenance.episodes)
}
