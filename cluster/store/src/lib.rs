//! The durable store of the operators, and each one's own disk.
//!
//! The store holds what survives every operator: label sets and their numbers, the objects that sources
//! want, and the fence. A number is in the store before any log entry names it. The disk holds a member's part of
//! the log that orders commands. A call that returned has made its change durable.

mod disk;
mod etcd;
mod keys;
mod memory;
mod store;
mod table;

pub use disk::FileDisk;
pub use etcd::{EtcdStore, EtcdTls};
pub use memory::{Comparing, MemoryStore};
pub use store::FileStore;
pub use weft_types::{Batch, Cluster, Fence};

use weft_raft::{Disk, MemberId, Saved};
use weft_types::{Identity, LabelSet, Object};

/// What operators need of a store.
pub trait Store: Send {
    /// The cluster and its fence; none before one is founded.
    fn founded(&self) -> Result<Option<(Cluster, Fence)>, StoreError>;
    /// Replaces the fence, or founds a cluster where there was none. `before` is compared.
    fn raise(
        &mut self,
        cluster: &Cluster,
        before: Option<Fence>,
        after: Fence,
    ) -> Result<(), StoreError>;
    /// Every number and its label set.
    fn identities(&self) -> Result<Vec<(Identity, LabelSet)>, StoreError>;
    /// The number that was given last when some were forgotten; none before that.
    fn given(&self) -> Result<Option<Identity>, StoreError>;
    /// Every object.
    fn objects(&self) -> Result<Vec<Object>, StoreError>;
    /// Writes a batch, if the fence is still this one; it is that of one more write then.
    fn write(&mut self, fence: Fence, batch: &Batch) -> Result<(), StoreError>;
}

/// What an operator needs of its own disk, beside its part of the log.
pub trait MemberDisk: Disk<Error = StoreError> + Send {
    /// Which founding of the cluster the log is of, and which member's; none before [`MemberDisk::found`].
    fn owner(&self) -> Result<Option<(u16, MemberId)>, StoreError>;
    /// Makes an empty disk a member's.
    fn found(&mut self, owner: (u16, MemberId), saved: &Saved) -> Result<(), StoreError>;
    /// Counts the lives of this member: a greater number each time, durable when this returns.
    fn begin_life(&mut self) -> Result<u64, StoreError>;
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
    /// It failed, and the change is there, or it is not, or it will be: another fence, then a look, is before anything else.
    #[error("{action}: {problem}; whether it was done is not known")]
    Ambiguous {
        /// What was attempted.
        action: &'static str,
        /// What went wrong.
        problem: String,
    },
    /// Another leader has written its fence, or the store is not what it was.
    #[error("{action}: {}", other_fence(*.expected, *.found))]
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
    #[error("read {what}: {problem}")]
    Unreadable {
        /// The key.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Fences only go up.
fn other_fence(expected: Option<Fence>, found: Option<Fence>) -> String {
    let words = |fence: Option<Fence>| fence.map_or("none".to_owned(), |fence| fence.to_string());
    let why = if found > expected {
        "another operator leads"
    } else {
        "an older copy of the store took its place"
    };
    format!("the fence is {}, not {}: {why}", words(found), words(expected))
}

fn failed(action: &'static str, problem: impl std::fmt::Display) -> StoreError {
    StoreError::Failed { action, problem: problem.to_string() }
}

fn unreadable(what: impl Into<String>, problem: impl Into<String>) -> StoreError {
    StoreError::Unreadable { what: what.into(), problem: problem.into() }
}
