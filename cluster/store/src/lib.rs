//! The durable store of the operators, and the log of one that is alone.
//!
//! The store holds what survives every operator: label sets and their numbers, the objects that sources
//! want, and the fence. A number is in the store before any log entry names it. The log orders commands;
//! with several operators Raft's takes its place. A call that returned has made its change durable.

mod disk;
mod etcd;
mod keys;
mod log;
mod memory;
mod store;
mod table;

pub use disk::FileDisk;
pub use etcd::EtcdStore;
pub use log::FileLog;
pub use memory::{Comparing, MemoryStore};
pub use store::FileStore;
pub use weft_types::{Batch, Fence};

use weft_types::{Identity, LabelSet, Object};

/// What operators need of a store.
pub trait Store: Send {
    /// The cluster's name and its fence; none before a cluster is founded.
    fn founded(&self) -> Result<Option<(String, Fence)>, StoreError>;
    /// Replaces the fence, or founds a cluster where there was none. `before` is compared.
    fn raise(
        &mut self,
        cluster: &str,
        before: Option<Fence>,
        after: Fence,
    ) -> Result<(), StoreError>;
    /// Every number and its label set.
    fn identities(&self) -> Result<Vec<(Identity, LabelSet)>, StoreError>;
    /// Every object.
    fn objects(&self) -> Result<Vec<Object>, StoreError>;
    /// Writes a batch, if the fence is still this one.
    fn write(&mut self, fence: Fence, batch: &Batch) -> Result<(), StoreError>;
    /// Reads back whether a batch is there; for when [`StoreError::Ambiguous`] was the answer.
    fn holds(&self, batch: &Batch) -> Result<bool, StoreError>;
}

/// One entry of the log, its command encoded by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Follows the one before.
    pub index: u64,
    /// The encoded command.
    pub command: Vec<u8>,
}

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The generation it was founded with.
    pub generation: u16,
    /// Index of the last entry that the snapshot contains.
    pub index: u64,
    /// The encoded state after that entry.
    pub snapshot: Vec<u8>,
    /// What follows, oldest first.
    pub entries: Vec<LogEntry>,
}

/// What a lone operator needs of its log.
pub trait Log: Send {
    /// Everything; none before it is founded.
    fn recover(&self) -> Result<Option<Recovered>, StoreError>;
    /// Begins a log with the state before its first entry, index 1.
    fn found(&mut self, generation: u16, snapshot: &[u8]) -> Result<(), StoreError>;
    /// Adds entries, all or none.
    fn append(&mut self, entries: &[LogEntry]) -> Result<(), StoreError>;
    /// Index of the last entry; for when [`StoreError::Ambiguous`] was the answer.
    fn last_index(&self) -> Result<u64, StoreError>;
    /// Replaces everything up to an entry by the state after it.
    fn compact(&mut self, index: u64, snapshot: &[u8]) -> Result<(), StoreError>;
}

/// Why the store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It failed, and nothing was changed.
    #[error("{action}: {problem}")]
    Failed {
        /// What was attempted.
        action: &'static str,
        /// What went wrong.
        problem: String,
    },
    /// It failed, and the change is there or it is not: read back before anything else.
    #[error("{action}: {problem}; whether it was done is not known")]
    Ambiguous {
        /// What was attempted.
        action: &'static str,
        /// What went wrong.
        problem: String,
    },
    /// Another leader has written its fence.
    #[error("{action}: the fence is {found:?}, not {expected:?}: another operator leads")]
    Fenced {
        /// What was attempted.
        action: &'static str,
        /// What the caller believed.
        expected: Option<Fence>,
        /// What there is.
        found: Option<Fence>,
    },
    /// A number stands for another label set.
    #[error("record identity {number}: it stands for {holder} already")]
    Taken {
        /// The number.
        number: Identity,
        /// The label set it stands for.
        holder: LabelSet,
    },
    /// What is stored cannot be understood.
    #[error("read {what}: {problem}; was it written by a newer program?")]
    Unreadable {
        /// The key.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
}

fn failed(action: &'static str, problem: impl std::fmt::Display) -> StoreError {
    StoreError::Failed { action, problem: problem.to_string() }
}

fn unreadable(what: impl Into<String>, problem: impl Into<String>) -> StoreError {
    StoreError::Unreadable { what: what.into(), problem: problem.into() }
}
