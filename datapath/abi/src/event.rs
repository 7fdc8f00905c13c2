//! What programs tell user space: typed records in a ring buffer.

use crate::{
    address::{Addr, NetPort},
    map::map_spec,
};

/// Version of [`Event`], the first byte of each.
pub const EVENT_VERSION: u8 = 1;

/// A packet was dropped; `reason` says why.
pub const EVENT_DROP: u8 = 1;
/// A flow's first packet was judged and let pass.
pub const EVENT_ALLOWED: u8 = 2;

abi! {
    /// One event. Ports and addresses are of the packet as it was seen.
    pub struct Event [128] {
        /// [`EVENT_VERSION`].
        0 => pub version: u8,
        /// [`EVENT_DROP`] or [`EVENT_ALLOWED`].
        1 => pub kind: u8,
        /// Bytes of this record.
        2 => pub length: u16,
        /// [`crate::drop::DropReason`] as a number; 0 when not dropped.
        4 => pub reason: u8,
        /// [`crate::policy::INGRESS`] or [`crate::policy::EGRESS`]: whose policy decided.
        5 => pub direction: u8,
        /// TCP flags as they stand in the header (FIN is bit 0); zero for others.
        6 => pub tcp_flags: u8,
        /// IP protocol number.
        7 => pub protocol: u8,
        /// The epoch the verdict was given in.
        8 => pub epoch: u64,
        /// Nanoseconds of the monotonic clock (`bpf_ktime_get_ns`).
        16 => pub time: u64,
        /// Source.
        24 => pub source: Addr,
        /// Destination.
        40 => pub destination: Addr,
        /// Source port.
        56 => pub source_port: NetPort,
        /// Destination port.
        58 => pub destination_port: NetPort,
        /// Source identity.
        60 => pub source_identity: u32,
        /// Destination identity.
        64 => pub destination_identity: u32,
        /// Rule number of the egress verdict, 0 for none.
        68 => pub egress_rule: u32,
        /// Rule number of the ingress verdict, 0 for none.
        72 => pub ingress_rule: u32,
        /// Class whose policy decided.
        76 => pub class: u32,
        /// Interface the packet was seen at.
        80 => pub ifindex: u32,
        /// Events of this flow and reason that were held back since the one before.
        84 => pub suppressed: u32,
        /// [`POINT_FROM_POD`] and so on: the program that saw it.
        88 => pub point: u8,
        /// 4 or 6; 0 when it is neither.
        89 => pub family: u8,
        /// ICMP type and code; zero for others.
        90 => pub icmp: [u8; 2],
        /// EtherType in host order when it is not IP.
        92 => pub ethertype: u16,
        /// Length of the packet in bytes.
        94 => pub packet_length: u16,
        /// Zero.
        96 => pub spare: [u8; 32],
    }
}

/// Seen by `from_pod`.
pub const POINT_FROM_POD: u8 = 1;
/// Seen by `to_pod`.
pub const POINT_TO_POD: u8 = 2;
/// Seen by `from_net`.
pub const POINT_FROM_NET: u8 = 3;

map_spec! {
    /// Ring buffer of [`Event`]; the capacity is bytes.
    EVENTS = "weft_events" v 1, Kernel, [u8; 0] => [u8; 0], 1 << 22
}

abi! {
    /// When a flow's drop was told last.
    pub struct Muted [8] {
        /// Second of the monotonic clock.
        0 => pub second: u32,
        /// Events held back since.
        4 => pub suppressed: u32,
    }
}

map_spec! {
    /// LRU hash: flow, with the drop reason in the first spare byte of the key and in the second whether the
    /// packet came from the key's higher end → [`Muted`].
    MUTED4 = "weft_muted4" v 1, Kernel, crate::conntrack::FlowKey4 => Muted, 1 << 13
}
