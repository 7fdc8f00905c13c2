//! The flow tables: one look-up for an established packet, a judgement for a first or a stale one.

use crate::{
    Dropped, Pass, event,
    maps::{self, Scratch},
    parse::Packet,
    world::{Kernel, epoch},
};
use aya_ebpf::{helpers::bpf_ktime_get_ns, programs::TcContext};
use weft_abi::{
    conntrack::{ANSWERED, DENIED, Flow, FlowKey4, OPENER_HIGH},
    drop::DropReason,
};
use weft_verdict::{
    conntrack::{self, Side, Step},
    flow::{Judgement, Opening, judge_flow},
};

const SECOND: u64 = 1_000_000_000;
/// Type of an ICMP echo request: what an echo flow was opened with.
const ICMP_ECHO: u16 = 8;

/// A tracked packet, before anything is known of its flow.
pub struct Tracked {
    key: FlowKey4,
    side: Side,
    epoch: u64,
}

/// The key of a packet and the epoch; taken before anything else is looked up.
#[inline(always)]
pub fn begin(packet: &Packet) -> Tracked {
    let epoch = epoch();
    let (key, side) = conntrack::key(&packet.tuple);
    Tracked { key, side, epoch }
}

/// The flow's entry, wherever it is.
#[inline(always)]
pub fn find(tracked: &Tracked) -> Option<*mut Flow> {
    match maps::WEFT_FLOWS4.get_ptr_mut(tracked.key) {
        Some(flow) => Some(flow),
        None => maps::WEFT_PENDING4.get_ptr_mut(tracked.key),
    }
}

/// What a packet of a known flow does; `None` when it opens another.
#[inline(always)]
pub fn follow(
    ctx: &TcContext,
    scratch: &mut Scratch,
    packet: &Packet,
    tracked: &Tracked,
    flow: *mut Flow,
) -> Option<Result<Pass, Dropped>> {
    // SAFETY: a map value's memory stays valid while the program runs; other CPUs may write it too,
    // each field whole, and the epoch last.
    let flow = unsafe { &mut *flow };
    let from_opener = conntrack::from_opener(flow, tracked.side);
    match conntrack::step(flow, &packet.tuple, tracked.epoch) {
        Step::Reopen => return None,
        Step::Refuse => {}
        Step::Forward => {}
        Step::Rejudge => rejudge(ctx, scratch, packet, tracked, flow, from_opener),
    }
    if flow.flags & DENIED != 0 {
        return Some(Err(refused(flow, from_opener)));
    }
    touch(packet, tracked, flow, from_opener);
    scratch.path.write(*conntrack::path(flow, from_opener));
    Some(Ok(Pass::ByPath))
}

/// Judges a first packet and makes its flow.
#[inline(always)]
pub fn open(
    ctx: &TcContext,
    scratch: &mut Scratch,
    packet: &Packet,
    tracked: &Tracked,
) -> Result<Pass, Dropped> {
    let tuple = &packet.tuple;
    let found = scratch.found.write(Judgement::NOTHING);
    judge_flow(
        &Kernel,
        &Opening {
            source: tuple.source,
            destination: tuple.destination,
            protocol: tuple.protocol,
            port: tuple.policy_port,
        },
        found,
    );
    if let Some(refusal) = found.refusal {
        return Err(Dropped {
            reason: refusal.reason,
            direction: refusal.direction,
            class: refusal.class,
            rules: [found.egress_rule, found.ingress_rule],
            identities: [found.opener, found.target],
        });
    }
    let flow = scratch.flow.write(Flow::zeroed());
    flow.created = seconds();
    flow.last_seen = flow.created;
    if matches!(tracked.side, Side::High) {
        flow.flags = OPENER_HIGH;
    }
    note(flow, found);
    flow.flags = conntrack::flags_after(flow, true, tuple);
    flow.epoch = tracked.epoch;
    // A closing flow of the same key gives way.
    let _ = maps::WEFT_FLOWS4.remove(tracked.key);
    if maps::WEFT_PENDING4.insert(tracked.key, &*flow, 0).is_err() {
        return Err(Dropped::bare(DropReason::FlowTableFull, 0));
    }
    event::allowed(ctx, packet, flow, tracked.epoch);
    scratch.path.write(flow.forward);
    Ok(Pass::ByPath)
}

