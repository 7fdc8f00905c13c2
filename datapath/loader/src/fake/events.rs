//! A ring of events in memory.

use crate::{
    events::{Readiness, parse},
    kernel::{Events, KernelError, Malformed},
};
use std::{
    collections::VecDeque,
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
};
use weft_abi::event::Event;

/// A ring of events in memory. Its clones share it, as all who open the pinned one do; what the real one does, the lab's
/// tests of flows show.
#[derive(Clone)]
pub struct FakeEvents {
    records: Arc<Mutex<VecDeque<Vec<u8>>>>,
    /// One byte waits in the pipe while records do.
    wait: Arc<PipeReader>,
    wake: Arc<PipeWriter>,
}

impl FakeEvents {
    /// An empty ring.
    pub fn new() -> io::Result<Self> {
        let (wait, wake) = io::pipe()?;
        Ok(Self { records: Arc::default(), wait: Arc::new(wait), wake: Arc::new(wake) })
    }

    /// What programs do: a record at the end, whatever it holds.
    pub fn tell(&self, record: &[u8]) -> io::Result<()> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.push_back(record.to_vec());
        if records.len() == 1 { (&*self.wake).write_all(&[0]) } else { Ok(()) }
    }
}

impl Events for FakeEvents {
    fn readiness(&self) -> Result<Readiness, KernelError> {
        Readiness::of(self.wait.as_fd())
    }

    fn drain(&mut self, most: usize, each: &mut dyn FnMut(Result<Event, Malformed>)) -> usize {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let count = most.min(records.len());
        let taken: Vec<Vec<u8>> = records.drain(..count).collect();
        if count > 0 && records.is_empty() {
            // The byte that `tell` wrote; a pipe in memory does not fail.
            drop((&*self.wait).read(&mut [0]));
        }
        drop(records);
        taken.iter().for_each(|record| each(parse(record)));
        count
    }
}
