//! Fragments: what a first one said is remembered, and what a later one is of is looked up.

use crate::{
    maps,
    parse::{self, Packet},
    table::seconds,
};
use aya_ebpf::programs::TcContext;
use weft_abi::{drop::DropReason, fragment::FragmentKey4};
use weft_verdict::fragment::{self, Piece};

/// Gives a later fragment the ports of its datagram's flow.
#[inline(always)]
pub fn resolve(ctx: &TcContext, packet: &mut Packet) -> Result<(), DropReason> {
    // SAFETY: a value is copied out; what another CPU tears is judged as the flow that it then names.
    let look_up = |key: &_| maps::WEFT_FRAGMENTS4.get_ptr(key).map(|value| unsafe { *value });
    let found = fragment::find(&packet.tuple, parse::id(ctx), seconds(), look_up);
    let found = found.ok_or(DropReason::FirstFragmentUnknown)?;
    packet.icmp = found.icmp;
    packet.tuple.source_port = found.source_port;
    packet.tuple.destination_port = found.destination_port;
    packet.tuple.policy_port = found.policy_port;
    Ok(())
}

/// Before a first fragment is judged: whatever becomes of it, the others are of its flow.
#[inline(always)]
pub fn remember(ctx: &TcContext, packet: &Packet) {
    if packet.piece == Piece::First {
        keep(packet, fragment::datagram(&packet.tuple, parse::id(ctx)));
    }
}

/// After a first fragment passed.
#[inline(always)]
pub fn remember_passed(packet: &Packet) {
    if packet.piece == Piece::First {
        keep(packet, fragment::latest(&packet.tuple));
    }
}

/// What finds no room leaves later fragments unknown; they are counted.
#[inline(always)]
fn keep(packet: &Packet, key: FragmentKey4) {
    let first = fragment::first(&packet.tuple, packet.icmp, seconds());
    let _ = maps::WEFT_FRAGMENTS4.insert(key, first, 0);
}
