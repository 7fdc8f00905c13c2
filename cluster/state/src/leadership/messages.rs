//! What a leader is told, and what it wants done.

use crate::{
    CommandV1,
    retirement::{Grace, Seen},
};
use weft_types::{
    Batch, Cluster, Fence, Identity, IdentitySpace, LabelFilter, LabelSet, NodeName, Object,
    Revision,
};

/// What a request is answered by.
pub type RequestId = u64;
/// Why a change is invalid that needs a number when none is free.
pub const NO_NUMBER: &str = "every number of the cluster is taken";
/// What an answer of the store is known by.
pub type Operation = u64;
/// What a proposal is known by; counts up in a life of the process.
pub type Ticket = u64;

/// How a leader behaves.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that wait; more are refused.
    pub waiting: usize,
    /// Keys in one transaction of the store; etcd takes 128, the fence's among them.
    pub transaction: usize,
    /// Commands that are put in order at once, while another one goes to the store.
    pub ordering: usize,
    /// Ticks after which an answer of the store is not waited for any more.
    pub patience: u32,
    /// Ticks before the store is tried again.
    pub pause: u32,
    /// Ticks for which the store fails before another member is to lead, whom it may answer; [`SELDOM`] times as many where it
    /// has not answered once since the election, since then it fails others, too.
    pub yields: u32,
    /// When numbers that nobody refers to are free.
    pub grace: Grace,
}

/// See [`Limits::yields`].
pub const SELDOM: u32 = 10;

impl Default for Limits {
    fn default() -> Self {
        let grace = Grace::default();
        let (waiting, transaction, ordering) = (16 << 10, 120, 4);
        Self { waiting, transaction, ordering, patience: 30, pause: 5, yields: 30, grace }
    }
}

/// A change of the desired state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Objects to add or replace.
    pub put: Vec<Object>,
    /// Objects to remove; kind and name count.
    pub remove: Vec<Object>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// This operator leads in a term, and everything that was committed before is in the state.
    Led(u64),
    /// It leads no more.
    Deposed,
    /// Somebody wants a change.
    Asked(RequestId, Change),
    /// Somebody wants a number for a label set, whoever has its labels.
    Number(RequestId, LabelSet),
    /// Other labels of pods are to make identities.
    Filter(RequestId, LabelFilter),
    /// The store answered.
    Stored(Operation, Result<Stored, Trouble>),
    /// A proposal is committed, and in the state, which is of this revision then.
    Ordered(Ticket, Revision),
    /// A proposal is not in the log and never will be; or nobody knows.
    Refused(Ticket),
    /// What is known of a node has changed; said whether this operator leads or not.
    Node(NodeName, Seen),
    /// A tick's time passed.
    Tick {
        /// The last entry of the log that every member of the group is known to know to be committed; 0 where nobody leads here.
        everywhere: u64,
        /// The newest version of entries that every member of the group is known to know; 0 where that is not known of one.
        known: u8,
    },
}

/// What the store is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Whose it is, and its fence.
    Founded,
    /// To have another fence, if it has this one.
    Raise(Option<Fence>, Fence),
    /// All it holds.
    List,
    /// To take a batch, if it has this fence.
    Write(Fence, Batch),
}

/// What the store says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The cluster and its fence; none before one is founded.
    Founded(Option<(Cluster, Fence)>),
    /// Done, and durable.
    Done,
    /// All it holds.
    Contents(Contents),
}

/// All that a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Numbers and their label sets.
    pub identities: Vec<(Identity, LabelSet)>,
    /// The number that was given last when some were forgotten.
    pub given: Option<Identity>,
    /// What sources want.
    pub objects: Vec<Object>,
}

/// Why the store did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing was changed.
    Failed,
    /// It was done, or not, or will be.
    Ambiguous,
    /// It has another fence.
    Fenced,
    /// A number stands for another label set.
    Taken,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the store.
    Store(Operation, Ask),
    /// Put a command in order that the store has under this fence, in its term and no other.
    Propose(Ticket, Fence, CommandV1),
    /// Answer a request.
    Answer(RequestId, Verdict),
    /// Let another member lead: the store fails this one.
    Yield,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is so: in the store, in the log, in the state.
    Done,
    /// It cannot be.
    Invalid(String),
    /// Another operator is to be asked; nothing of it was begun.
    NotLeading,
    /// It was begun, and another operator leads now, which may find it in the store and bring it to its end.
    Unknown,
    /// Too much waits.
    Busy,
    /// An operator of an older release may be of the group: it can be when the group is of this version.
    TooOld(u8),
}

/// What is wrong with a store for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is another cluster's.
    #[error("the store is of cluster {0}, this operator of another: give it its own store")]
    OtherCluster(String),
    /// Its numbers are others.
    #[error(
        "the store is of a cluster with identities of {store}, this operator of one with {asked}"
    )]
    OtherSpace {
        /// The store's.
        store: IdentitySpace,
        /// This operator's.
        asked: IdentitySpace,
    },
    /// It is of another life of the cluster.
    #[error("the store is of generation {store}, the log of {log}: they are not of one life")]
    Apart {
        /// The store's.
        store: u16,
        /// The log's.
        log: u16,
    },
    /// It lacks writes that it had.
    #[error("the store went back from {known} to {}: it is an older copy", words(*.store))]
    Behind {
        /// Its fence; none when it holds no cluster.
        store: Option<Fence>,
        /// What its fence was.
        known: Fence,
    },
    /// It lacks a number that was published.
    #[error("the store lacks identity {0}, which the log has: it is an older copy")]
    OldStore(Identity),
}

/// A fence that may not be there, in words.
fn words(fence: Option<Fence>) -> String {
    fence.map_or("nothing".to_owned(), |fence| fence.to_string())
}
