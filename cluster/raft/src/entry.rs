//! Entries of the log, as disks and peers have them.

use crate::{Change, Index, MemberId, Term};
use serde::{Deserialize, Serialize};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place.
    pub index: Index,
    /// The leader that put it there.
    pub term: Term,
    /// What it is.
    pub body: Body,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// A leader's first, which commits what was before it.
    Noop,
    /// A command of the replicated state, encoded by the proposer.
    Command(Origin, #[serde(with = "serde_bytes")] Vec<u8>),
    /// A change of the group.
    Change(Origin, Change),
}

/// Whose an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The member that proposed it.
    pub member: MemberId,
    /// Which of that member's countings: greater in each of its lives.
    pub life: u64,
    /// Counts its proposals of one term, from 1.
    pub sequence: u64,
}
