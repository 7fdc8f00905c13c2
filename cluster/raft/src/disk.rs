//! What a member must find again after it ended: its vote, a snapshot of the state, the entries after it.

use crate::{Entry, Group, Index, MemberId, Term};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a member promised: nothing of an older term, and nobody else in this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The newest term it knows.
    pub term: Term,
    /// Whom it voted for in it; 0 is nobody.
    pub voted_for: MemberId,
    /// What it knew to be committed; may be older than what is.
    pub committed: Index,
}

/// The state after an entry, with who was of the group then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSnapshot {
    /// The last entry that it contains.
    pub index: Index,
    /// That entry's term.
    pub term: Term,
    /// The members after that entry.
    pub group: Group,
    /// The encoded state after that entry.
    pub state: Arc<[u8]>,
}

/// Which entries a snapshot stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncate {
    /// Those up to its index: it was made of them.
    UpToIt,
    /// All that there are: it came from a leader, and what is here does not lead to it.
    All,
}

/// What is to be written, all or nothing, before [`crate::Input::Persisted`] is said of its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Counts writes; one that is on the disk has all before it there.
    pub number: u64,
    /// Replaces the vote.
    pub vote: Option<Vote>,
    /// Replaces the snapshot, and entries.
    pub snapshot: Option<(SavedSnapshot, Truncate)>,
    /// Replace what is there from the first one's index on; after the snapshot.
    pub entries: Vec<Entry>,
}

/// What is on a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The vote.
    pub vote: Vote,
    /// The snapshot; of a member that has none yet, index 0.
    pub snapshot: SavedSnapshot,
    /// What follows it, without a gap.
    pub entries: Vec<Entry>,
}

impl Saved {
    /// What every voter of a new group begins with: the state is entry 1, so that who joins later is sent it.
    pub fn founding(group: Group, state: Arc<[u8]>) -> Self {
        Self {
            vote: Vote { term: 1, voted_for: MemberId(0), committed: 1 },
            snapshot: SavedSnapshot { index: 1, term: 1, group, state },
            entries: Vec::new(),
        }
    }

    /// Does to this what a write does to a disk.
    pub fn take(&mut self, write: &Write) {
        if let Some(vote) = write.vote {
            self.vote = vote;
        }
        if let Some((snapshot, truncate)) = &write.snapshot {
            match truncate {
                Truncate::UpToIt => self.entries.retain(|entry| entry.index > snapshot.index),
                Truncate::All => self.entries.clear(),
            }
            self.snapshot = snapshot.clone();
        }
        if let Some(first) = write.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend(write.entries.iter().cloned());
        }
    }

    /// The write that makes an empty disk hold this.
    pub fn as_write(&self) -> Write {
        Write {
            number: 0,
            vote: Some(self.vote),
            snapshot: Some((self.snapshot.clone(), Truncate::All)),
            entries: self.entries.clone(),
        }
    }
}

/// A member's own disk.
pub trait Disk {
    /// Why it did not.
    type Error: std::error::Error;
    /// All of it; none when nothing was ever written.
    fn recover(&self) -> Result<Option<Saved>, Self::Error>;
    /// Writes in their order. What returned without an error is found again after a power failure.
    fn write(&mut self, writes: &[Write]) -> Result<(), Self::Error>;
}
