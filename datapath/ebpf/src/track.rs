//! The flow tables: one look-up for an established packet, a judgement for a first or a stale one.
//!
//! A judgement is written as a whole entry in one step, never field by field: another CPU sees the one
//! before or this one, each with the epoch it was read in, and believes it only in that epoch.

use crate::{
    Dropped, Pass, count, event,
    maps::{self, Scratch},
    parse::Packet,
    world::{Kernel, epoch},
};
use aya_ebpf::{
    bindings::BPF_EXIST, helpers::generated::bpf_ktime_get_coarse_ns, programs::TcContext,
};
use core::mem::MaybeUninit;
use weft_abi::{
    address::NetPort,
    conntrack::{DENIED, Flow, FlowKey4, OPENER_HIGH, Path},
    drop::DropReason,
    metrics::{NOTICE_FLOWS_FULL, NOTICE_MID_STREAM},
};
use weft_verdict::{
    conntrack::{self, ICMP, ICMP_ECHO, Side, Step, Tuple},
    flow::{Judgement, Opening, judge_flow},
    related::{self, Report},
};

const SECOND: u64 = 1_000_000_000;

/// A tracked packet, before anything is known of its flow.
pub struct Tracked {
    key: FlowKey4,
    side: Side,
    epoch: u64,
}

/// Which table holds a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Table {
    Answered,
    Pending,
}

/// A flow's entry where it was found.
pub struct Found {
    flow: *mut Flow,
    table: Table,
    /// Whether this packet goes the way the flow was opened.
    from_opener: bool,
}

impl Found {
    /// The entry as it is now.
    #[inline(always)]
    pub fn flow(&self) -> &Flow {
        // SAFETY: a map value's memory stays a flow's while the program runs; other CPUs write its
        // flags and its time, each at once, and replace it whole.
        unsafe { &*self.flow }
    }

    /// Whether the entry itself says that the sender is the pod behind an interface.
    #[inline(always)]
    pub fn sender_is_behind(&self, tracked: &Tracked, ifindex: u32) -> bool {
        let flow = self.flow();
        flow.epoch == tracked.epoch && conntrack::sender_is_behind(flow, self.from_opener, ifindex)
    }

    /// Whether the entry itself says that the sender is neither this node nor a pod of it; `None` when
    /// it is of another epoch.
    #[inline(always)]
    pub fn sender_is_elsewhere(&self, tracked: &Tracked) -> Option<bool> {
        let flow = self.flow();
        let current = flow.epoch == tracked.epoch;
        current.then(|| conntrack::sender_is_elsewhere(flow, self.from_opener))
    }
}

/// The key of a packet and the epoch; taken before anything else is looked up.
#[inline(always)]
pub fn begin(tuple: &Tuple) -> Tracked {
    let epoch = epoch();
    let (key, side) = conntrack::key(tuple);
    Tracked { key, side, epoch }
}

/// The flow's entry, wherever it is. Who is answered moves from the second table to the first, so the
/// first is asked once more before a packet counts as the first of its flow.
#[inline(always)]
pub fn find(tracked: &Tracked) -> Option<Found> {
    let found = |flow: *mut Flow, table| {
        // SAFETY: as in `Found::flow`.
        let from_opener = conntrack::from_opener(unsafe { &*flow }, tracked.side);
        Found { flow, table, from_opener }
    };
    if let Some(flow) = maps::WEFT_FLOWS4.get_ptr_mut(&tracked.key) {
        return Some(found(flow, Table::Answered));
    }
    if let Some(flow) = maps::WEFT_PENDING4.get_ptr_mut(&tracked.key) {
        return Some(found(flow, Table::Pending));
    }
    maps::WEFT_FLOWS4.get_ptr_mut(&tracked.key).map(|flow| found(flow, Table::Answered))
}

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
    stamp(found.flow);
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

/// Notes what a packet that passes tells of its sender; whether that is news.
#[inline(always)]
fn add_sent(found: &Found, packet: &Packet) -> bool {
    // SAFETY: a byte of a map value. Packets of one direction alone write it; of two bits at once one
    // may be lost, which delays the end of the entry.
    let by_end = unsafe {
        if found.from_opener {
            &mut (*found.flow).opener_sent
        } else {
            &mut (*found.flow).target_sent
        }
    };
    let sent = conntrack::sent(*by_end, &packet.tuple);
    let news = sent != *by_end;
    if news {
        *by_end = sent;
    }
    news
}

/// Moves a flow among the answered, if there is room.
#[inline(always)]
fn settle(tracked: &Tracked, flow: &Flow) -> bool {
    if maps::WEFT_FLOWS4.insert(&tracked.key, flow, 0).is_ok() {
        let _ = maps::WEFT_PENDING4.remove(&tracked.key);
        return true;
    }
    // It stays where it is, and lives on while it is used.
    count::notice(NOTICE_FLOWS_FULL);
    false
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
    if maps::WEFT_PENDING4.insert(&tracked.key, &*flow, 0).is_err() {
        return Err(Dropped::bare(DropReason::FlowTableFull, 0));
    }
    // Among the answered it would be found first.
    if ended == Some(Table::Answered) {
        let _ = maps::WEFT_FLOWS4.remove(&tracked.key);
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
    let Some(found) = find(&tracked) else { return Ok(None) };
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

/// Puts a new entry in the place of the one that was found. An entry that went meanwhile stays gone, and
/// one that could not be replaced is of its old epoch: the next packet is judged again either way.
#[inline(always)]
fn replace(tracked: &Tracked, found: &Found, flow: &Flow) {
    let exists = BPF_EXIST as u64;
    let _ = match found.table {
        Table::Answered => maps::WEFT_FLOWS4.insert(&tracked.key, flow, exists),
        Table::Pending => maps::WEFT_PENDING4.insert(&tracked.key, flow, exists),
    };
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

/// Writes when the flow was seen last, once a second at most.
#[inline(always)]
fn stamp(flow: *mut Flow) {
    let now = seconds();
    // SAFETY: an aligned word of a map value.
    unsafe {
        if (*flow).last_seen != now {
            (*flow).last_seen = now;
        }
    }
}

/// Seconds of the monotonic clock, as of the last tick: cheaper than the clock itself.
#[inline(always)]
pub fn seconds() -> u32 {
    // SAFETY: a helper without arguments.
    (unsafe { bpf_ktime_get_coarse_ns() } / SECOND) as u32
}

/// The path that a packet which passes leaves by.
#[inline(always)]
pub fn path(scratch: &Scratch) -> &Path {
    // SAFETY: every way of passing writes it first.
    unsafe { scratch.path.assume_init_ref() }
}
