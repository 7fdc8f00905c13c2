//! A disk in memory that loses what was not synced.

use crate::{Disk, Saved, Write};
use std::convert::Infallible;

/// What is synced, and what is only written.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    synced: Option<Saved>,
    written: Vec<Write>,
}

impl MemoryDisk {
    /// Takes writes that the next [`MemoryDisk::sync`] makes durable.
    pub fn accept(&mut self, writes: impl IntoIterator<Item = Write>) {
        self.written.extend(writes);
    }

    /// Makes the first of what was accepted durable; the number of the last one.
    pub fn sync(&mut self, count: usize) -> Option<u64> {
        let count = count.min(self.written.len());
        let mut last = None;
        for write in self.written.drain(..count) {
            last = Some(write.number);
            self.synced.get_or_insert_default().take(&write);
        }
        last
    }

    /// Writes that are not durable yet.
    pub fn unsynced(&self) -> usize {
        self.written.len()
    }

    /// The power fails: of what was not synced nothing is there.
    pub fn crash(&mut self) {
        self.written.clear();
    }
}

impl Disk for MemoryDisk {
    type Error = Infallible;

    fn recover(&self) -> Result<Option<Saved>, Infallible> {
        Ok(self.synced.clone())
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), Infallible> {
        self.accept(writes.iter().cloned());
        self.sync(usize::MAX);
        Ok(())
    }
}
