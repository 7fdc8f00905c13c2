//! The node's own state that every program reads: the epoch.

use crate::map::map_spec;

abi! {
    /// The one entry of [`NODE_STATE`].
    pub struct NodeState [32] {
        /// Counts changes that may alter a verdict or a path. Read before anything else is looked up;
        /// bumped after an edit is complete. Starts at 1, so that 0 is never current.
        0 => pub epoch: u64,
        /// [`crate::ABI_VERSION`] of whoever made the maps.
        8 => pub abi_version: u32,
        /// Zero.
        12 => pub spare: [u8; 20],
    }
}

map_spec! {
    /// Array of one: 0 → [`NodeState`].
    NODE_STATE = "weft_node_state" v 1, Agent, u32 => NodeState, 1
}
