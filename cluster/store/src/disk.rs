//! A member's own disk: its vote, its snapshot and its log, in one file.

use crate::{
    MemberDisk, StoreError, failed,
    table::{File, body, decode, encode, get, put, versioned},
    unreadable,
};
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use std::path::Path;
use weft_raft::{
    Disk, Entry, Group, Index, MemberId, Saved, SavedSnapshot, Term, Truncate, Vote, Write,
};

const MEMBER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("member");
const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("raft");
const VOTE: &str = "vote";
const SNAPSHOT: &str = "snapshot";
const STATE: &str = "state";
const LIFE: &str = "life";
const OWNER: &str = "owner";

/// A redb file; a transaction that returned is on the disk.
#[derive(Debug)]
pub struct FileDisk(File);

impl FileDisk {
    /// Opens the file, or makes an empty one.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path, "open the member's log", |write| {
            write.open_table(MEMBER)?;
            write.open_table(ENTRIES).map(drop)
        });
        Ok(Self(file?))
    }
}

impl MemberDisk for FileDisk {
    fn owner(&self) -> Result<Option<(u16, MemberId)>, StoreError> {
        let action = "read whose the log is";
        self.0.read(action, |read| {
            let member = read.open_table(MEMBER).map_err(|e| failed(action, e))?;
            get(&member, action, OWNER)
        })
    }

    fn found(&mut self, owner: (u16, MemberId), saved: &Saved) -> Result<(), StoreError> {
        let action = "found the log";
        self.0.write(action, |transaction| {
            take(transaction, action, &saved.as_write())?;
            let mut member = transaction.open_table(MEMBER).map_err(|e| failed(action, e))?;
            put(&mut member, action, OWNER, &encode(OWNER, &owner)?)
        })
    }

    fn begin_life(&mut self) -> Result<u64, StoreError> {
        let action = "begin another life of the member";
        self.0.write(action, |transaction| {
            let mut member = transaction.open_table(MEMBER).map_err(|e| failed(action, e))?;
            let before: u64 = get(&member, action, LIFE)?.unwrap_or(0);
            put(&mut member, action, LIFE, &encode(LIFE, &(before + 1))?)?;
            Ok(before + 1)
        })
    }
}

impl Disk for FileDisk {
    type Error = StoreError;

    fn recover(&self) -> Result<Option<Saved>, StoreError> {
        self.0.read("read the member's log", saved)
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let action = "write the member's log";
        self.0.write(action, |transaction| {
            writes.iter().try_for_each(|write| take(transaction, action, write))
        })
    }
}

fn saved(read: &ReadTransaction) -> Result<Option<Saved>, StoreError> {
    let action = "read the member's log";
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
