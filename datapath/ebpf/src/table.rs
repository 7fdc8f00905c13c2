//! The flow tables: where a flow's entry is found, stamped, moved and replaced.
//!
//! A judgement is written as a whole entry in one step, never field by field: another CPU sees the one
//! before or this one, each with the epoch it was read in, and believes it only in that epoch.

use crate::{count, maps, parse::Packet, world::epoch};
use aya_ebpf::{bindings::BPF_EXIST, helpers::generated::bpf_ktime_get_coarse_ns};
use weft_abi::{
    conntrack::{Flow, FlowKey4},
    metrics::NOTICE_FLOWS_FULL,
};
use weft_verdict::conntrack::{self, Side, Tuple};

const SECOND: u64 = 1_000_000_000;

/// A tracked packet, before anything is known of its flow.
pub struct Tracked {
    /// What both directions share.
    pub key: FlowKey4,
    /// Which end sent it.
    pub side: Side,
    /// Of when it was read: before anything else was.
    pub epoch: u64,
}

/// Which table holds a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Of flows that were answered.
    Answered,
    /// Of those that were not.
    Pending,
}

/// A flow's entry where it was found.
pub struct Found {
    flow: *mut Flow,
    /// In which table.
    pub table: Table,
    /// Whether this packet goes the way the flow was opened.
    pub from_opener: bool,
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

/// The flow's entry, wherever it is. Who is answered is put into the first table and then taken out of the second, so
/// looked for the other way round it is missed by nobody; that way costs two look-ups where nobody knows the flow, and is
/// taken by who says that it opens one. All others are mostly answered, and found at once.
#[inline(always)]
pub fn find(tracked: &Tracked, tuple: &Tuple) -> Option<Found> {
    let found = |flow: *mut Flow, table| {
        // SAFETY: as in `Found::flow`.
        let from_opener = conntrack::from_opener(unsafe { &*flow }, tracked.side);
        Found { flow, table, from_opener }
    };
    if !conntrack::is_of_opening(tuple)
        && let Some(flow) = maps::WEFT_FLOWS4.get_ptr_mut(&tracked.key)
    {
        return Some(found(flow, Table::Answered));
    }
    if let Some(flow) = maps::WEFT_PENDING4.get_ptr_mut(&tracked.key) {
        return Some(found(flow, Table::Pending));
    }
    maps::WEFT_FLOWS4.get_ptr_mut(&tracked.key).map(|flow| found(flow, Table::Answered))
}

/// Notes what a packet that passes tells of its sender; whether that is news.
#[inline(always)]
pub fn add_sent(found: &Found, packet: &Packet) -> bool {
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

/// Adds a flow, in the place of the one that ended under its key: there it takes room from nobody, be it answered or not.
#[inline(always)]
pub fn open(tracked: &Tracked, flow: &Flow, ended: Option<Table>) -> bool {
    match ended {
        Some(Table::Answered) => maps::WEFT_FLOWS4.insert(&tracked.key, flow, 0),
        Some(Table::Pending) | None => maps::WEFT_PENDING4.insert(&tracked.key, flow, 0),
    }
    .is_ok()
}

/// Moves a flow among the answered, if there is room.
#[inline(always)]
pub fn settle(tracked: &Tracked, flow: &Flow) -> bool {
    if maps::WEFT_FLOWS4.insert(&tracked.key, flow, 0).is_ok() {
        let _ = maps::WEFT_PENDING4.remove(&tracked.key);
        return true;
    }
    // It stays where it is, and lives on while it is used.
    count::notice(NOTICE_FLOWS_FULL);
    false
}

/// Puts a new entry in the place of the one that was found. An entry that went meanwhile stays gone, and
/// one that could not be replaced is of its old epoch: the next packet is judged again either way.
#[inline(always)]
pub fn replace(tracked: &Tracked, found: &Found, flow: &Flow) {
    let exists = BPF_EXIST as u64;
    let _ = match found.table {
        Table::Answered => maps::WEFT_FLOWS4.insert(&tracked.key, flow, exists),
        Table::Pending => maps::WEFT_PENDING4.insert(&tracked.key, flow, exists),
    };
}

/// Writes when the flow was seen last, once a second at most.
#[inline(always)]
pub fn stamp(found: &Found) {
    let (flow, now) = (found.flow, seconds());
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
