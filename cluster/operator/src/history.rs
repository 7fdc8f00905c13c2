//! What was published last, bounded, and where every session is in it. Pure.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};
use weft_types::{Delta, Revision, TraceContext};
use weft_wire::{
    ToAgent,
    frame::{FrameError, encode},
};

/// An encoded frame, shared by all who are sent it.
pub type Frame = Arc<[u8]>;

/// Bytes of one coalesced message, or of one part of a snapshot, unless a single revision has more.
pub const FRAME: usize = 1 << 20;
/// Deltas in one part of a snapshot, before its bytes are looked at.
const PART: usize = 2000;

#[derive(Debug)]
struct Entry {
    revision: Revision,
    deltas: Vec<Delta>,
    trace: Option<TraceContext>,
    frame: Frame,
}

/// The last revisions, as frames; the oldest go when there are too many bytes of them.
#[derive(Debug)]
pub struct History {
    entries: VecDeque<Entry>,
    bytes: usize,
    limit: usize,
    floor: Revision,
}

/// Where to go on from a revision.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// It is the newest.
    Nothing,
    /// This brings to a later one.
    Push(Frame, Revision),
    /// It is older than everything here.
    Snapshot,
}

/// The whole published state as frames.
#[derive(Debug)]
pub struct Snapshot {
    /// The revision it is of.
    pub revision: Revision,
    /// From [`ToAgent::SnapshotBegin`] to [`ToAgent::SnapshotEnd`].
    pub frames: Vec<Frame>,
}

impl History {
    /// Nothing yet, after a revision.
    pub fn new(floor: Revision, limit: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, limit, floor }
    }

    /// The oldest revision that one can go on from.
    pub fn floor(&self) -> Revision {
        self.floor
    }

    /// The newest revision.
    pub fn newest(&self) -> Revision {
        self.entries.back().map_or(self.floor, |entry| entry.revision)
    }

    /// Bytes of frames that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a revision, the next one.
    pub fn push(&mut self, revision: Revision, deltas: Vec<Delta>, trace: Option<TraceContext>) {
        match message(revision, deltas, trace) {
            Ok((deltas, frame)) => {
                self.bytes += frame.len();
                self.entries.push_back(Entry { revision, deltas, trace, frame });
            }
            // More than one message can hold: whoever is not there yet gets a snapshot, which has parts.
            Err(_) => {
                self.entries.clear();
                self.bytes = 0;
                self.floor = revision;
            }
        }
        while self.bytes > self.limit {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= oldest.frame.len();
            self.floor = oldest.revision;
        }
    }

    /// What caused a revision that is still here.
    pub fn cause(&self, revision: Revision) -> Option<TraceContext> {
        let at = self.entries.binary_search_by_key(&revision, |entry| entry.revision).ok()?;
        self.entries.get(at)?.trace
    }

    /// What follows a revision: the next one, or several of them with only the last of each key.
    pub fn after(&self, held: Revision) -> Next {
        if held == self.newest() {
            return Next::Nothing;
        }
        if held < self.floor || held > self.newest() {
            return Next::Snapshot;
        }
        let from = self.entries.partition_point(|entry| entry.revision <= held);
        let mut bytes = 0;
        let mut run: Vec<&Entry> = Vec::new();
        for entry in self.entries.range(from..) {
            bytes += entry.frame.len();
            if bytes > FRAME && !run.is_empty() {
                break;
            }
            run.push(entry);
        }
        match run.as_slice() {
            [] => Next::Nothing,
            [entry] => Next::Push(Arc::clone(&entry.frame), entry.revision),
            [.., last] => match message(last.revision, coalesce(&run), last.trace) {
                Ok((_, frame)) => Next::Push(frame, last.revision),
                Err(_) => Next::Snapshot,
            },
        }
    }
}

/// The last delta of each key, in the order of those.
fn coalesce(run: &[&Entry]) -> Vec<Delta> {
    let mut seen = BTreeSet::new();
    let newest_first = run.iter().rev().flat_map(|entry| entry.deltas.iter().rev());
    let mut deltas: Vec<Delta> =
        newest_first.filter(|delta| seen.insert(delta.key())).cloned().collect();
    deltas.reverse();
    deltas
}

fn message(
    revision: Revision,
    deltas: Vec<Delta>,
    trace: Option<TraceContext>,
) -> Result<(Vec<Delta>, Frame), FrameError> {
    let message = ToAgent::Deltas { revision, deltas, trace };
    let frame = encode(&message)?.into();
    match message {
        ToAgent::Deltas { deltas, .. } => Ok((deltas, frame)),
        _ => Ok((Vec::new(), frame)),
    }
}

impl Snapshot {
    /// Of these deltas, in parts of at most [`FRAME`] bytes where a delta is not longer itself.
    pub fn new(
        revision: Revision,
        deltas: impl Iterator<Item = Delta>,
    ) -> Result<Self, FrameError> {
        let mut frames = vec![encode(&ToAgent::SnapshotBegin)?.into()];
        let mut deltas = deltas.peekable();
        while deltas.peek().is_some() {
            part(revision, deltas.by_ref().take(PART).collect(), &mut frames)?;
        }
        frames.push(encode(&ToAgent::SnapshotEnd { revision })?.into());
        Ok(Self { revision, frames })
    }
}

