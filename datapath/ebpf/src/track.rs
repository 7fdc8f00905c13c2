//! A packet and its flow: one look-up for an established packet, a judgement for a first or a stale one.

use crate::{
    Dropped, Pass, count, event,
    maps::Scratch,
    parse::Packet,
    table::{self, Found, Table, Tracked, add_sent, begin, find, replace, seconds, settle, stamp},
    world::Kernel,
};
use aya_ebpf::programs::TcContext;
use core::mem::MaybeUninit;
use weft_abi::{
    address::NetPort,
    conntrack::{DENIED, Flow, OPENER_HIGH, Path, REFUSED_BY},
    drop::DropReason,
    metrics::NOTICE_MID_STREAM,
};
use weft_verdict::{
    conntrack::{self, ICMP, ICMP_ECHO, Side, Step, Tuple},
    flow::{Judgement, Opening, judge_flow},
    related::{self, Report},
};

/// Lets a packet go on with its flow, or opens one.
#[inline(always)]
pub fn pass(
    ctx: &TcContext,
    scratch: &mut Scratch,
    packet: &Packet,
    tracked: &Tracked,
    found: Option<Found>,
) -> Result<Pass, Dropped> {
    let Some(found) = found else { return open(ctx, scratch, packet, tracked, None) };
    match conntrack::step(found.flow(), &packet.tuple, found.from_opener, tracked.epoch) {
        Step::Reopen => open(ctx, scratch, packet, tracked, Some(found.table)),
        Step::Rejudge => rejudge(ctx, scratch, packet, tracked, &found),
        Step::Forward | Step::Refuse => follow(scratch, packet, tracked, &found),
    }
}

/// What a packet of a flow that was judged in this epoch does.
#[inline(always)]
fn follow(
    scratch: &mut Scratch,
    packet: &Packet,
    tracked: &Tracked,
    found: &Found,
) -> Result<Pass, Dropped> {
    // A refused flow is kept in memory by who still tries.
    stamp(found);
    let flow = found.flow();
    if flow.flags & DENIED != 0 {
        return Err(refused(flow, found.from_opener));
    }
    scratch.path.write(*conntrack::path(flow, found.from_opener));
    if add_sent(found, packet)
        && found.table == Table::Pending
        && conntrack::belongs_among_answered(tracked.key.protocol, found.flow())
    {
        settle(tracked, scratch.flow.write(*found.flow()));
    }
    Ok(Pass::ByPath)
}

/// Judges a first packet and makes its flow; `ended` is where the flow before it under its key stands.
#[inline(always)]
fn open(
    ctx: &TcContext,
    scratch: &mut Scratch,
    packet: &Packet,
    tracked: &Tracked,
    ended: Option<Table>,
) -> Result<Pass, Dropped> {
    let tuple = &packet.tuple;
    if !conntrack::opens(tuple) {
        count::notice(NOTICE_MID_STREAM);
    }
    let found = scratch.found.write(Judgement::NOTHING);
    judge_flow(&Kernel, &opening(tuple, true), found);
    if let Some(refusal) = found.refusal {
        return Err(Dropped {
            reason: refusal.reason,
            direction: refusal.direction,
            class: refusal.class,
            rules: [found.egress_rule, found.ingress_rule],
            identities: [found.opener, found.target],
        });
    }
    if !conntrack::begins_something(tuple) {
        scratch.path.write(found.forward);
        return Ok(Pass::ByPath);
    }
    let flow = scratch.flow.write(Flow::zeroed());
    flow.created = seconds();
    flow.last_seen = flow.created;
    if matches!(tracked.side, Side::High) {
        flow.flags = OPENER_HIGH;
    }
    flow.opener_sent = conntrack::sent(0, tuple);
    note(flow, found, tracked.epoch);
    if !table::open(tracked, flow, ended) {
        return Err(Dropped::bare(DropReason::FlowTableFull, 0));
    }
    event::allowed(ctx, packet, flow, tracked.epoch);
    scratch.path.write(flow.forward);
    Ok(Pass::ByPath)
}

