//! Tracked flows. An entry carries what its first packet found out, so that later ones need one look-up.

use crate::{
    address::{Addr, Addr4, NetPort},
    map::map_spec,
};

abi! {
    /// A flow, the same key for both directions: the lower (address, port), compared as network-order
    /// bytes, is `low`. For ICMP echo the asker's port is the identifier and the other's [`ECHO_PORT`],
    /// so that two who ask each other under one identifier have a flow each; for other ICMP the
    /// sender's port is the type and the other's zero, so that it is a flow of one direction.
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

impl FlowKey4 {
    /// The key of a flow between two ends, the lower first.
    #[inline(always)]
    pub const fn of(low: (Addr4, NetPort), high: (Addr4, NetPort), protocol: u8) -> Self {
        Self {
            low_addr: low.0,
            high_addr: high.0,
            low_port: low.1,
            high_port: high.1,
            protocol,
            spare: [0; 3],
        }
    }
}

/// The port of whoever is asked by an ICMP echo: no ICMP type, so that no other ICMP has the same key.
pub const ECHO_PORT: u16 = 0xffff;

abi! {
    /// Where a packet goes.
    pub struct Path [32] {
        /// [`PATH_STACK`], [`PATH_LOCAL`], [`PATH_REMOTE`] or [`PATH_HOST`].
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
/// To an address of this node: its stack takes it. Apart from [`PATH_STACK`], so that what comes from
/// the network under such an address is told by the flow's entry alone.
pub const PATH_HOST: u8 = 3;

abi! {
    /// A tracked flow, shared by both families. Judged again, it is replaced whole in one step; only
    /// `last_seen` and what each end sent are written in place.
    pub struct Flow [112] {
        /// The epoch it was judged in; of another epoch it is judged again before it is believed.
        0 => pub epoch: u64,
        /// Seconds of the monotonic clock when a packet was last seen.
        8 => pub last_seen: u32,
        /// Seconds of the monotonic clock when it was opened.
        12 => pub created: u32,
        /// [`OPENER_HIGH`] and [`DENIED`].
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
        /// What the opener sent: [`SENT`] and the bits after it. A byte an end, so that packets of both
        /// directions write theirs without an atomic operation.
        42 => pub opener_sent: u8,
        /// What the target sent.
        43 => pub target_sent: u8,
        /// Zero.
        44 => pub spare: [u8; 4],
        /// Path of packets from the opener.
        48 => pub forward: Path,
        /// Path of packets to the opener.
        80 => pub reply: Path,
    }
}

/// The `high` side of the key opened the flow.
pub const OPENER_HIGH: u32 = 1;
/// When judged again the verdict was *deny*; packets of either direction are dropped while the epoch lasts.
pub const DENIED: u32 = 2;

/// This end sent a packet that passed.
pub const SENT: u8 = 1;
/// This end said that it sends no more: a TCP FIN, an SCTP SHUTDOWN.
pub const SENT_FIN: u8 = 2;
/// This end gave the connection up, and sent nothing else since: a TCP RST, an SCTP ABORT.
pub const SENT_RESET: u8 = 4;
/// This end heard the other: a TCP ACK without SYN, of SCTP any chunk but an INIT or its answer.
pub const SENT_ACK: u8 = 8;

map_spec! {
    /// Hash, never evicted silently: flows that were answered.
    FLOWS4 = "weft_flows4" v 2, Kernel, FlowKey4 => Flow, 1 << 18
}
map_spec! {
    /// LRU hash: flows nobody answered yet, apart, so that a scan cannot push out what lives.
    PENDING4 = "weft_pending4" v 2, Kernel, FlowKey4 => Flow, 1 << 16
}