fn part(revision: Revision, deltas: Vec<Delta>, frames: &mut Vec<Frame>) -> Result<(), FrameError> {
    let message = ToAgent::Deltas { revision, deltas, trace: None };
    let frame = encode(&message);
    match message {
        ToAgent::Deltas { mut deltas, .. }
            if deltas.len() > 1 && frame.as_ref().map_or(usize::MAX, Vec::len) > FRAME =>
        {
            let rest = deltas.split_off(deltas.len() / 2);
            part(revision, deltas, frames)?;
            part(revision, rest, frames)
        }
        _ => {
            frames.push(frame?.into());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use weft_types::{Identity, Label, LabelSet, Source, delta::DeltaKey};
    use weft_wire::{WIRE_VERSION, frame::decode};

    const R: fn(u64) -> Revision = |index| Revision::new(1, index);

    fn identity(number: u32, bytes: usize) -> Delta {
        let value = "x".repeat(bytes);
        let label = Label { source: Source::K8s, key: "app".to_owned(), value };
        Delta::IdentityUpsert(Identity(number), LabelSet::from_iter([label]))
    }

    fn deltas(frame: &[u8]) -> Vec<Delta> {
        match decode(WIRE_VERSION, &frame[6..]).expect("a message") {
            ToAgent::Deltas { deltas, .. } => deltas,
            _ => Vec::new(),
        }
    }

    /// Where an agent gets from a revision, and in how many pushes.
    fn follow(history: &History, mut held: Revision) -> (BTreeMap<DeltaKey, Delta>, usize) {
        let (mut holds, mut pushes) = (BTreeMap::new(), 0);
        loop {
            match history.after(held) {
                Next::Nothing => return (holds, pushes),
                Next::Push(frame, revision) => {
                    assert!(revision > held && frame.len() <= FRAME);
                    deltas(&frame).into_iter().for_each(|d| drop(holds.insert(d.key(), d)));
                    (held, pushes) = (revision, pushes + 1);
                }
                Next::Snapshot => panic!("it can go on"),
            }
        }
    }

    #[test]
    fn one_who_is_behind_gets_the_last_of_each_key_in_few_messages() {
        let mut history = History::new(R(0), 64 << 20);
        for index in 1..=1000 {
            let number = 256 + u32::try_from(index % 10).expect("small");
            let size = 10 + usize::try_from(index).expect("small");
            history.push(R(index), vec![identity(number, size)], None);
        }
        let (holds, pushes) = follow(&history, R(0));
        assert_eq!((holds.len(), pushes), (10, 1));
        let newest: BTreeMap<DeltaKey, Delta> = (991..=1000)
            .map(|index| identity(256 + index % 10, 10 + index as usize))
            .map(|delta| (delta.key(), delta))
            .collect();
        assert_eq!(holds, newest);
        // One who is nearly there gets the very frame that others got.
        let (Next::Push(a, _), Next::Push(b, _)) = (history.after(R(999)), history.after(R(999)))
        else {
            panic!("one follows")
        };
        assert!(Arc::ptr_eq(&a, &b));
        assert_eq!(history.after(R(1000)), Next::Nothing);
    }

    #[test]
    fn a_long_way_is_gone_in_frames_of_bounded_size() {
        let mut history = History::new(R(0), 64 << 20);
        (1..=50).for_each(|index| {
            let number = 256 + u32::try_from(index).expect("small");
            history.push(R(index), vec![identity(number, 100_000)], None);
        });
        let (holds, pushes) = follow(&history, R(0));
        assert_eq!(holds.len(), 50);
        assert!((5..=6).contains(&pushes), "{pushes}");
    }

    #[test]
    fn its_bytes_are_bounded_and_who_is_older_gets_a_snapshot() {
        let mut history = History::new(R(0), 1 << 20);
        for index in 1..=50 {
            history.push(R(index), vec![identity(256, 100_000)], None);
            assert!(history.bytes() <= 1 << 20);
        }
        assert!(history.floor() > R(35) && history.floor() < R(45), "{:?}", history.floor());
        assert_eq!(history.after(R(3)), Next::Snapshot);
        assert_eq!(history.after(Revision::new(0, 45)), Next::Snapshot, "another generation");
        assert_eq!(history.after(R(51)), Next::Snapshot, "never there");
        assert_eq!(follow(&history, history.floor()).0.len(), 1);
    }

    #[test]
    fn a_revision_that_no_message_can_hold_is_sent_as_a_snapshot() {
        let mut history = History::new(R(0), 64 << 20);
        history.push(R(1), vec![identity(256, 10)], None);
        let many = (0..20).map(|number| identity(256 + number, 1 << 20));
        history.push(R(2), many.collect(), None);
        assert_eq!((history.newest(), history.floor()), (R(2), R(2)));
        assert_eq!(history.after(R(1)), Next::Snapshot);
        history.push(R(3), vec![], None);
        assert_eq!(follow(&history, R(2)).1, 1, "an empty revision is pushed too");
    }

    #[test]
    fn a_snapshot_comes_in_parts() {
        let all: Vec<Delta> = (0..5000).map(|number| identity(256 + number, 2000)).collect();
        let snapshot = Snapshot::new(R(7), all.clone().into_iter()).expect("short parts");
        assert!(snapshot.frames.iter().all(|frame| frame.len() <= FRAME));
        assert!(snapshot.frames.len() > 10);
        let parts = &snapshot.frames[1..snapshot.frames.len() - 1];
        let told: Vec<Delta> = parts.iter().flat_map(|frame| deltas(frame)).collect();
        assert_eq!(told, all);
        assert_eq!(Snapshot::new(R(7), std::iter::empty()).expect("short").frames.len(), 2);
    }
}
