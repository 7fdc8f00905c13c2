//! What was published last, bounded, and where every session is in it. Pure.

use std::{collections::VecDeque, sync::Arc};
use weft_state::interests::{Change, coalesce};
use weft_types::{Delta, Revision, TraceContext, codec};
use weft_wire::{
    ToAgent,
    frame::{FrameError, encode},
};

/// An encoded frame, shared by all who are sent it.
pub type Frame = Arc<[u8]>;

/// Bytes of a message of changes: more than that would be too much at once for both sides.
pub const PUSH_MAX: usize = 8 << 20;
/// Bytes of a part of a snapshot where a single delta has no more.
pub const FRAME: usize = 1 << 20;
/// Bytes of a frame without any: what a revision costs at least.
const FRAME_MIN: usize = 48;
/// Deltas in one part of a snapshot, before its bytes are looked at.
const PART: usize = 2000;

#[derive(Debug)]
struct Entry {
    revision: Revision,
    changes: Vec<Change>,
    trace: Option<TraceContext>,
    bytes: usize,
}

/// The last revisions; the oldest go when they would have too many bytes in frames.
#[derive(Debug)]
pub struct History {
    entries: VecDeque<Entry>,
    bytes: usize,
    limit: usize,
    floor: Revision,
    /// What was put together last: many sessions ask for the same.
    run: Option<(Revision, Run)>,
}

/// What leads from a revision to the newest.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// The newest.
    pub revision: Revision,
    /// Of each key the last delta.
    pub changes: Arc<[Change]>,
    /// What caused the last of them.
    pub trace: Option<TraceContext>,
}

/// Where to go on from a revision.
#[derive(Clone, Debug)]
pub enum Next {
    /// It is the newest.
    Nothing,
    /// This brings to the newest.
    Run(Run),
    /// It is older than everything here.
    Snapshot,
}

/// What a node is told of the published state, as frames.
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
        Self { entries: VecDeque::new(), bytes: 0, limit, floor, run: None }
    }

    /// The oldest revision that one can go on from.
    pub fn floor(&self) -> Revision {
        self.floor
    }

    /// The newest revision.
    pub fn newest(&self) -> Revision {
        self.entries.back().map_or(self.floor, |entry| entry.revision)
    }

    /// Bytes that they would have in frames.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a revision, the next one.
    pub fn push(&mut self, revision: Revision, changes: Vec<Change>, trace: Option<TraceContext>) {
        self.run = None;
        let bytes = size(&changes);
        self.bytes += bytes;
        self.entries.push_back(Entry { revision, changes, trace, bytes });
        while self.bytes > self.limit {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= oldest.bytes;
            self.floor = oldest.revision;
        }
    }

    /// What caused a revision that is still here.
    pub fn cause(&self, revision: Revision) -> Option<TraceContext> {
        let at = self.entries.binary_search_by_key(&revision, |entry| entry.revision).ok()?;
        self.entries.get(at)?.trace
    }

    /// What follows a revision.
    pub fn after(&mut self, held: Revision) -> Next {
        if held == self.newest() {
            return Next::Nothing;
        }
        if held < self.floor || held > self.newest() {
            return Next::Snapshot;
        }
        if let Some((_, run)) = self.run.as_ref().filter(|(from, _)| *from == held) {
            return Next::Run(run.clone());
        }
        let from = self.entries.partition_point(|entry| entry.revision <= held);
        let Some(last) = self.entries.back() else { return Next::Nothing };
        let changes = coalesce(self.entries.range(from..).flat_map(|entry| &entry.changes));
        let run = Run { revision: last.revision, changes: changes.into(), trace: last.trace };
        self.run = Some((held, run.clone()));
        Next::Run(run)
    }
}

/// Bytes of a frame of these, or more than any has.
fn size(changes: &[Change]) -> usize {
    let encoded = |change: &Change| codec::encoded_size(&change.delta).unwrap_or(FRAME);
    FRAME_MIN + changes.iter().map(encoded).sum::<usize>()
}

/// Frames of changes. Of what many sessions are told there is one frame, as long as nobody is told anything else in between.
#[derive(Debug, Default)]
pub struct Pushes(Option<(ToAgent, Frame)>);

