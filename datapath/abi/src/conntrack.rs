//! Tracked flows. An entry carries what its first packet found out, so that later ones need one look-up.

use crate::{
    address::{Addr4, NetPort},
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
    pub struct Path [12] {
        /// [`PATH_STACK`], [`PATH_LOCAL`], [`PATH_REMOTE`] or [`PATH_HOST`].
        0 => pub kind: u8,
        /// Zero.
        1 => pub spare: u8,
        /// Hardware address of the local pod.
        2 => pub mac: [u8; 6],
        /// Interface of the local pod (host side), or the IPv4 address of the remote node as [`Addr4`] has it: nodes are
        /// reached by those, whatever the family of the packet.
        8 => pub to: u32,
    }
}

impl Path {
    /// Into a pod of this node.
    #[inline(always)]
    pub const fn local(ifindex: u32, mac: [u8; 6]) -> Self {
        Self { kind: PATH_LOCAL, spare: 0, mac, to: ifindex }
    }

    /// To another node.
    #[inline(always)]
    pub const fn remote(node: Addr4) -> Self {
        Self { kind: PATH_REMOTE, spare: 0, mac: [0; 6], to: node.be }
    }

    /// By the node's own stack: [`PATH_STACK`] or [`PATH_HOST`].
    #[inline(always)]
    pub const fn by_stack(kind: u8) -> Self {
        Self { kind, ..Self::zeroed() }
    }

    /// Whether it leads into the pod behind an interface.
    #[inline(always)]
    pub const fn is_into(&self, ifindex: u32) -> bool {
        self.kind == PATH_LOCAL && self.to == ifindex
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
    ///
    /// It is 64 bytes so that an element of its table is two lines of the cache: the kernel's head of 48 with the key of 16,
    /// and this.
    pub struct Flow [64] {
        /// The epoch it was judged in; of another epoch it is judged again before it is believed.
        0 => pub epoch: u64,
        /// Seconds of the monotonic clock when a packet was last seen.
        8 => pub last_seen: u32,
        /// Seconds of the monotonic clock when it was opened.
        12 => pub created: u32,
        /// Identity of who opened it, when last judged.
        16 => pub opener_identity: u32,
        /// Identity of who was called, when last judged.
        20 => pub target_identity: u32,
        /// Rule number of the egress verdict (of the opener's class); 0 where it is judged elsewhere.
        24 => pub egress_rule: u32,
        /// Rule number of the ingress verdict (of the target's class); 0 where it is judged elsewhere.
        28 => pub ingress_rule: u32,
        /// Class that refused it, when [`DENIED`].
        32 => pub refused_class: u32,
        /// Number of the drop reason, when [`DENIED`].
        36 => pub refused_reason: u8,
        /// [`OPENER_HIGH`] and [`DENIED`]; from bit [`REFUSED_BY`] on, when denied, the direction whose policy refused it.
        37 => pub flags: u8,
        /// What the opener sent: [`SENT`] and the bits after it. A byte an end, so that packets of both
        /// directions write theirs without an atomic operation.
        38 => pub opener_sent: u8,
        /// What the target sent.
        39 => pub target_sent: u8,
        /// Path of packets from the opener.
        40 => pub forward: Path,
        /// Path of packets to the opener.
        52 => pub reply: Path,
    }
}

/// The `high` side of the key opened the flow.
pub const OPENER_HIGH: u8 = 1;
/// When judged again the verdict was *deny*; packets of either direction are dropped while the epoch lasts.
pub const DENIED: u8 = 2;
/// How far the direction stands from the lowest bit of a flow's flags.
pub const REFUSED_BY: u8 = 2;

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
    FLOWS4 = "weft_flows4" v 3, Kernel, FlowKey4 => Flow, 1 << 18
}
map_spec! {
    /// LRU hash: flows nobody answered yet, apart, so that a scan cannot push out what lives.
    PENDING4 = "weft_pending4" v 3, Kernel, FlowKey4 => Flow, 1 << 16
}
