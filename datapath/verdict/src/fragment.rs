//! Which flow a fragment belongs to. Only the first of a datagram carries ports; the others are of its flow.
//!
//! One that comes before its first is taken for a piece of the flow that last sent a first fragment between the same
//! two ends, and judged as such. So whoever reorders all fragments costs a flow one datagram in 30 s, not each. It lets
//! nobody do more: only who may send fragments from here to there anyway has such a flow, and without a first
//! fragment of its own, which is judged by its own ports, no datagram is ever put together.

use crate::conntrack::{TCP, Tuple};
use weft_abi::fragment::{DATAGRAM, FragmentKey4, Fragmented, LATEST};

/// Seconds that a first fragment is remembered: as long as Linux waits for the rest (`net.ipv4.ipfrag_time`).
pub const LIFETIME: u32 = 30;

/// "More fragments", and the offset in units of eight bytes, of an IPv4 header's word.
const MORE: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// Which piece of its datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// All of it.
    Whole,
    /// The one with the transport header.
    First,
    /// Another.
    Later,
    /// One that would write over the transport header: TCP's flags stand in its second eight bytes (RFC 3128).
    Overlapping,
}

/// The piece by the header's word of flags and offset, in host order.
#[inline(always)]
pub fn piece(word: u16, protocol: u8) -> Piece {
    match (word & OFFSET, word & MORE) {
        (0, 0) => Piece::Whole,
        (0, _) => Piece::First,
        (1, _) if protocol == TCP => Piece::Overlapping,
        _ => Piece::Later,
    }
}

/// The datagram of a packet.
#[inline(always)]
pub fn datagram(tuple: &Tuple, id: u16) -> FragmentKey4 {
    FragmentKey4 {
        source: tuple.source,
        destination: tuple.destination,
        id,
        protocol: tuple.protocol,
        scope: DATAGRAM,
    }
}

/// The latest datagram between the ends of a packet.
#[inline(always)]
pub fn latest(tuple: &Tuple) -> FragmentKey4 {
    FragmentKey4 { scope: LATEST, ..datagram(tuple, 0) }
}

/// What a first fragment says of the others.
#[inline(always)]
pub fn first(tuple: &Tuple, icmp: [u8; 2], now: u32) -> Fragmented {
    Fragmented {
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
        policy_port: tuple.policy_port,
        icmp,
        seen: now,
    }
}

/// What is known of a later fragment: by its own first one, else by the latest between its ends.
#[inline(always)]
pub fn find(
    tuple: &Tuple,
    id: u16,
    now: u32,
    look_up: impl Fn(&FragmentKey4) -> Option<Fragmented>,
) -> Option<Fragmented> {
    let known = |key| look_up(&key).filter(|fragmented| !is_over(fragmented, now));
    known(datagram(tuple, id)).or_else(|| known(latest(tuple)))
}

/// Whether a first fragment may be forgotten at `now`, in seconds of the clock that stamps it.
#[inline(always)]
pub fn is_over(fragmented: &Fragmented, now: u32) -> bool {
    // One that came after `now` was read makes the difference negative: not over.
    now.wrapping_sub(fragmented.seen) as i32 > LIFETIME as i32
}
