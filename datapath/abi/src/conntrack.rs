//! Tracked flows. An entry carries what its first packet found out, so that later ones need one look-up.

use crate::{
    address::{Addr, Addr4, NetPort},
    map::map_spec,
};

abi! {
    /// A flow, the same key for both directions: the lower (address, port), compared as network-order
    /// bytes, is `low`. For ICMP echo both ports are the identifier; for other ICMP `low_port` is the
    /// type and `high_port` zero.
    pub struct FlowKey4 [16] {
        /// Low addr.
        0 => pub low_addr: Addr4,
        /// High addr.
        4 => pub high_addr: Addr4,
        /// Low port.
        8 => pub low_port: NetPort,
        /// High port.
        10 => pub high_port: NetPort,
        /// IP protocol number.
        12 => pub protocol: u8,
        /// Zero.
        13 => pub spare: [u8; 3],
    }
}

abi! {
    /// Where a packet goes.
    pub struct Path [32] {
        /// [`PATH_STACK`], [`PATH_LOCAL`] or [`PATH_REMOTE`].
        0 => pub kind: u8,
        /// Zero.
        1 => pub spare: u8,
        /// Hardware address of the local pod.
        2 => pub mac: [u8; 6],
        /// Interface to use: the pod's host side, or the node's device.
        8 => pub ifindex: u32,
        /// Zero.
        12 => pub spare2: u32,
        /// Next hop: the remote node.
        16 => pub next_hop: Addr,
    }
}

/// The node's own stack goes on with it.
pub const PATH_STACK: u8 = 0;
/// Into a pod of this node by `bpf_redirect_peer`.
pub const PATH_LOCAL: u8 = 1;
/// To another node by `bpf_redirect_neigh`.
pub const PATH_REMOTE: u8 = 2;

abi! {
    /// A tracked flow, shared by both families.
    pub struct Flow [112] {
        /// The epoch it was judged in; of another epoch it is judged again before it is believed.
        0 => pub epoch: u64,
        /// Seconds of the monotonic clock when a packet was last seen.
        8 => pub last_seen: u32,
        /// Seconds of the monotonic clock when it was opened.
        12 => pub created: u32,
        /// [`OPENER_HIGH`] and the flags after it.
        16 => pub flags: u32,
        /// Identity of who opened it, when last judged.
        20 => pub opener_identity: u32,
        /// Identity of who was called, when last judged.
        24 => pub target_identity: u32,
        /// Rule number of the egress verdict (of the opener's class); 0 where it is judged elsewhere.
        28 => pub egress_rule: u32,
        /// Rule number of the ingress verdict (of the target's class); 0 where it is judged elsewhere.
        32 => pub ingress_rule: u32,
        /// Class that refused it, when [`DENIED`].
        36 => pub refused_class: u32,
        /// Number of the drop reason, when [`DENIED`].
        40 => pub refused_reason: u8,
        /// Whose policy refused it, when [`DENIED`].
        41 => pub refused_direction: u8,
        /// Zero.
        42 => pub spare: [u8; 6],
        /// Path of packets from the opener.
        48 => pub forward: Path,
        /// Path of packets to the opener.
        80 => pub reply: Path,
    }
}

/// The `high` side of the key opened the flow.
pub const OPENER_HIGH: u32 = 1;
/// A packet came back: the flow lives in [`FLOWS4`].
pub const ANSWERED: u32 = 2;
/// When judged again the verdict was *deny*; packets of either direction are dropped while the epoch lasts.
pub const DENIED: u32 = 4;
/// The opener sent a FIN.
pub const OPENER_FIN: u32 = 8;
/// The target sent a FIN.
pub const TARGET_FIN: u32 = 16;
/// Someone sent a reset.
pub const RESET: u32 = 32;

map_spec! {
    /// Hash, never evicted silently: flows that were answered.
    FLOWS4 = "weft_flows4" v 1, Kernel, FlowKey4 => Flow, 1 << 18
}
map_spec! {
    /// LRU hash: flows nobody answered yet, apart, so that a scan cannot push out what lives.
    PENDING4 = "weft_pending4" v 1, Kernel, FlowKey4 => Flow, 1 << 16
}
