//! What an agent is told by the shipped view of its session: of whom its node has to know. In a world of few agents; in a large
//! one every agent is told all that is published, which is the same for many.

use crate::view::View;
use std::collections::{BTreeMap, BTreeSet};
use weft_state::interests::Scope;
use weft_types::{Delta, Identity, NodeName, delta::DeltaKey};

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
    pub(crate) fn take(&mut self, Part { is_whole, deltas, .. }: Part) {
        if is_whole {
            self.0.clear();
        }
        for delta in deltas {
            if delta.is_delete() {
                self.0.remove(&delta.key());
            } else {
                self.0.insert(delta.key(), delta);
            }
        }
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

/// Looked for one by one: nodes and policies, its own pods, and whoever has an identity of theirs. No policy of a world names
/// peers.
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
    let knows = |identity| scope == Scope::Everything || own.contains(identity);
    let all = published.deltas().filter(|delta| match delta {
        Delta::WorkloadUpsert(it) => it.node == *node,
        Delta::EndpointUpsert(it) => it.node == *node || knows(&it.identity),
        Delta::IdentityUpsert(number, _) => knows(number),
        _ => true,
    });
    all.map(|delta| (delta.key(), delta)).collect()
}
