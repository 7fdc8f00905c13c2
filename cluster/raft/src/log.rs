//! The log in memory: what the disk has after its snapshot, and a little before it.
//!
//! Consensus reads it in the midst of a step, so it does not wait for a disk; the disk is only written. Compaction bounds it.

use crate::{
    Group, Index, MemberId, NodeError, Saved, SavedSnapshot, Term,
    convert::{conf_state, hard_state, to_raft},
};
use raft::{
    Error, GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{Entry, Snapshot},
    util::limit_size,
};
use std::{cell::Cell, sync::Arc};

/// The log as consensus reads it.
pub(crate) struct Log {
    initial: RaftState,
    /// The entry before the first one here.
    base: (Index, Term),
    entries: Vec<Entry>,
    /// Of the newest snapshot: where, and who was of the group then.
    snapshot: (Index, Term, Group),
    /// Its bytes, while somebody may need them.
    state: Option<Arc<[u8]>>,
    wanted: Cell<bool>,
}

impl Log {
    pub(crate) fn new(saved: Saved) -> Result<Self, NodeError> {
        let Saved { mut vote, snapshot, entries } = saved;
        vote.committed = vote.committed.max(snapshot.index);
        let entries = entries.into_iter().map(to_raft).collect::<Result<Vec<_>, _>>()?;
        let follows = entries.iter().zip(snapshot.index + 1..).all(|(e, index)| e.index == index);
        let end = snapshot.index + entries.len() as u64;
        if !follows || vote.committed > end {
            return Err(NodeError::Gap { end, committed: vote.committed });
        }
        let conf_state = conf_state(&snapshot.group);
        Ok(Self {
            initial: RaftState { hard_state: hard_state(vote), conf_state },
            base: (snapshot.index, snapshot.term),
            entries,
            snapshot: (snapshot.index, snapshot.term, snapshot.group),
            state: None,
            wanted: Cell::new(false),
        })
    }

    /// The last entry.
    pub(crate) fn end(&self) -> Index {
        self.base.0 + self.entries.len() as u64
    }

    /// Adds entries in the place of what is there from the first one's index on.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        if let Some(first) = entries.first() {
            let kept = first.index.saturating_sub(self.base.0 + 1);
            self.entries.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
            self.entries.extend_from_slice(entries);
        }
    }

    /// A leader's snapshot, in the place of everything.
    pub(crate) fn restore(&mut self, snapshot: &SavedSnapshot) {
        self.entries.clear();
        self.base = (snapshot.index, snapshot.term);
        self.snapshot = (snapshot.index, snapshot.term, snapshot.group.clone());
        self.state = None;
    }

    /// A snapshot of what was applied; so many entries before it are kept.
    pub(crate) fn compact(&mut self, snapshot: &SavedSnapshot, kept: u64) {
        let forget = snapshot.index.saturating_sub(kept);
        if let Some(term) = self.term_at(forget).filter(|_| forget > self.base.0) {
            let gone = usize::try_from(forget - self.base.0).unwrap_or(usize::MAX);
            self.entries.drain(..gone.min(self.entries.len()));
            self.base = (forget, term);
        }
        self.snapshot = (snapshot.index, snapshot.term, snapshot.group.clone());
        self.state = Some(Arc::clone(&snapshot.state));
        self.wanted.set(false);
    }

    /// The newest snapshot, while its bytes are here.
    pub(crate) fn snapshot_bytes(&self) -> Option<SavedSnapshot> {
        let (index, term, group) = self.snapshot.clone();
        Some(SavedSnapshot { index, term, group, state: Arc::clone(self.state.as_ref()?) })
    }

    /// Nobody needs the bytes now.
    pub(crate) fn forget_bytes(&mut self) {
        self.state = None;
    }

    /// Whether consensus asked for a snapshot that is not here.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.get()
    }

    pub(crate) fn snapshot_index(&self) -> Index {
        self.snapshot.0
    }

    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        let at = usize::try_from(index.checked_sub(self.base.0 + 1)?).ok()?;
        self.entries.get(at).map(|entry| entry.term)
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let at = |index: Index| {
            let place = index.checked_sub(self.base.0 + 1);
            place.ok_or(Error::Store(StorageError::Compacted))
        };
        let unavailable = Error::Store(StorageError::Unavailable);
        let (Ok(from), Ok(to)) = (usize::try_from(at(low)?), usize::try_from(at(high)?)) else {
            return Err(unavailable);
        };
        let mut entries = self.entries.get(from..to).ok_or(unavailable)?.to_vec();
        limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let missing = match index < self.base.0 {
            true => StorageError::Compacted,
            false => StorageError::Unavailable,
        };
        self.term_at(index).ok_or(Error::Store(missing))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.end())
    }

    /// Where it is and who is of it; the bytes travel beside. Nobody takes one that he is not of.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let (index, term, group) = &self.snapshot;
        let knows = group.members.contains_key(&MemberId(to));
        if self.state.is_none() || !knows || *index < request_index || *index < self.base.0 {
            self.wanted.set(true);
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = *index;
        metadata.term = *term;
        metadata.set_conf_state(conf_state(group));
        Ok(snapshot)
    }
}
