//! Who puts commands in order and makes them durable: a member of a Raft group, on a thread with its disk.
//!
//! Commands are proposed, and what is committed comes back as one stream, which is applied in one place. What waits when
//! the disk is ready for more shares a write, and so one fsync. A write that fails is repeated, since what the member
//! counts on cannot be taken back: it is the same bytes in the same place, whatever became of it before. When the disk
//! does not take it at all the stream ends, and the operator with it; its next life goes on from what the disk has.

use crate::{
    member::{Member, MemberError, Work},
    metrics::Metrics,
};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Weak,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{
    mpsc::{self, UnboundedReceiver, UnboundedSender, unbounded_channel},
    watch,
};
use tracing::{Span, field::Empty};
use weft_process::trace;
use weft_raft::{Change, Disk, Envelope, MemberId, Refusal, Role, Status, Term, Write};
use weft_state::{ClusterState, EntryV1, Unreadable};
use weft_store::StoreError;
use weft_types::Revision;

/// Work that waits.
const QUEUE: usize = 16 << 10;
/// Work that shares a write of the disk.
const GROUP: usize = 1024;
/// A tick of the group: ten without a sign of life from the leader, up to twice as many, are an election.
pub const TICK: Duration = Duration::from_millis(50);
/// Times that a write is tried.
const ATTEMPTS: u32 = 4;
/// Before the second time; longer each time.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a disk is given that takes nothing.
pub const PATIENCE: Duration = PAUSE.saturating_mul(ATTEMPTS * (ATTEMPTS - 1) / 2);

/// What a proposer knows its command by.
pub type Ticket = u64;

/// A command to order.
#[derive(Debug)]
pub struct Proposed {
    /// What its end is told by.
    pub ticket: Ticket,
    /// The command.
    pub entry: EntryV1,
    /// When set, this operator must lead in this very term.
    pub only_in: Option<Term>,
}

/// Orders commands.
pub trait Sequencer {
    /// Queues a command; what becomes of it comes with the stream. False when the queue is full.
    fn propose(&self, proposed: Proposed) -> bool;
    /// Gives the encoded state at a revision, which replaces the entries up to it.
    fn compact(&self, through: Revision, snapshot: Vec<u8>);
    /// Asks what is committed; that all of it was told comes with the stream. False when the queue is full.
    fn read(&self, ticket: Ticket) -> bool;
    /// Queues a change of the group; what becomes of it comes with the stream. False when the queue is full.
    fn change(&self, ticket: Ticket, change: Change) -> bool;
    /// Has another voter lead: this one, or who is furthest.
    fn transfer(&self, to: Option<MemberId>);
}

/// What comes back.
#[derive(Debug)]
pub enum Sequenced {
    /// Entries that are durable and stay so, in their order.
    Committed(Vec<Committed>),
    /// A command that is not ordered.
    Refused(Ticket, NotOrdered),
    /// The state after a revision, in the place of what there was: a leader sent it.
    Restored(Revision, Box<ClusterState>),
    /// What this operator is in its group, in which term.
    Role(Role, Term),
    /// A peer needs the state, to be given by [`Sequencer::compact`].
    SnapshotWanted,
    /// Everything was told that was committed when this was asked.
    Readable(Ticket),
}

/// A durable entry.
#[derive(Debug)]
pub struct Committed {
    /// Its place in the order.
    pub revision: Revision,
    /// Its proposer's, when that is this life of this operator.
    pub ticket: Option<Ticket>,
    /// Bytes it takes in the log.
    pub size: usize,
    /// The command; none of an entry that is the group's own, after which the state is what it was.
    pub entry: Option<EntryV1>,
}

impl Committed {
    /// An entry after which the state is what it was.
    pub(crate) const fn of_the_group(revision: Revision, ticket: Option<Ticket>) -> Self {
        Self { revision, ticket, size: 0, entry: None }
    }
}

/// Why a command is not ordered.
#[derive(Debug, thiserror::Error)]
pub enum NotOrdered {
    /// The group did not take it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It has no bytes.
    #[error(transparent)]
    Unencodable(#[from] Unreadable),
}

/// Why nothing is ordered any more.
#[derive(Debug, thiserror::Error)]
pub enum SequencerError {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] StoreError),
    /// The member.
    #[error(transparent)]
    Member(#[from] MemberError),
}

/// Where a member's messages go, and where others see how it is.
pub struct Outbox {
    /// To peers. What finds no room is dropped, which consensus makes up for.
    pub messages: mpsc::Sender<Envelope>,
    /// Renewed with every tick, and whenever something is told.
    pub status: watch::Sender<Status>,
}

/// The member with its disk.
pub struct Writer {
    member: Member,
    /// None before it has peers, or while nobody looks.
    outbox: Option<Outbox>,
    disk: Box<dyn Disk<Error = StoreError> + Send>,
    metrics: Arc<Metrics>,
    /// From the proposal to the commit.
    spans: BTreeMap<Ticket, Span>,
}

