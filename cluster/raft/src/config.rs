//! How a node behaves.

use crate::MemberId;

/// What a node is told when it is made. Times are in ticks, whose length the shell chooses.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Which member it is; never used by another, nor again after its disk is lost.
    pub member: MemberId,
    /// Another number in each life of the process: what an earlier life proposed is not this one's.
    pub life: u64,
    /// Makes members time out at different ticks when their turns did not help.
    pub seed: u64,
    /// Ticks without a leader before an election; up to twice as many, so that members do not stand at once.
    pub election_ticks: u16,
    /// Ticks between a leader's signs of life.
    pub heartbeat_ticks: u16,
    /// Entries kept in memory behind a compaction, so that who is a little behind needs no snapshot.
    pub kept_entries: u16,
    /// Bytes of a snapshot in one message.
    pub chunk_bytes: u32,
}

impl Config {
    /// Ten ticks to an election and two between signs of life, as etcd and tikv have it by proportion.
    pub const fn new(member: MemberId, life: u64, seed: u64) -> Self {
        Self {
            member,
            life,
            seed,
            election_ticks: 10,
            heartbeat_ticks: 2,
            kept_entries: 1024,
            chunk_bytes: 256 << 10,
        }
    }
}
