//! The `Conntrack` actor: forgets flows, fragments and told drops that are over. The kernel's programs write their tables; this is
//! the one other hand on them, and it only takes away.

use crate::{
    gated::Gated,
    metrics::Counts,
    runtime::{Life, Role, Serve, Thread, request},
};
use std::time::{Duration, Instant};
use weft_abi::{
    conntrack::{FLOWS4, Flow, FlowKey4, PENDING4},
    event::{MUTED4, Muted},
    fragment::{FRAGMENTS4, Fragmented},
    map::MapSpec,
    metrics::NOTICE_FLOWS_FULL,
};
use weft_datapath::{
    clock,
    kernel::{Maps, Pruned, RawEntry},
    lru,
};
use weft_verdict::{fragment, lifetime::is_expired};

/// How often the tables are walked, the floor of Cilium's interval: a full table of 262,144 flows takes some 100 ms of a
/// thread on which nobody waits, an empty one some microseconds.
const SWEEP: Duration = Duration::from_secs(10);

/// What tells of an entry of a table whether it is over at a second of the clock that stamps them.
type IsOver = fn(&RawEntry, u32) -> bool;

/// What becomes of an entry that comes to a table without room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overflow {
    /// The programs count it.
    Counted,
    /// It takes the place of the one that was used longest ago, and nobody is told. What can be done about it.
    PushesOut(&'static str),
}

/// What is swept.
const TABLES: [(&MapSpec, IsOver, Overflow); 4] = [
    (&FLOWS4, is_over, Overflow::Counted),
    (&PENDING4, is_over, Overflow::PushesOut("start the node with a larger --pending-entries")),
    (
        &FRAGMENTS4,
        is_reassembled,
        Overflow::PushesOut("many datagrams come in pieces, each remembered for 30 s"),
    ),
    (
        &MUTED4,
        is_told_again,
        Overflow::PushesOut(
            "packets of more flows are dropped in a second, and told more than once",
        ),
    ),
];

/// How long it is kept how many drops of a flow were not told: the next one that is says it.
const HELD_BACK: u32 = 60;

/// Sweeps the flow tables.
pub struct Conntrack {
    kernel: Gated<dyn Maps>,
    counts: Counts,
    /// Answered flows that had found their table full when it was looked at last.
    crowded: Option<u64>,
}

impl Conntrack {
    /// Over a kernel.
    pub fn new(kernel: Gated<dyn Maps>, counts: Counts) -> Self {
        Self { kernel, counts, crowded: None }
    }

    /// Says when answered flows found their table full: they live on among the unanswered, where newer ones may push
    /// them out.
    fn notice(&mut self) {
        let full = match self.kernel.counted() {
            Ok(counted) => counted
                .iter()
                .filter(|counted| counted.reason == NOTICE_FLOWS_FULL)
                .map(|counted| counted.total.packets)
                .sum::<u64>(),
            Err(error) => return tracing::error!(%error, "read the programs' counters"),
        };
        let news = full.saturating_sub(self.crowded.replace(full).unwrap_or(full));
        if news > 0 {
            let (map, capacity) = (FLOWS4.name, self.kernel.capacity(&FLOWS4));
            tracing::warn!(map, capacity, flows = news, "the table is full");
            let what = format!(
                "map {map} is full ({capacity} entries): {news} times an answered flow found no room and stayed where \
                 newer ones may push it out; start the node with a larger --flow-entries"
            );
            self.counts.notices().tell(Instant::now(), map, what);
        }
    }

    /// Takes what is over out of one table.
    fn sweep(&self, map: &'static MapSpec, is_over: IsOver, overflow: Overflow) {
        let Pruned { seen, removed } = match self
            .kernel
            .prune(map, &mut |entry| is_over(entry, clock::seconds()))
        {
            Ok(pruned) => pruned,
            Err(error) => return tracing::error!(map = map.name, %error, "sweep of what is over"),
        };
        if removed > 0 {
            tracing::debug!(map = map.name, seen, removed, "what was over");
        }
        let capacity = self.kernel.capacity(map);
        // One with entries that are over has pushed out none that is not.
        if let Overflow::PushesOut(advice) = overflow
            && lru::is_full(seen.saturating_sub(removed), capacity)
        {
            self.counts.map_full(map.name, capacity, advice);
        }
    }
}

impl Role for Conntrack {
    const THREAD: Thread = Thread::Observe;

    async fn born(&mut self, life: &Life<Self>) -> Result<(), crate::Refusal> {
        self.notice();
        life.every(SWEEP, || Sweep);
        Ok(())
    }
}

/// Forget what is over.
pub struct Sweep;
request!(Sweep => ());

impl Serve<Sweep> for Conntrack {
    async fn serve(&mut self, _: Sweep, _: &Life<Self>) {
        self.notice();
        TABLES.into_iter().for_each(|(map, is_over, overflow)| self.sweep(map, is_over, overflow));
    }
}

/// An entry of another layout is none of ours to remove.
fn is_over(entry: &RawEntry, now: u32) -> bool {
    let decoded = FlowKey4::from_bytes(&entry.key).zip(Flow::from_bytes(&entry.value));
    decoded.is_some_and(|(key, flow)| is_expired(key.protocol, &flow, now))
}

/// Whether nobody waits for the rest of a datagram any more.
fn is_reassembled(entry: &RawEntry, now: u32) -> bool {
    Fragmented::from_bytes(&entry.value).is_some_and(|first| fragment::is_over(&first, now))
}

/// Whether the next drop of a flow is told whether or not it is known that one was, and nothing else is to be told of it.
fn is_told_again(entry: &RawEntry, now: u32) -> bool {
    Muted::from_bytes(&entry.value).is_some_and(|muted| {
        let least = if muted.suppressed == 0 { 1 } else { HELD_BACK };
        // One that came after `now` was read makes the difference negative.
        now.wrapping_sub(muted.second) as i32 >= least as i32
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_abi::conntrack::SENT;

    #[test]
    fn a_told_drop_is_kept_for_its_second_and_what_was_not_told_for_a_minute() {
        let entry = |suppressed| {
            let muted = Muted { second: 100, suppressed };
            RawEntry { key: vec![], value: muted.to_bytes().into() }
        };
        for (suppressed, now, over) in
            [(0, 99, false), (0, 100, false), (0, 101, true), (3, 159, false), (3, 160, true)]
        {
            assert_eq!(is_told_again(&entry(suppressed), now), over, "{suppressed} at {now}");
        }
    }

    #[test]
    fn an_entry_is_over_after_its_lifetime_and_never_when_it_cannot_be_read() {
        let key = FlowKey4 { protocol: 17, ..FlowKey4::zeroed() };
        let flow = Flow { last_seen: 100, opener_sent: SENT, ..Flow::zeroed() };
        let entry = RawEntry { key: key.to_bytes().into(), value: flow.to_bytes().into() };
        assert!(!is_over(&entry, 160));
        assert!(is_over(&entry, 161));
        let torn = RawEntry { value: entry.value[..50].to_vec(), ..entry };
        assert!(!is_over(&torn, 9_999));
    }
}
