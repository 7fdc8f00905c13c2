//! How a snapshot travels: in parts, each sent when the one before was taken, so that neither side holds more than it must.

use crate::{Chunk, MemberId, SavedSnapshot, Term};
use std::collections::BTreeMap;

/// Times that a part is sent again before the transfer is given up.
const ATTEMPTS: u8 = 4;

/// A transfer to one member.
struct Sending {
    snapshot: SavedSnapshot,
    leader_term: Term,
    offset: usize,
    ticks: u16,
    attempts: u8,
}

/// A transfer from a leader.
struct Receiving {
    from: MemberId,
    snapshot: SavedSnapshot,
    total: u64,
    bytes: Vec<u8>,
}

/// Both ways.
#[derive(Default)]
pub(crate) struct Snapshots {
    sending: BTreeMap<MemberId, Sending>,
    receiving: Option<Receiving>,
    /// Whole, and not yet given to consensus or by it.
    arrived: Option<SavedSnapshot>,
}

/// What became of a part.
pub(crate) enum Taken {
    /// More is to come: so many bytes are there.
    Until(u64),
    /// All is there.
    Whole(SavedSnapshot),
    /// Not of a transfer that goes on here.
    Ignored,
}

impl Snapshots {
    /// Begins a transfer; the first part.
    pub(crate) fn send(
        &mut self,
        to: MemberId,
        snapshot: SavedSnapshot,
        leader_term: Term,
        size: usize,
    ) -> Chunk {
        let sending = Sending { snapshot, leader_term, offset: 0, ticks: 0, attempts: 0 };
        let chunk = sending.chunk(size);
        self.sending.insert(to, sending);
        chunk
    }

    /// A part was taken: the next one, or none when all was.
    pub(crate) fn taken(
        &mut self,
        by: MemberId,
        index: u64,
        offset: u64,
        size: usize,
    ) -> Option<Option<Chunk>> {
        let sending = self.sending.get_mut(&by).filter(|s| s.snapshot.index == index)?;
        let offset = usize::try_from(offset).ok()?;
        if offset >= sending.snapshot.state.len() {
            self.sending.remove(&by);
            return Some(None);
        }
        // An answer that came late.
        if offset <= sending.offset {
            return None;
        }
        (sending.offset, sending.ticks, sending.attempts) = (offset, 0, 0);
        Some(Some(sending.chunk(size)))
    }

    /// Time passes: parts to send again, and members that are given up.
    pub(crate) fn tick(
        &mut self,
        patience: u16,
        size: usize,
    ) -> (Vec<(MemberId, Chunk)>, Vec<MemberId>) {
        let (mut again, mut over) = (Vec::new(), Vec::new());
        for (to, sending) in &mut self.sending {
            sending.ticks += 1;
            if sending.ticks < patience {
                continue;
            }
            (sending.ticks, sending.attempts) = (0, sending.attempts + 1);
            match sending.attempts {
                ATTEMPTS.. => over.push(*to),
                _ => again.push((*to, sending.chunk(size))),
            }
        }
        over.iter().for_each(|to| drop(self.sending.remove(to)));
        (again, over)
    }

    /// Whether a transfer to anybody goes on.
    pub(crate) fn is_sending(&self) -> bool {
        !self.sending.is_empty()
    }

    /// This member leads no more: whom it was sending to.
    pub(crate) fn stop_sending(&mut self) {
        self.sending.clear();
    }

    /// A part came.
    pub(crate) fn receive(&mut self, from: MemberId, chunk: Chunk) -> Taken {
        let Chunk { index, term, group, total, offset, bytes, .. } = chunk;
        let is_it = |r: &&mut Receiving| {
            (r.from, r.snapshot.index, r.snapshot.term, r.total) == (from, index, term, total)
        };
        // One that begins again finds what is there already.
        if offset == 0 && self.receiving.as_mut().filter(is_it).is_none() {
            let snapshot = SavedSnapshot { index, term, group, state: [].into() };
            self.receiving = Some(Receiving { from, snapshot, total, bytes: Vec::new() });
        }
        let Some(receiving) = self.receiving.as_mut().filter(is_it) else {
            return Taken::Ignored;
        };
        if offset == receiving.bytes.len() as u64 {
            receiving.bytes.extend(bytes);
        }
        let there = receiving.bytes.len() as u64;
        if there < total {
            return Taken::Until(there);
        }
        match self.receiving.take() {
            Some(Receiving { mut snapshot, bytes, .. }) => {
                snapshot.state = bytes.into();
                self.arrived = Some(snapshot.clone());
                Taken::Whole(snapshot)
            }
            None => Taken::Ignored,
        }
    }

    /// The bytes of the snapshot that consensus took.
    pub(crate) fn arrived(&mut self, index: u64, term: Term) -> Option<SavedSnapshot> {
        self.arrived.take().filter(|s| (s.index, s.term) == (index, term))
    }
}

impl Sending {
    fn chunk(&self, size: usize) -> Chunk {
        let SavedSnapshot { index, term, group, state } = &self.snapshot;
        let end = self.offset.saturating_add(size.max(1)).min(state.len());
        Chunk {
            leader_term: self.leader_term,
            index: *index,
            term: *term,
            group: group.clone(),
            total: state.len() as u64,
            offset: self.offset as u64,
            bytes: state.get(self.offset..end).unwrap_or_default().to_vec(),
        }
    }
}
