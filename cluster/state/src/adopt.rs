//! What the store holds beyond the log: a change that did not come to its end.

use crate::{ClusterState, CommandV1};
use std::collections::BTreeSet;
use weft_types::{Identity, LabelSet, Object, object::ObjectKey};

/// The command that brings a state to what the store holds; none when it is there.
pub fn adoption(
    state: &ClusterState,
    identities: Vec<(Identity, LabelSet)>,
    objects: Vec<Object>,
) -> Option<CommandV1> {
    let kept: BTreeSet<ObjectKey> = objects.iter().map(Object::key).collect();
    let remove: Vec<Object> = state.objects().filter(|o| !kept.contains(&o.key())).collect();
    let (put, remove) = state.effective(&objects, &remove);
    let mut identities = identities;
    identities.retain(|(_, labels)| !state.identities().contains_key(labels));
    let command = CommandV1::Desire { put, remove, identities };
    state.would_change(&command).then_some(command)
}
