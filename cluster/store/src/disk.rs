//! A member's own disk: its vote, its snapshot and its log, in one file.

use crate::{
    StoreError, failed,
    table::{begin_read, begin_write, body, commit, decode, encode, get, open, put, versioned},
    unreadable,
};
use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};
use std::path::Path;
use weft_raft::{Disk, Entry, Group, Index, Saved, SavedSnapshot, Term, Truncate, Vote, Write};

const MEMBER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("member");
const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("raft");
const VOTE: &str = "vote";
const SNAPSHOT: &str = "snapshot";
const STATE: &str = "state";
const LIFE: &str = "life";

/// A redb file; a transaction that returned is on the disk.
#[derive(Debug)]
pub struct FileDisk {
    database: Database,
}

impl FileDisk {
    /// Opens the file, or makes an empty one.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = open(path, "open the member's log", |write| {
            write.open_table(MEMBER)?;
            write.open_table(ENTRIES).map(drop)
        })?;
        Ok(Self { database })
    }

    /// Counts the lives of this member: a greater number each time, durable when this returns.
    pub fn begin_life(&mut self) -> Result<u64, StoreError> {
        let action = "begin another life of the member";
        let write = begin_write(&self.database, action)?;
        let life = {
            let mut member = write.open_table(MEMBER).map_err(|e| failed(action, e))?;
            let before: u64 = get(&member, action, LIFE)?.unwrap_or(0);
            put(&mut member, action, LIFE, &encode(LIFE, &(before + 1))?)?;
            before + 1
        };
        commit(write, action)?;
        Ok(life)
    }
}

impl Disk for FileDisk {
    type Error = StoreError;

    fn recover(&self) -> Result<Option<Saved>, StoreError> {
        let action = "read the member's log";
        let read = begin_read(&self.database, action)?;
        let member = read.open_table(MEMBER).map_err(|e| failed(action, e))?;
        let Some(vote) = get::<Vote>(&member, action, VOTE)? else { return Ok(None) };
        let head: Option<(Index, Term, Group)> = get(&member, action, SNAPSHOT)?;
        let (index, term, group) = head.unwrap_or_default();
        let state = member.get(STATE).map_err(|e| failed(action, e))?;
        let state = match &state {
            Some(value) => body(STATE, value.value())?.into(),
            None => [].into(),
        };
        let table = read.open_table(ENTRIES).map_err(|e| failed(action, e))?;
        let mut entries: Vec<Entry> = Vec::new();
        for record in table.iter().map_err(|e| failed(action, e))? {
            let (at, value) = record.map_err(|e| failed(action, e))?;
            let what = format!("log entry {}", at.value());
            let entry: Entry = decode(&what, value.value())?;
            if entry.index != at.value() {
                return Err(unreadable(what, format!("it says that it is entry {}", entry.index)));
            }
            entries.push(entry);
        }
        Ok(Some(Saved { vote, snapshot: SavedSnapshot { index, term, group, state }, entries }))
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let action = "write the member's log";
        let transaction = begin_write(&self.database, action)?;
        for write in writes {
            take(&transaction, action, write)?;
        }
        commit(transaction, action)
    }
}

fn take(
    transaction: &WriteTransaction,
    action: &'static str,
    write: &Write,
) -> Result<(), StoreError> {
    let mut member = transaction.open_table(MEMBER).map_err(|e| failed(action, e))?;
    let mut entries = transaction.open_table(ENTRIES).map_err(|e| failed(action, e))?;
    if let Some(vote) = &write.vote {
        put(&mut member, action, VOTE, &encode(VOTE, vote)?)?;
    }
    if let Some((snapshot, truncate)) = &write.snapshot {
        let head = (snapshot.index, snapshot.term, &snapshot.group);
        put(&mut member, action, SNAPSHOT, &encode(SNAPSHOT, &head)?)?;
        put(&mut member, action, STATE, &versioned(&snapshot.state))?;
        let gone = match truncate {
            Truncate::UpToIt => 0..=snapshot.index,
            Truncate::All => 0..=u64::MAX,
        };
        entries.retain_in(gone, |_, _| false).map_err(|e| failed(action, e))?;
    }
    if let Some(first) = write.entries.first() {
        entries.retain_in(first.index.., |_, _| false).map_err(|e| failed(action, e))?;
    }
    for entry in &write.entries {
        let bytes = encode("a log entry", entry)?;
        entries.insert(entry.index, bytes.as_slice()).map_err(|e| failed(action, e))?;
    }
    Ok(())
}
