//! The `Conntrack` actor: forgets flows and fragments that are over. The kernel's programs write their tables; this is the
//! one other hand on them, and it only takes away.

use crate::{
    gated::Gated,
    metrics::Counts,
    runtime::{Life, Role, Serve, Thread, request},
};
use std::time::{Duration, Instant};
use weft_abi::{
    conntrack::{FLOWS4, Flow, FlowKey4, PENDING4},
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
const TABLES: [(&MapSpec, IsOver, Overflow); 3] = [
    (&FLOWS4, is_over, Overflow::Counted),
    (&PENDING4, is_over, Overflow::PushesOut("start the node with a larger --pending-entries")),
    (
        &FRAGMENTS4,
        is_reassembled,
        Overflow::PushesOut("many datagrams come in pieces, each remembered for 30 s"),
    ),
];

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

#[cfg(test)]
mod tests {
    use super::*;
    use weft_abi::conntrack::SENT;

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
