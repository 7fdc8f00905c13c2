//! The log of an operator that is alone: a snapshot of the state, and the entries after it.

use crate::{
    Log, LogEntry, Recovered, StoreError, failed,
    table::{begin_read, begin_write, body, commit, open, versioned},
    unreadable,
};
use redb::{Database, ReadableTable, TableDefinition};
use std::path::Path;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SNAPSHOT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("snapshot");
const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const GENERATION: &str = "generation";

/// A redb file; a transaction that returned is on the disk.
#[derive(Debug)]
pub struct FileLog {
    database: Database,
}

impl FileLog {
    /// Opens the file, or makes an empty one.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = open(path, "open the log", |write| {
            write.open_table(META)?;
            write.open_table(SNAPSHOT)?;
            write.open_table(ENTRIES).map(drop)
        })?;
        Ok(Self { database })
    }
}

impl Log for FileLog {
    fn recover(&self) -> Result<Option<Recovered>, StoreError> {
        let action = "read the log";
        let read = begin_read(&self.database, action)?;
        let meta = read.open_table(META).map_err(|e| failed(action, e))?;
        let Some(generation) = meta.get(GENERATION).map_err(|e| failed(action, e))? else {
            return Ok(None);
        };
        let generation = u16::try_from(generation.value())
            .map_err(|_| unreadable("the log's generation", "it is no 16-bit number"))?;
        let snapshots = read.open_table(SNAPSHOT).map_err(|e| failed(action, e))?;
        let newest = snapshots.last().map_err(|e| failed(action, e))?;
        let (index, snapshot) =
            newest.ok_or_else(|| unreadable("the log's snapshot", "there is none"))?;
        let (index, snapshot) = (index.value(), body("the log's snapshot", snapshot.value())?);
        let table = read.open_table(ENTRIES).map_err(|e| failed(action, e))?;
        let mut entries = Vec::new();
        for entry in table.range(index + 1..).map_err(|e| failed(action, e))? {
            let (at, value) = entry.map_err(|e| failed(action, e))?;
            let what = format!("log entry {}", at.value());
            let expected = index + 1 + entries.len() as u64;
            if at.value() != expected {
                return Err(unreadable(what, format!("entry {expected} is missing before it")));
            }
            let command = body(&what, value.value())?.to_vec();
            entries.push(LogEntry { index: at.value(), command });
        }
        Ok(Some(Recovered { generation, index, snapshot: snapshot.to_vec(), entries }))
    }

    fn found(&mut self, generation: u16, snapshot: &[u8]) -> Result<(), StoreError> {
        let action = "found the log";
        let write = begin_write(&self.database, action)?;
        {
            let mut meta = write.open_table(META).map_err(|e| failed(action, e))?;
            meta.insert(GENERATION, u64::from(generation)).map_err(|e| failed(action, e))?;
            let mut table = write.open_table(SNAPSHOT).map_err(|e| failed(action, e))?;
            table.insert(0, versioned(snapshot).as_slice()).map_err(|e| failed(action, e))?;
        }
        commit(write, action)
    }

    fn append(&mut self, entries: &[LogEntry]) -> Result<(), StoreError> {
        let action = "append to the log";
        let write = begin_write(&self.database, action)?;
        {
            let mut table = write.open_table(ENTRIES).map_err(|e| failed(action, e))?;
            for entry in entries {
                let value = versioned(&entry.command);
                let taken =
                    table.insert(entry.index, value.as_slice()).map_err(|e| failed(action, e))?;
                if taken.is_some() {
                    return Err(failed(action, format!("entry {} is there", entry.index)));
                }
            }
        }
        commit(write, action)
    }

    fn last_index(&self) -> Result<u64, StoreError> {
        let action = "read the end of the log";
        let read = begin_read(&self.database, action)?;
        let entries = read.open_table(ENTRIES).map_err(|e| failed(action, e))?;
        if let Some((index, _)) = entries.last().map_err(|e| failed(action, e))? {
            return Ok(index.value());
        }
        let snapshots = read.open_table(SNAPSHOT).map_err(|e| failed(action, e))?;
        let newest = snapshots.last().map_err(|e| failed(action, e))?;
        Ok(newest.map_or(0, |(index, _)| index.value()))
    }

    fn compact(&mut self, index: u64, snapshot: &[u8]) -> Result<(), StoreError> {
        let action = "compact the log";
        let write = begin_write(&self.database, action)?;
        {
            let mut table = write.open_table(SNAPSHOT).map_err(|e| failed(action, e))?;
            table.retain(|_, _| false).map_err(|e| failed(action, e))?;
            table.insert(index, versioned(snapshot).as_slice()).map_err(|e| failed(action, e))?;
            let mut entries = write.open_table(ENTRIES).map_err(|e| failed(action, e))?;
            entries.retain_in(..=index, |_, _| false).map_err(|e| failed(action, e))?;
        }
        commit(write, action)
    }
}