impl Writer {
    /// Of a member that was made of what this disk has.
    pub fn new(
        member: Member,
        disk: Box<dyn Disk<Error = StoreError> + Send>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { member, outbox: None, disk, metrics, spans: BTreeMap::new() }
    }

    /// Who sends its messages from now on; and how it is.
    pub fn connect(&mut self, messages: mpsc::Sender<Envelope>) -> watch::Receiver<Status> {
        let (status, watched) = watch::channel(self.member.status());
        self.outbox = Some(Outbox { messages, status });
        watched
    }

    /// Does some work, and all that follows of it. An error is that nothing is known of the disk any more.
    pub fn carry_out(
        &mut self,
        work: Vec<Work>,
        mut tell: impl FnMut(Sequenced),
    ) -> Result<(), SequencerError> {
        work.iter().for_each(|work| self.begin(work));
        let mut turn = self.member.take(work)?;
        loop {
            if !turn.told.is_empty() {
                self.show();
            }
            for told in turn.told {
                self.end(&told);
                tell(told);
            }
            // After it: that an entry is committed is told to whoever waits for it before it is told to all peers.
            if let Some(outbox) = &self.outbox {
                turn.messages.into_iter().for_each(|m| drop(outbox.messages.try_send(m)));
            }
            let Some(last) = turn.writes.last().map(|write| write.number) else { return Ok(()) };
            self.write(&turn.writes)?;
            turn = self.member.persisted(last)?;
        }
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let compacts = writes.iter().any(|write| write.snapshot.is_some());
        let operation = if compacts { "log_compact" } else { "log_append" };
        let mut attempt = 1;
        loop {
            let disk = &mut self.disk;
            match self.metrics.timed(operation, || disk.write(writes)) {
                Err(error) if attempt < ATTEMPTS => {
                    tracing::warn!(attempt, "{error}; it is tried again");
                    thread::sleep(PAUSE * attempt);
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    fn begin(&mut self, work: &Work) {
        if let Work::Propose(Proposed { ticket, entry, .. }) = work {
            let span = tracing::debug_span!("log.append", revision = Empty);
            self.spans.insert(*ticket, trace::adopt(span, entry.trace));
        }
    }

    fn end(&mut self, told: &Sequenced) {
        match told {
            Sequenced::Committed(entries) => {
                for Committed { revision, ticket, .. } in entries {
                    if let Some(span) = ticket.and_then(|ticket| self.spans.remove(&ticket)) {
                        span.record("revision", tracing::field::display(revision));
                    }
                }
            }
            Sequenced::Refused(ticket, _) => drop(self.spans.remove(ticket)),
            Sequenced::Role(role, term) => tracing::info!(?role, term, "in the operators' group"),
            Sequenced::Restored(revision, _) => tracing::info!(%revision, "a leader's snapshot"),
            Sequenced::SnapshotWanted | Sequenced::Readable(_) => {}
        }
    }

    /// Works until nobody can ask for anything any more; what is queued then is done.
    fn run(mut self, inbox: &Receiver<Work>, stream: &UnboundedSender<Sequenced>) {
        let mut due = Instant::now() + TICK;
        loop {
            let wait = due.saturating_duration_since(Instant::now());
            let mut work = match inbox.recv_timeout(wait) {
                Ok(first) => vec![first],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            work.extend(inbox.try_iter().take(GROUP - work.len()));
            let ticks = Instant::now() >= due;
            if ticks {
                work.push(Work::Tick);
                due = Instant::now() + TICK;
            }
            // Whoever applies may have ended; then the process does.
            if let Err(error) = self.carry_out(work, |told| drop(stream.send(told))) {
                tracing::error!("the log cannot go on: {error}");
                // A disk that fails is nobody's violation.
                if let SequencerError::Member(error) = error
                    && let Some(invariant) = error.violates()
                {
                    self.metrics.violations.saw(invariant, error);
                }
                return;
            }
            if ticks {
                self.show();
            }
        }
    }

    /// Whoever looks sees how the member is, before what it tells is acted on.
    fn show(&self) {
        if let Some(outbox) = &self.outbox {
            let status = self.member.status();
            outbox.status.send_if_modified(|known| {
                let modified = *known != status;
                *known = status;
                modified
            });
        }
    }
}

/// A member on a thread of its own.
#[derive(Debug)]
pub struct GroupSequencer {
    work: Option<Arc<SyncSender<Work>>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Where peers' words go; what finds no room is dropped, which consensus makes up for.
#[derive(Clone, Debug)]
pub struct Inbox(Weak<SyncSender<Work>>);

impl Inbox {
    /// Hands on what a peer said, or what became of a connection to it.
    pub fn offer(&self, work: Work) {
        if let Some(queue) = self.0.upgrade() {
            drop(queue.try_send(work));
        }
    }
}

impl GroupSequencer {
    /// Starts the thread. The stream ends when the log cannot go on.
    pub fn start(writer: Writer) -> io::Result<(Self, UnboundedReceiver<Sequenced>)> {
        let (work, inbox) = sync_channel(QUEUE);
        let (tell, stream) = unbounded_channel();
        let thread = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run(&inbox, &tell))?;
        Ok((Self { work: Some(Arc::new(work)), thread: Some(thread) }, stream))
    }

    /// Where peers' words go. It does not keep the thread.
    pub fn inbox(&self) -> Inbox {
        Inbox(self.work.as_ref().map(Arc::downgrade).unwrap_or_default())
    }

    fn offer(&self, work: Work) -> bool {
        self.work.as_ref().is_some_and(|queue| queue.try_send(work).is_ok())
    }
}

impl Drop for GroupSequencer {
    /// What is queued is written, and the file closed, before this returns.
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was the end of the stream, which ended the process.
            drop(thread.join());
        }
    }
}

impl Sequencer for GroupSequencer {
    fn propose(&self, proposed: Proposed) -> bool {
        self.offer(Work::Propose(proposed))
    }

    fn compact(&self, through: Revision, snapshot: Vec<u8>) {
        // With a full queue it is done another time.
        self.offer(Work::Compact(through, snapshot));
    }

    fn read(&self, ticket: Ticket) -> bool {
        self.offer(Work::Read(ticket))
    }

    fn change(&self, ticket: Ticket, change: Change) -> bool {
        self.offer(Work::Change(ticket, change))
    }

    fn transfer(&self, to: Option<MemberId>) {
        // With a full queue whoever wants it asks again.
        self.offer(Work::Transfer(to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    };
    use weft_raft::{Config, Group, MemberId, Saved};
    use weft_state::{ClusterState, CommandV1};
    use weft_types::Identity;

    /// Counts its writes, each of which waits for a word.
    struct Counting {
        saved: Saved,
        writes: Arc<AtomicU64>,
        gate: Arc<Mutex<Option<mpsc::Receiver<()>>>>,
    }

    impl Disk for Counting {
        type Error = StoreError;

        fn recover(&self) -> Result<Option<Saved>, StoreError> {
            Ok(Some(self.saved.clone()))
        }

        fn write(&mut self, writes: &[Write]) -> Result<(), StoreError> {
            if let Some(gate) = &*self.gate.lock().expect("no panic") {
                _ = gate.recv();
            }
            self.writes.fetch_add(1, Ordering::SeqCst);
            writes.iter().for_each(|write| self.saved.take(write));
            Ok(())
        }
    }

    fn retire(ticket: Ticket) -> Proposed {
        let command = CommandV1::Retire(vec![Identity(256)]);
        Proposed { ticket, entry: EntryV1 { trace: None, command, fence: None }, only_in: None }
    }

    fn committed(stream: &mut UnboundedReceiver<Sequenced>, count: usize) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        while tickets.len() < count {
            match stream.blocking_recv().expect("it goes on") {
                Sequenced::Committed(all) => tickets.extend(all.iter().filter_map(|e| e.ticket)),
                Sequenced::Role(..) => {}
                other => panic!("{other:?}"),
            }
        }
        tickets
    }

    #[test]
    fn what_waits_while_the_disk_writes_shares_its_next_write() {
        let state = ClusterState::new("blue").encode().expect("short");
        let group = Group::of_voters([(MemberId(1), String::new())]);
        let saved = Saved::founding(group, state.into());
        let member = Member::new(Config::new(MemberId(1), 1, 1), 1, saved.clone()).expect("begins");
        let (writes, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None)));
        let disk = Counting { saved, writes: Arc::clone(&writes), gate: Arc::clone(&gate) };
        let mut writer = Writer::new(member, Box::new(disk), Arc::new(Metrics::default()));
        let mut leads = false;
        while !leads {
            let work = vec![Work::Tick];
            let led = |told| leads |= matches!(told, Sequenced::Role(Role::Leader, _));
            writer.carry_out(work, led).expect("it goes on");
        }
        let before = writes.load(Ordering::SeqCst);
        let (open, closed) = mpsc::channel();
        *gate.lock().expect("no panic") = Some(closed);
        let (sequencer, mut stream) = GroupSequencer::start(writer).expect("a thread");
        // The first is on its way to the disk, alone or with some of the others, when these come.
        (1..=500).for_each(|ticket| assert!(sequencer.propose(retire(ticket))));
        open.send(()).expect("it waits");
        open.send(()).expect("it waits");
        assert_eq!(committed(&mut stream, 500), (1..=500).collect::<Vec<_>>());
        assert!(writes.load(Ordering::SeqCst) - before <= 2);
        drop(open);
        // One by one, each is one write: that it is committed costs none.
        let before = writes.load(Ordering::SeqCst);
        for ticket in 501..=600 {
            assert!(sequencer.propose(retire(ticket)));
            assert_eq!(committed(&mut stream, 1), [ticket]);
        }
        assert_eq!(writes.load(Ordering::SeqCst) - before, 100);
    }
}
