//! Records for user space. Drops are told once a flow, direction, reason and second.

use crate::{Dropped, count, maps, parse::Packet};
use aya_ebpf::{helpers::bpf_ktime_get_ns, maps::ring_buf::RingBufEntry, programs::TcContext};
use weft_abi::{
    address::Addr,
    conntrack::Flow,
    event::{EVENT_ALLOWED, EVENT_DROP, EVENT_VERSION, Event, Muted},
    metrics::NOTICE_EVENTS_LOST,
    policy::{EGRESS, INGRESS},
};
use weft_verdict::conntrack::{self, Side, TCP};

const SECOND: u64 = 1_000_000_000;

/// A flow was judged and let pass.
#[inline(always)]
pub fn allowed(ctx: &TcContext, packet: &Packet, flow: &Flow, epoch: u64) {
    let direction = if flow.egress_rule != 0 { EGRESS } else { INGRESS };
    let Some(mut entry) = reserve() else { return };
    let event = entry.as_mut_ptr();
    // SAFETY: reserved for one event; written whole before it is submitted.
    unsafe {
        fill(event, ctx, packet);
        (*event).kind = EVENT_ALLOWED;
        (*event).direction = direction;
        (*event).epoch = epoch;
        (*event).source_identity = flow.opener_identity;
        (*event).destination_identity = flow.target_identity;
        (*event).egress_rule = flow.egress_rule;
        (*event).ingress_rule = flow.ingress_rule;
    }
    entry.submit(0);
}

/// A packet was dropped.
#[inline(always)]
pub fn dropped(ctx: &TcContext, packet: &Packet, dropped: &Dropped, point: u8, ethertype: u16) {
    let Some(suppressed) = unmuted(packet, dropped) else { return };
    let Some(mut entry) = reserve() else { return };
    let event = entry.as_mut_ptr();
    // SAFETY: as in `allowed`.
    unsafe {
        fill(event, ctx, packet);
        (*event).kind = EVENT_DROP;
        (*event).reason = dropped.reason.number();
        (*event).direction = dropped.direction;
        (*event).epoch = crate::world::epoch();
        (*event).source_identity = dropped.identities[0];
        (*event).destination_identity = dropped.identities[1];
        (*event).egress_rule = dropped.rules[0];
        (*event).ingress_rule = dropped.rules[1];
        (*event).class = dropped.class;
        (*event).suppressed = suppressed;
        (*event).point = point;
        (*event).ethertype = ethertype;
    }
    entry.submit(0);
}

/// Room for one event. When nobody reads there is none; that is counted.
#[inline(always)]
fn reserve() -> Option<RingBufEntry<Event>> {
    let entry = maps::WEFT_EVENTS.reserve::<Event>(0);
    if entry.is_none() {
        count::notice(NOTICE_EVENTS_LOST);
    }
    entry
}

/// How many were held back, if this one is to be told.
#[inline(always)]
fn unmuted(packet: &Packet, dropped: &Dropped) -> Option<u32> {
    let (mut key, side) = conntrack::key(&packet.tuple);
    // Who asks which end's packets are dropped is not answered by the other end's.
    key.spare = [dropped.reason.number(), u8::from(side == Side::High), 0];
    // SAFETY: a helper without arguments.
    let second = (unsafe { bpf_ktime_get_ns() } / SECOND) as u32;
    if let Some(muted) = maps::WEFT_MUTED4.get_ptr_mut(key) {
        // SAFETY: a map value; a lost count under a race is one of many.
        let muted = unsafe { &mut *muted };
        if muted.second == second {
            muted.suppressed = muted.suppressed.wrapping_add(1);
            return None;
        }
        let suppressed = muted.suppressed;
        *muted = Muted { second, suppressed: 0 };
        return Some(suppressed);
    }
    let _ = maps::WEFT_MUTED4.insert(key, Muted { second, suppressed: 0 }, 0);
    Some(0)
}

/// What every event tells of its packet; zeroes the rest.
///
/// # Safety
/// `event` must be valid for writes.
#[inline(always)]
unsafe fn fill(event: *mut Event, ctx: &TcContext, packet: &Packet) {
    let tuple = &packet.tuple;
    // SAFETY: the caller's promise.
    unsafe {
        event.write(Event::zeroed());
        (*event).version = EVENT_VERSION;
        (*event).length = size_of::<Event>() as u16;
        (*event).protocol = tuple.protocol;
        (*event).tcp_flags = if tuple.protocol == TCP { tuple.control } else { 0 };
        (*event).time = bpf_ktime_get_ns();
        (*event).source = Addr::from4(tuple.source);
        (*event).destination = Addr::from4(tuple.destination);
        (*event).source_port = tuple.source_port;
        (*event).destination_port = tuple.destination_port;
        (*event).icmp = packet.icmp;
        (*event).family = if tuple.protocol == 0 { 0 } else { 4 };
        (*event).ifindex = (*ctx.skb.skb).ifindex;
        (*event).packet_length = ctx.len() as u16;
    }
}
