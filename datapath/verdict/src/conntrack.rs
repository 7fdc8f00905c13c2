//! What a tracked flow makes of its next packet. Pure: the caller looks up, counts and writes.

use weft_abi::{
    address::{Addr4, NetPort},
    conntrack::{
        DENIED, Flow, FlowKey4, OPENER_HIGH, PATH_HOST, PATH_LOCAL, Path, SENT, SENT_FIN,
        SENT_RESET,
    },
};

/// TCP's FIN flag as it stands in the header.
pub const TCP_FIN: u8 = 1;
/// TCP's SYN flag.
pub const TCP_SYN: u8 = 2;
/// TCP's RST flag.
pub const TCP_RST: u8 = 4;
/// TCP's ACK flag.
pub const TCP_ACK: u8 = 16;
/// IP protocol numbers that matter here.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// SCTP.
pub const SCTP: u8 = 132;

/// Type of an ICMP echo reply.
pub const ICMP_ECHO_REPLY: u8 = 0;
/// Type of an ICMP echo request.
pub const ICMP_ECHO: u8 = 8;

/// A tuple of nothing, to be filled.
pub const TUPLE_ZERO: Tuple = Tuple {
    source: Addr4::zeroed(),
    destination: Addr4::zeroed(),
    source_port: NetPort::zeroed(),
    destination_port: NetPort::zeroed(),
    policy_port: NetPort::zeroed(),
    protocol: 0,
    tcp_flags: 0,
};

/// The ends of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Who sent it.
    pub source: Addr4,
    /// Whom it is for.
    pub destination: Addr4,
    /// Source port; for ICMP as [`FlowKey4`] says.
    pub source_port: NetPort,
    /// Destination port; for ICMP as [`FlowKey4`] says.
    pub destination_port: NetPort,
    /// What policies are asked for: the destination port, or the ICMP type.
    pub policy_port: NetPort,
    /// IP protocol number.
    pub protocol: u8,
    /// TCP flags; zero for others.
    pub tcp_flags: u8,
}

/// Which side of a flow's key sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The lower (address, port).
    Low,
    /// The higher.
    High,
}

/// The key both directions share, and which side sent this packet.
#[inline(always)]
pub fn key(tuple: &Tuple) -> (FlowKey4, Side) {
    let source = (tuple.source.to_host(), tuple.source_port.to_host());
    let destination = (tuple.destination.to_host(), tuple.destination_port.to_host());
    let source_is_low = source <= destination;
    let key = FlowKey4::of(
        if source_is_low {
            (tuple.source, tuple.source_port)
        } else {
            (tuple.destination, tuple.destination_port)
        },
        if source_is_low {
            (tuple.destination, tuple.destination_port)
        } else {
            (tuple.source, tuple.source_port)
        },
        tuple.protocol,
    );
    (key, if source_is_low { Side::Low } else { Side::High })
}

/// What to do with a packet whose flow is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was judged in this epoch: leave by the path.
    Forward,
    /// It was judged, and refused, in this epoch.
    Refuse,
    /// It was judged in another epoch: judge the flow again in the direction that opened it.
    Rejudge,
    /// The old flow is over and this packet opens another.
    Reopen,
}

/// Whether the packet goes the way the flow was opened.
#[inline(always)]
pub fn from_opener(flow: &Flow, side: Side) -> bool {
    (flow.flags & OPENER_HIGH != 0) == matches!(side, Side::High)
}

/// What the flow makes of a packet.
#[inline(always)]
pub fn step(flow: &Flow, tuple: &Tuple, from_opener: bool, epoch: u64) -> Step {
    if reopens(flow, tuple, from_opener) {
        return Step::Reopen;
    }
    if flow.epoch != epoch {
        return Step::Rejudge;
    }
    if flow.flags & DENIED != 0 { Step::Refuse } else { Step::Forward }
}

/// Whether a packet under the key of a flow is the first of another: a SYN after the end of the
/// connection or from who was called, or an echo request where an unasked reply made the flow.
#[inline(always)]
fn reopens(flow: &Flow, tuple: &Tuple, from_opener: bool) -> bool {
    match tuple.protocol {
        TCP => opens(tuple) && (!from_opener || closing(flow)),
        ICMP => !from_opener && tuple.policy_port == NetPort::from_host(ICMP_ECHO as u16),
        _ => false,
    }
}

/// Whether a packet may be the first of its flow. A TCP packet that is not a SYN belongs to a
/// connection that is older than the table's memory of it.
#[inline(always)]
pub fn opens(tuple: &Tuple) -> bool {
    tuple.protocol != TCP || tuple.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN
}

/// Whether the sender of a packet of this flow is the pod behind an interface.
#[inline(always)]
pub fn sender_is_behind(flow: &Flow, from_opener: bool, ifindex: u32) -> bool {
    let back = path(flow, !from_opener);
    back.kind == PATH_LOCAL && back.ifindex == ifindex
}

/// Whether a packet of this flow may come from the network: not under an address of this node or
/// of one of its pods.
#[inline(always)]
pub fn sender_is_elsewhere(flow: &Flow, from_opener: bool) -> bool {
    !matches!(path(flow, !from_opener).kind, PATH_LOCAL | PATH_HOST)
}

/// Whether the flow's TCP connection is closing or closed.
#[inline(always)]
pub fn closing(flow: &Flow) -> bool {
    (flow.opener_sent | flow.target_sent) & (SENT_FIN | SENT_RESET) != 0
}

/// What a packet that passes adds to what its sender sent.
#[inline(always)]
pub fn sent(tuple: &Tuple) -> u8 {
    let mut sent = SENT;
    if tuple.protocol == TCP {
        if tuple.tcp_flags & TCP_FIN != 0 {
            sent |= SENT_FIN;
        }
        if tuple.tcp_flags & TCP_RST != 0 {
            sent |= SENT_RESET;
        }
    }
    sent
}

/// Whether a flow belongs among the answered. An answer that ended it needs no room there.
#[inline(always)]
pub fn belongs_among_answered(flow: &Flow) -> bool {
    flow.target_sent & SENT != 0 && (flow.opener_sent | flow.target_sent) & SENT_RESET == 0
}

/// The path of a packet.
#[inline(always)]
pub fn path(flow: &Flow, from_opener: bool) -> &Path {
    if from_opener { &flow.forward } else { &flow.reply }
}
