//! What a tracked flow makes of its next packet. Pure: the caller looks up, counts and writes.

use crate::connection::{self, State};
use weft_abi::{
    address::{Addr4, NetPort},
    conntrack::{
        DENIED, Flow, FlowKey4, OPENER_HIGH, PATH_HOST, PATH_LOCAL, Path, SENT, SENT_FIN,
        SENT_RESET,
    },
};

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
    control: 0,
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
    /// TCP's flags, or what SCTP's first chunk means in them ([`crate::sctp`]); zero for others and for later fragments.
    pub control: u8,
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
        TCP | SCTP => opens(tuple) && (!from_opener || closing(flow)),
        ICMP => !from_opener && tuple.policy_port == NetPort::from_host(ICMP_ECHO as u16),
        _ => false,
    }
}

/// Whether a protocol makes connections.
#[inline(always)]
pub fn connects(protocol: u8) -> bool {
    matches!(protocol, TCP | SCTP)
}

/// Whether a packet may be the first of its flow.
#[inline(always)]
pub fn opens(tuple: &Tuple) -> bool {
    !connects(tuple.protocol) || connection::opens(tuple.control)
}

/// Whether a packet is one of those that open a connection: the first, or its answer.
#[inline(always)]
pub fn is_of_opening(tuple: &Tuple) -> bool {
    connects(tuple.protocol) && tuple.control & connection::SYN != 0
}

/// Whether anything may follow a packet that has no flow: after what gives a connection up nothing does.
#[inline(always)]
pub fn begins_something(tuple: &Tuple) -> bool {
    !connects(tuple.protocol) || tuple.control & connection::RST == 0
}

/// Whether the sender of a packet of this flow is the pod behind an interface.
#[inline(always)]
pub fn sender_is_behind(flow: &Flow, from_opener: bool, ifindex: u32) -> bool {
    path(flow, !from_opener).is_into(ifindex)
}

/// Whether a packet of this flow may come from the network: not under an address of this node or
/// of one of its pods.
#[inline(always)]
pub fn sender_is_elsewhere(flow: &Flow, from_opener: bool) -> bool {
    !matches!(path(flow, !from_opener).kind, PATH_LOCAL | PATH_HOST)
}

/// Whether an end of the flow's connection said that it is done.
#[inline(always)]
pub fn closing(flow: &Flow) -> bool {
    (flow.opener_sent | flow.target_sent) & (SENT_FIN | SENT_RESET) != 0
}

/// What a packet's sender has sent, once the packet passed.
#[inline(always)]
pub fn sent(before: u8, tuple: &Tuple) -> u8 {
    if connects(tuple.protocol) { connection::after(before, tuple.control) } else { before | SENT }
}

/// Whether a flow belongs among the answered. A connection does while it is open both ways: not before the opener heard
/// the answer, which one who sends from others' addresses does not, and an answer that ends it needs no room there.
#[inline(always)]
pub fn belongs_among_answered(protocol: u8, flow: &Flow) -> bool {
    if connects(protocol) {
        matches!(connection::state(flow), State::Established | State::HalfClosed)
    } else {
        flow.target_sent & SENT != 0
    }
}

/// The path of a packet.
#[inline(always)]
pub fn path(flow: &Flow, from_opener: bool) -> &Path {
    if from_opener { &flow.forward } else { &flow.reply }
}