/// Judges a flow again in the direction that opened it; a refused one stays as a refusal, so that the
/// other end's packets cannot open it in reverse.
#[inline(always)]
fn rejudge(
    ctx: &TcContext,
    scratch: &mut Scratch,
    packet: &Packet,
    tracked: &Tracked,
    found: &Found,
) -> Result<Pass, Dropped> {
    let was_denied = found.flow().flags & DENIED != 0;
    let Scratch { flow, found: judgement, path } = scratch;
    let flow = judged_again(judgement, flow, &packet.tuple, tracked, found);
    flow.last_seen = seconds();
    if flow.flags & DENIED != 0 {
        let dropped = refused(flow, found.from_opener);
        replace(tracked, found, flow);
        return Err(dropped);
    }
    let by_end = if found.from_opener { &mut flow.opener_sent } else { &mut flow.target_sent };
    *by_end = conntrack::sent(*by_end, &packet.tuple);
    path.write(*conntrack::path(flow, found.from_opener));
    if was_denied {
        event::allowed(ctx, packet, flow, tracked.epoch);
    }
    let moves = found.table == Table::Pending
        && conntrack::belongs_among_answered(tracked.key.protocol, flow);
    if !(moves && settle(tracked, flow)) {
        replace(tracked, found, flow);
    }
    Ok(Pass::ByPath)
}

/// The flow's entry as it is after another judgement, in the direction that opened it.
#[inline(always)]
fn judged_again<'s>(
    judgement: &mut MaybeUninit<Judgement>,
    flow: &'s mut MaybeUninit<Flow>,
    tuple: &Tuple,
    tracked: &Tracked,
    found: &Found,
) -> &'s mut Flow {
    let judgement = judgement.write(Judgement::NOTHING);
    judge_flow(&Kernel, &opening(tuple, found.from_opener), judgement);
    let flow = flow.write(*found.flow());
    note(flow, judgement, tracked.epoch);
    flow
}

/// Has an ICMP error go to who sent the packet that it quotes, if the flow of that packet may be; `None` without one.
/// An error opens nothing and keeps nothing alive.
#[inline(always)]
pub fn report(scratch: &mut Scratch, quoted: &Tuple) -> Result<Option<Pass>, Dropped> {
    let tracked = begin(quoted);
    let Some(found) = find(&tracked, quoted) else { return Ok(None) };
    let from_opener = !found.from_opener;
    let Scratch { flow, found: judgement, path } = scratch;
    match related::report(found.flow(), quoted, found.from_opener, tracked.epoch) {
        Report::Unrelated => return Ok(None),
        Report::Refuse => return Err(refused(found.flow(), from_opener)),
        Report::Forward => path.write(*conntrack::path(found.flow(), from_opener)),
        Report::Rejudge => {
            let flow = judged_again(judgement, flow, quoted, &tracked, &found);
            replace(&tracked, &found, flow);
            if flow.flags & DENIED != 0 {
                return Err(refused(flow, from_opener));
            }
            path.write(*conntrack::path(flow, from_opener))
        }
    };
    Ok(Some(Pass::ByPath))
}

/// What is asked about a flow: always in the direction that opened it.
#[inline(always)]
fn opening(tuple: &Tuple, from_opener: bool) -> Opening {
    let protocol = tuple.protocol;
    if from_opener {
        let (source, destination) = (tuple.source, tuple.destination);
        return Opening { source, destination, protocol, port: tuple.policy_port };
    }
    let port =
        if protocol == ICMP { NetPort::from_host(u16::from(ICMP_ECHO)) } else { tuple.source_port };
    Opening { source: tuple.destination, destination: tuple.source, protocol, port }
}

/// Writes down what was found out.
#[inline(always)]
fn note(flow: &mut Flow, found: &Judgement, epoch: u64) {
    flow.epoch = epoch;
    flow.opener_identity = found.opener;
    flow.target_identity = found.target;
    flow.egress_rule = found.egress_rule;
    flow.ingress_rule = found.ingress_rule;
    flow.flags &= OPENER_HIGH;
    match found.refusal {
        Some(refusal) => {
            flow.flags |= DENIED | refusal.direction << REFUSED_BY;
            flow.refused_class = refusal.class;
            flow.refused_reason = refusal.reason.number();
        }
        None => {
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
        direction: flow.flags >> REFUSED_BY,
        class: flow.refused_class,
        rules: [flow.egress_rule, flow.ingress_rule],
        identities: if from_opener { [opener, target] } else { [target, opener] },
    }
}

/// The path that a packet which passes leaves by.
#[inline(always)]
pub fn path(scratch: &Scratch) -> &Path {
    // SAFETY: every way of passing writes it first.
    unsafe { scratch.path.assume_init_ref() }
}
