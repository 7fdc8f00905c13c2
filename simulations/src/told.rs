//! What an agent is told by the shipped view of its session: of whom its node has to know. In a world of few agents; in a large
//! one every agent is told all that is published, which is the same for many.

use crate::{book::peers, view::View};
use std::collections::{BTreeMap, BTreeSet};
use weft_state::interests::Scope;
use weft_types::{Delta, Identity, NodeName, Policy, Selector, delta::DeltaKey};

/// So many are few.
pub(crate) const FEW: usize = 32;

/// What one agent is told.
pub(crate) struct Part {
    /// Of whom.
    pub(crate) scope: Scope,
    /// Whether it is all, and not what changed.
    pub(crate) is_whole: bool,
    pub(crate) deltas: Vec<Delta>,
}

/// What an agent was told so far.
#[derive(Default)]
pub(crate) struct Kept(BTreeMap<DeltaKey, Delta>);

impl Kept {
    /// What changes by that: all that there is becomes a difference, as in `actors/agent/src/published.rs`.
    pub(crate) fn take(&mut self, Part { is_whole, deltas, .. }: Part) -> Vec<Delta> {
        if !is_whole {
            for delta in &deltas {
                if delta.is_delete() {
                    self.0.remove(&delta.key());
                } else {
                    self.0.insert(delta.key(), delta.clone());
                }
            }
            return deltas;
        }
        let deltas: BTreeMap<DeltaKey, Delta> =
            deltas.into_iter().map(|delta| (delta.key(), delta)).collect();
        let before = std::mem::replace(&mut self.0, deltas);
        let gone = before.iter().filter(|(key, _)| !self.0.contains_key(*key));
        let new = self.0.iter().filter(|(key, delta)| before.get(*key) != Some(*delta));
        gone.map(|(_, was)| was.deletion()).chain(new.map(|(_, is)| is.clone())).collect()
    }

    /// All of it.
    pub(crate) fn deltas(&self) -> impl Iterator<Item = &Delta> {
        self.0.values()
    }

    /// The identities that it was told of.
    pub(crate) fn identities(&self) -> BTreeSet<Identity> {
        let identity = |key: &DeltaKey| match key {
            DeltaKey::Identity(number) => Some(*number),
            _ => None,
        };
        self.0.keys().filter_map(identity).collect()
    }

    /// What of all that is published a node does not know as it should, or knows and should not.
    pub(crate) fn differs(
        &self,
        published: &View,
        node: &NodeName,
        scope: Scope,
    ) -> Option<DeltaKey> {
        let has_to = has_to_know(published, node, scope);
        let lacks = has_to.iter().find(|(key, delta)| self.0.get(*key) != Some(*delta));
        let more = self.0.keys().find(|key| !has_to.contains_key(*key));
        lacks.map(|(key, _)| key).or(more).cloned()
    }
}

/// Looked for one by one: nodes and policies, its own pods, and whoever has an identity of theirs, or one that a policy about
/// them names.
fn has_to_know<'a>(
    published: &'a View,
    node: &NodeName,
    scope: Scope,
) -> BTreeMap<DeltaKey, &'a Delta> {
    let own = |delta: &Delta| match delta {
        Delta::WorkloadUpsert(it) if it.node == *node => Some(it.identity),
        Delta::EndpointUpsert(it) if it.node == *node => Some(it.identity),
        _ => None,
    };
    let own: BTreeSet<Identity> = published.deltas().filter_map(own).collect();
    let is_about = |policy: &Policy| {
        let mut labels = own.iter().filter_map(|number| published.labels(*number));
        labels.any(|labels| policy.subject.matches(labels))
    };
    let policies = published.deltas().filter_map(|delta| match delta {
        Delta::PolicyUpsert(policy) if is_about(policy) => Some(policy),
        _ => None,
    });
    let named: Vec<&Selector> = policies.flat_map(peers).collect();
    let is_named = |identity: &Identity| {
        let labels = published.labels(*identity);
        labels.is_some_and(|labels| named.iter().any(|selector| selector.matches(labels)))
    };
    let knows = |identity: &Identity| {
        scope == Scope::Everything || own.contains(identity) || is_named(identity)
    };
    let all = published.deltas().filter(|delta| match delta {
        Delta::WorkloadUpsert(it) => it.node == *node,
        Delta::EndpointUpsert(it) => it.node == *node || knows(&it.identity),
        Delta::IdentityUpsert(number, _) => knows(number),
        _ => true,
    });
    all.map(|delta| (delta.key(), delta)).collect()
}
