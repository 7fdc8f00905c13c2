//! A sans-io Raft node: it orders the commands of the replicated state.
//!
//! One synchronous [`Node::step`] takes what happened – time passed, a peer spoke, a write is on the disk – and says what
//! is to be done: bytes to write, messages to send, entries that are committed. Consensus is tikv's `raft`; what is here
//! decides when a message may leave (never before the writes it vouches for), what becomes of every proposal, how a
//! snapshot travels, and who is of the group. No clock, no disk, no socket, no randomness of its own.
#![warn(
    clippy::wildcard_enum_match_arm,
    reason = "whoever adds a case is shown every place that it concerns"
)]

mod config;
mod convert;
mod disk;
mod entry;
mod group;
mod log;
mod memory;
mod message;
mod node;
mod proposals;
mod snapshots;

pub use config::Config;
pub use disk::{Disk, Saved, SavedSnapshot, Truncate, Vote, Write};
pub use entry::{Body, Entry, Origin};
pub use group::{Change, Group, Member, MemberId, MemberRole};
pub use memory::MemoryDisk;
pub use message::{
    Answer, Chunk, Envelope, Hello, Kind, Malformed, OLDEST_PEER, PEER_VERSION, PeerMessage,
    RaftMessage, decode, encode,
};
pub use node::{Applied, Committed, Input, Node, NodeError, Output, Role, Status};
pub use proposals::{Proposal, Refusal, Ticket};

/// A place in the log, from 1.
pub type Index = u64;
/// Which leader, from 1; none leads twice in the same.
pub type Term = u64;
