//! Which number a label set gets next.

use crate::{ClusterState, leadership::Contents};
use std::collections::BTreeMap;
use weft_types::{Identity, IdentitySpace, LabelSet};

/// Numbers in the order in which they are given: upwards, round and round, past those that are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    space: IdentitySpace,
    last: Identity,
}

impl Numbers {
    /// From the beginning.
    pub(super) fn of(space: IdentitySpace) -> Self {
        Self { space, last: Identity(0) }
    }

    /// A number that the state has and the store has not, or for another label set.
    pub(super) fn lacking(
        state: &ClusterState,
        stored: &[(Identity, LabelSet)],
    ) -> Option<Identity> {
        let stored: BTreeMap<Identity, &LabelSet> = stored.iter().map(|(n, l)| (*n, l)).collect();
        let mut known = state.identities().iter();
        let lacking = known.find(|(labels, number)| stored.get(number) != Some(&labels.as_ref()));
        lacking.map(|(_, number)| *number)
    }

    /// After what was given last. Who leads knows what that was when numbers were freed last; what was given since is taken,
    /// all of it. Before any was freed that is all that there is.
    pub(super) fn go_on(&mut self, state: &ClusterState, stored: &Contents) {
        let own = self.space.numbers();
        let highest = stored.identities.iter().map(|(number, _)| *number);
        let highest = highest.filter(|number| own.contains(&number.0)).max();
        self.last = state.given().or(stored.given).or(highest).unwrap_or(Identity(0));
    }

    /// The number that was given last.
    pub(super) fn last(&self) -> Identity {
        self.last
    }

    /// A number for each; none when there are not as many.
    pub(super) fn take(
        &mut self,
        state: &ClusterState,
        sets: impl IntoIterator<Item = LabelSet>,
    ) -> Option<Vec<(Identity, LabelSet)>> {
        let own = self.space.numbers();
        let mut left = own.end() - own.start() + 1;
        let mut next = self.last;
        let mut taken = Vec::new();
        for labels in sets {
            loop {
                left = left.checked_sub(1)?;
                next = self.space.after(next);
                if state.references().get(next).is_none() {
                    break;
                }
            }
            taken.push((next, labels));
        }
        self.last = next;
        Some(taken)
    }
}
