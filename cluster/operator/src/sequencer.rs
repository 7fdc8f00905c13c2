//! Who puts commands in order and makes them durable. Raft stands behind this interface later.
//!
//! Commands are proposed, and what is committed comes back as one stream, which is applied in one place.

use crate::metrics::Metrics;
use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use weft_process::trace;
use weft_state::{EntryV1, encode_entry};
use weft_store::{Log, LogEntry, StoreError};
use weft_types::Revision;

/// Proposals that wait for the log.
const QUEUE: usize = 16 << 10;
/// Proposals that share one transaction, and so one fsync.
const GROUP: usize = 1024;

/// What a proposer knows its command by.
pub type Ticket = u64;

/// Orders commands.
pub trait Sequencer {
    /// Queues a command; what becomes of it comes with the stream. False when the queue is full.
    fn propose(&self, ticket: Ticket, entry: EntryV1) -> bool;
    /// Gives the encoded state at a revision, which replaces the entries up to it.
    fn compact(&self, through: Revision, snapshot: Vec<u8>);
}

/// What comes back.
#[derive(Debug)]
pub enum Sequenced {
    /// Entries that are durable and stay so, in their order.
    Committed(Vec<Committed>),
    /// Commands that are not in the log and never will be.
    Failed {
        /// Which.
        tickets: Vec<Ticket>,
        /// Why.
        problem: String,
    },
}

/// A durable entry.
#[derive(Debug)]
pub struct Committed {
    /// Whose it is, when it was proposed here.
    pub ticket: Ticket,
    /// Its place in the order.
    pub revision: Revision,
    /// Bytes it takes in the log.
    pub size: usize,
    /// The command.
    pub entry: EntryV1,
}

enum Work {
    Propose(Ticket, EntryV1),
    Compact(u64, Vec<u8>),
}

/// One operator alone: its own log is the order.
#[derive(Debug)]
pub struct LocalSequencer {
    work: Option<SyncSender<Work>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl LocalSequencer {
    /// Starts its thread over a log that ends at `newest`. The stream ends when the log cannot go on.
    pub fn start(
        log: Box<dyn Log>,
        newest: Revision,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, UnboundedReceiver<Sequenced>)> {
        let (work, proposed) = sync_channel(QUEUE);
        let (tell, stream) = unbounded_channel();
        let writer = Writer {
            log,
            generation: newest.generation(),
            index: newest.index(),
            stream: tell,
            metrics,
        };
        let thread =
            thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(&proposed))?;
        Ok((Self { work: Some(work), thread: Some(thread) }, stream))
    }

    fn offer(&self, work: Work) -> bool {
        self.work.as_ref().is_some_and(|queue| queue.try_send(work).is_ok())
    }
}

impl Drop for LocalSequencer {
    /// What is queued is written, and the file closed, before this returns.
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was the end of the stream, which ended the process.
            drop(thread.join());
        }
    }
}

impl Sequencer for LocalSequencer {
    fn propose(&self, ticket: Ticket, entry: EntryV1) -> bool {
        self.offer(Work::Propose(ticket, entry))
    }

    fn compact(&self, through: Revision, snapshot: Vec<u8>) {
        // With a full queue it is done another time.
        self.offer(Work::Compact(through.index(), snapshot));
    }
}

struct Writer {
    log: Box<dyn Log>,
    generation: u16,
    index: u64,
    stream: UnboundedSender<Sequenced>,
    metrics: Arc<Metrics>,
}

impl Writer {
    fn run(mut self, proposed: &Receiver<Work>) {
        let mut group = Vec::new();
        while let Ok(first) = proposed.recv() {
            let mut next = Some(first);
            let mut compaction = None;
            while let Some(work) = next {
                match work {
                    Work::Propose(ticket, entry) => group.push((ticket, entry)),
                    Work::Compact(index, snapshot) => compaction = Some((index, snapshot)),
                }
                next = if group.len() < GROUP { proposed.try_recv().ok() } else { None };
            }
            if let Err(error) = self.commit(std::mem::take(&mut group)) {
                tracing::error!("the log cannot go on: {error}");
                return;
            }
            if let Some((index, snapshot)) = compaction {
                let metrics = Arc::clone(&self.metrics);
                let log = &mut self.log;
                match metrics.timed("log_compact", || log.compact(index, &snapshot)) {
                    Ok(()) => tracing::debug!(index, bytes = snapshot.len(), "log compacted"),
                    Err(error) => tracing::warn!("{error}; the log grows until the next time"),
                }
            }
        }
    }

    /// Appends a group. An error is that nothing is known of the log any more.
    fn commit(&mut self, group: Vec<(Ticket, EntryV1)>) -> Result<(), StoreError> {
        if group.is_empty() {
            return Ok(());
        }
        let mut entries = Vec::with_capacity(group.len());
        // They share a transaction: each is as long as that takes.
        let mut spans = Vec::with_capacity(group.len());
        let mut committed = Vec::with_capacity(group.len());
        for (ticket, entry) in group {
            match encode_entry(&entry) {
                Ok(command) => {
                    let index = self.index + 1 + entries.len() as u64;
                    let revision = Revision::new(self.generation, index);
                    let span = tracing::debug_span!("log.append", %revision);
                    spans.push(trace::adopt(span, entry.trace));
                    committed.push(Committed { ticket, revision, size: command.len(), entry });
                    entries.push(LogEntry { index, command });
                }
                Err(error) => self.failed(vec![ticket], &error),
            }
        }
        let last = self.index + entries.len() as u64;
        let metrics = Arc::clone(&self.metrics);
        let log = &mut self.log;
        let appended = metrics.timed("log_append", || log.append(&entries));
        drop(spans);
        let problem = match appended {
            Ok(()) => None,
            Err(error @ StoreError::Ambiguous { .. }) => {
                tracing::warn!("{error}: reading it back");
                (self.log.last_index()? != last).then_some(error)
            }
            Err(error) => Some(error),
        };
        match problem {
            None => {
                self.index = last;
                // Whoever applies may have ended; then the process does.
                drop(self.stream.send(Sequenced::Committed(committed)));
            }
            Some(error) => self.failed(committed.iter().map(|c| c.ticket).collect(), &error),
        }
        Ok(())
    }

    fn failed(&self, tickets: Vec<Ticket>, problem: &dyn std::fmt::Display) {
        let problem = problem.to_string();
        tracing::error!(count = tickets.len(), "not committed: {problem}");
        drop(self.stream.send(Sequenced::Failed { tickets, problem }));
    }
}