/// Judges a flow again in the direction that opened it; a refused one stays as a refusal.
#[inline(always)]
fn rejudge(
    ctx: &TcContext,
    scratch: &mut Scratch,
    packet: &Packet,
    tracked: &Tracked,
    flow: &mut Flow,
    from_opener: bool,
) {
    let tuple = &packet.tuple;
    let opening = if from_opener {
        Opening {
            source: tuple.source,
            destination: tuple.destination,
            protocol: tuple.protocol,
            port: tuple.policy_port,
        }
    } else {
        Opening {
            source: tuple.destination,
            destination: tuple.source,
            protocol: tuple.protocol,
            port: if tuple.protocol == conntrack::ICMP {
                weft_abi::address::NetPort::from_host(ICMP_ECHO)
            } else {
                tuple.source_port
            },
        }
    };
    let found = scratch.found.write(Judgement::NOTHING);
    judge_flow(&Kernel, &opening, found);
    let was_denied = flow.flags & DENIED != 0;
    note(flow, found);
    // SAFETY: an aligned eight-byte write, after everything it vouches for.
    unsafe { core::ptr::write_volatile(&raw mut flow.epoch, tracked.epoch) };
    if was_denied && flow.flags & DENIED == 0 {
        event::allowed(ctx, packet, flow, tracked.epoch);
    }
}

/// Writes down what was found out.
#[inline(always)]
fn note(flow: &mut Flow, found: &Judgement) {
    flow.opener_identity = found.opener;
    flow.target_identity = found.target;
    flow.egress_rule = found.egress_rule;
    flow.ingress_rule = found.ingress_rule;
    match found.refusal {
        Some(refusal) => {
            flow.flags |= DENIED;
            flow.refused_class = refusal.class;
            flow.refused_reason = refusal.reason.number();
            flow.refused_direction = refusal.direction;
        }
        None => {
            flow.flags &= !DENIED;
            flow.forward = found.forward;
            flow.reply = found.reply;
        }
    }
}

/// The drop of a packet whose flow was refused.
#[inline(always)]
fn refused(flow: &Flow, from_opener: bool) -> Dropped {
    let (opener, target) = (flow.opener_identity, flow.target_identity);
    Dropped {
        reason: DropReason::from_number(flow.refused_reason).unwrap_or(DropReason::PolicyDenied),
        direction: flow.refused_direction,
        class: flow.refused_class,
        rules: [flow.egress_rule, flow.ingress_rule],
        identities: if from_opener { [opener, target] } else { [target, opener] },
    }
}

/// Marks what a packet that passes tells of its flow. An answer moves it to the table of the answered.
#[inline(always)]
fn touch(packet: &Packet, tracked: &Tracked, flow: &mut Flow, from_opener: bool) {
    let now = seconds();
    if flow.last_seen != now {
        flow.last_seen = now;
    }
    let flags = conntrack::flags_after(flow, from_opener, &packet.tuple);
    if flags == flow.flags {
        return;
    }
    let answered = flags & ANSWERED != 0 && flow.flags & ANSWERED == 0;
    flow.flags = flags;
    // When the table is full the flow stays among the unanswered, where it lives on while it is used.
    if answered && maps::WEFT_FLOWS4.insert(tracked.key, &*flow, 0).is_ok() {
        let _ = maps::WEFT_PENDING4.remove(tracked.key);
    }
}

#[inline(always)]
fn seconds() -> u32 {
    // SAFETY: a helper without arguments.
    (unsafe { bpf_ktime_get_ns() } / SECOND) as u32
}
