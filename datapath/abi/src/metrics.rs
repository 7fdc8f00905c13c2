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

/// Index of a reason's counter; reason 0 counts what was forwarded.
pub const fn metrics_index(reason: u8, direction: u8) -> u32 {
    reason as u32 * DIRECTIONS + (direction as u32 % DIRECTIONS)
}

map_spec! {
    /// Per-CPU array: [`metrics_index`] → [`Counter`].
    METRICS = "weft_metrics" v 1, Kernel, u32 => Counter, 256 * DIRECTIONS
}
