//! Counters by reason and direction.

use crate::map::map_spec;

abi! {
    /// One counter of one CPU.
    pub struct Counter [16] {
        /// Packets.
        0 => pub packets: u64,
        /// Bytes.
        8 => pub bytes: u64,
    }
}

/// Directions a reason is counted in: unknown (0), [`crate::policy::INGRESS`], [`crate::policy::EGRESS`], spare.
pub const DIRECTIONS: u32 = 4;

/// What is counted beside what is forwarded (reason 0) and dropped ([`crate::drop::DropReason`]): numbers
/// that Hubble's drop reasons do not reach.
///
/// A packet of TCP or SCTP that opens nothing and has no flow was judged as if it opened one.
pub const NOTICE_MID_STREAM: u8 = 254;
/// A flow was answered while the table of the answered was full: it stays among the unanswered,
/// where newer flows may push it out.
pub const NOTICE_FLOWS_FULL: u8 = 255;

/// An event found no room in the ring and was not told.
pub const NOTICE_EVENTS_LOST: u8 = 253;

/// Index of a reason's counter; reason 0 counts what was forwarded.
pub const fn metrics_index(reason: u8, direction: u8) -> u32 {
    reason as u32 * DIRECTIONS + (direction as u32 % DIRECTIONS)
}

map_spec! {
    /// Per-CPU array: [`metrics_index`] → [`Counter`].
    METRICS = "weft_metrics" v 1, Kernel, u32 => Counter, 256 * DIRECTIONS
}
