//! What operators write to the durable store.

use crate::{Identity, IdentitySpace, LabelSet, Object, object::ObjectKey};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is fixed when a cluster is founded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name, a label of every identity.
    pub name: String,
    /// Its numbers.
    pub space: IdentitySpace,
}

impl<T: Into<String>> From<T> for Cluster {
    /// With the numbers of one that has no others beside it.
    fn from(name: T) -> Self {
        Self { name: name.into(), space: IdentitySpace::default() }
    }
}

/// Who may write: whoever writes compares it, so a deposed leader is harmless, and so is what a leader sent and gave up.
/// It goes up with every write, so a store whose fence is behind one that was seen is an older copy of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fence {
    /// Which life of the cluster this is, from 1; a group that is founded anew from the store has the next.
    pub generation: u16,
    /// Which leader, from 1.
    pub term: u64,
    /// Goes up when a leader does not know what became of a write: what is still under way can then not arrive later.
    pub round: u32,
    /// How many writes were done in this round.
    pub writes: u64,
}

impl Fence {
    /// What it is after one more write.
    #[must_use]
    pub const fn after_a_write(self) -> Self {
        Self { writes: self.writes.saturating_add(1), ..self }
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, term, round, writes } = self;
        write!(f, "generation {generation}, term {term}, round {round}, write {writes}")
    }
}

/// What one transaction changes, all or nothing. Writing it twice is writing it once. What it removes goes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Numbers that stand for nothing any more.
    pub forget: Vec<Identity>,
    /// The number that was given last; written with what is forgotten, which is not given again before those after it.
    pub given: Option<Identity>,
    /// Numbers for label sets; one that stands for another label set already is an error.
    pub identities: Vec<(Identity, LabelSet)>,
    /// Objects to add or replace.
    pub put: Vec<Object>,
    /// Objects to remove.
    pub remove: Vec<ObjectKey>,
}
