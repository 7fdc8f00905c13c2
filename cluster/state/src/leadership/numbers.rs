//! Which number a label set gets next.

use crate::ClusterState;
use std::collections::BTreeMap;
use weft_types::{Identity, LabelSet};

/// The numbers that are free, as the store's contents say.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    next: u32,
}

impl Numbers {
    /// A number that the state has and the store has not, or for another label set.
    pub(super) fn lacking(
        state: &ClusterState,
        stored: &[(Identity, LabelSet)],
    ) -> Option<Identity> {
        let stored: BTreeMap<Identity, &LabelSet> = stored.iter().map(|(n, l)| (*n, l)).collect();
        let lacking =
            |(labels, number): &(&LabelSet, &Identity)| stored.get(number) != Some(labels);
        state.identities().iter().find(lacking).map(|(_, number)| *number)
    }

    /// After everything that the store holds.
    pub(super) fn after(stored: &[(Identity, LabelSet)]) -> Self {
        let highest = stored.iter().map(|(number, _)| number.0.saturating_add(1)).max();
        Self { next: highest.unwrap_or(0).max(Identity::CLUSTER_MIN) }
    }

    /// A number for each; none when there are not as many.
    pub(super) fn take(
        &mut self,
        sets: impl IntoIterator<Item = LabelSet>,
    ) -> Option<Vec<(Identity, LabelSet)>> {
        let mut next = self.next;
        let mut taken = Vec::new();
        for labels in sets {
            if next > Identity::CLUSTER_MAX {
                return None;
            }
            taken.push((Identity(next), labels));
            next += 1;
        }
        self.next = next;
        Some(taken)
    }
}