impl Pushes {
    /// A frame of changes to a revision; none when they have more than [`PUSH_MAX`] bytes, and are sent as a snapshot is.
    pub fn frame(
        &mut self,
        revision: Revision,
        deltas: Vec<Delta>,
        trace: Option<TraceContext>,
    ) -> Option<Frame> {
        let message = ToAgent::Deltas { revision, deltas, trace };
        if let Some((_, frame)) = self.0.as_ref().filter(|(last, _)| *last == message) {
            return Some(Arc::clone(frame));
        }
        let frame: Frame = encode(&message).ok().filter(|frame| frame.len() <= PUSH_MAX)?.into();
        self.0 = Some((message, Arc::clone(&frame)));
        Some(frame)
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
    use weft_state::interests::Was;
    use weft_types::{Identity, Label, LabelSet, Source};
    use weft_wire::{VERSIONS, frame::decode};

    const R: fn(u64) -> Revision = |index| Revision::new(1, index);

    fn identity(number: u32, bytes: usize) -> Delta {
        let value = "x".repeat(bytes);
        let label = Label { source: Source::K8s, key: "app".to_owned(), value };
        Delta::IdentityUpsert(Identity(number), LabelSet::from_iter([label]))
    }

    fn change(number: u32, bytes: usize) -> Change {
        Change { delta: identity(number, bytes), was: Was::Nothing }
    }

    fn deltas(frame: &[u8]) -> Vec<Delta> {
        match decode(VERSIONS.oldest, &frame[6..]).expect("a message") {
            ToAgent::Deltas { deltas, .. } => deltas,
            _ => Vec::new(),
        }
    }

    fn run(history: &mut History, held: Revision) -> Run {
        match history.after(held) {
            Next::Run(run) => run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_who_is_behind_gets_the_last_of_each_key_and_many_share_it() {
        let mut history = History::new(R(0), 64 << 20);
        for index in 1..=1000 {
            let number = 256 + u32::try_from(index % 10).expect("small");
            let size = 10 + usize::try_from(index).expect("small");
            history.push(R(index), vec![change(number, size)], None);
        }
        let all = run(&mut history, R(0));
        let newest: Vec<Change> =
            (991..=1000).map(|index| change(256 + index % 10, 10 + index as usize)).collect();
        assert_eq!((all.revision, &*all.changes), (R(1000), &*newest));
        let (a, b) = (run(&mut history, R(999)), run(&mut history, R(999)));
        assert!(Arc::ptr_eq(&a.changes, &b.changes));
        assert!(matches!(history.after(R(1000)), Next::Nothing));
        // What was put together before is not what leads to a later revision.
        history.push(R(1001), Vec::new(), None);
        assert_eq!(run(&mut history, R(999)).revision, R(1001));
        assert_eq!(*run(&mut history, R(1000)).changes, [], "an empty revision is told, too");
    }

    #[test]
    fn its_bytes_are_bounded_and_who_is_older_gets_a_snapshot() {
        let mut history = History::new(R(0), 1 << 20);
        for index in 1..=50 {
            history.push(R(index), vec![change(256, 100_000)], None);
            assert!(history.bytes() <= 1 << 20);
        }
        assert!(history.floor() > R(35) && history.floor() < R(45), "{:?}", history.floor());
        for old in [R(3), Revision::new(0, 45), R(51)] {
            assert!(matches!(history.after(old), Next::Snapshot), "{old}");
        }
        let floor = history.floor();
        assert_eq!(run(&mut history, floor).changes.len(), 1);
        // One that is longer than all that is kept leaves nothing to go on from but itself.
        history.push(R(51), (0..20).map(|number| change(256 + number, 1 << 20)).collect(), None);
        assert_eq!((history.newest(), history.floor()), (R(51), R(51)));
    }

    #[test]
    fn what_no_message_should_hold_is_no_push() {
        let many = |count| (0..count).map(|number| identity(256 + number, 1 << 20)).collect();
        let mut pushes = Pushes::default();
        assert!(pushes.frame(R(1), many(20), None).is_none());
        let frame = pushes.frame(R(1), many(2), None).expect("short enough");
        assert_eq!(deltas(&frame), many(2));
        let counted = size(&[change(256, 1 << 20), change(257, 1 << 20)]);
        assert!(frame.len().abs_diff(counted) < 64, "{} and {counted}", frame.len());
    }

    #[test]
    fn what_is_told_again_is_the_same_frame_and_nothing_else_is() {
        let told = |number| vec![identity(number, 10)];
        let mut pushes = Pushes::default();
        let first = pushes.frame(R(1), told(256), None).expect("short enough");
        let again = pushes.frame(R(1), told(256), None).expect("short enough");
        assert!(Arc::ptr_eq(&first, &again));
        let later = pushes.frame(R(2), told(256), None).expect("short enough");
        assert_ne!(first, later, "the revision counts");
        let other = pushes.frame(R(2), told(257), None).expect("short enough");
        assert_eq!(deltas(&other), told(257));
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
