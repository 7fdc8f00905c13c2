//! The durable store of the operators.
//!
//! What is in it survives every process: label sets and their numbers, the fence, and for one operator
//! its log. A number is in the store before any log entry names it.

mod file;

pub use file::FileStore;

use weft_types::{Identity, LabelSet};

/// Which life of the cluster this is; it goes up when a group is founded anew from a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u16);

/// One entry of the log, its command encoded by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// From 1.
    pub index: u64,
    /// The encoded command.
    pub command: Vec<u8>,
}

/// What an operator needs of a store. A call that returns has made its change durable.
pub trait Store: Send {
    /// The store's generation.
    fn generation(&self) -> Result<Generation, StoreError>;
    /// Every label set with its number.
    fn identities(&self) -> Result<Vec<(Identity, LabelSet)>, StoreError>;
    /// Records numbers for label sets, all or none.
    fn create_identities(&mut self, records: &[(Identity, LabelSet)]) -> Result<(), StoreError>;
    /// The log, oldest first.
    fn log(&self) -> Result<Vec<LogEntry>, StoreError>;
    /// Adds an entry.
    fn append(&mut self, entry: &LogEntry) -> Result<(), StoreError>;
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store failed.
    #[error("{action}: {problem}")]
    Failed {
        /// What was attempted.
        action: &'static str,
        /// What went wrong.
        problem: String,
    },
    /// What is stored cannot be understood.
    #[error("{0} in the store cannot be read: is it of a newer version?")]
    Unreadable(String),
}
