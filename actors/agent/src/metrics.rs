//! What an agent counts, and the text of `/metrics`; `docs/metrics.md` lists all of it.
//!
//! What is counted here lives as long as the process; the rest is asked of its owners when somebody looks. An owner that
//! does not answer is left out: whoever looks for what is wrong with an agent must get an answer.

use crate::{
    endpoints::{CountEndpoints, Endpoints},
    inspect::{Inspector, ListMaps, ReadCounters},
    notices::Notices,
    runtime::{Edge, Runtime},
    uplink::Progress,
};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{
    net::SocketAddr,
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use weft_abi::{
    metrics::{NOTICE_EVENTS_LOST, NOTICE_FLOWS_FULL, NOTICE_MID_STREAM},
    policy::{EGRESS, INGRESS},
};
use weft_api::agent::{ActorRow, MapRow};
use weft_datapath::kernel::{Counted, Malformed};
use weft_hubble::{drop, flow::Flow, print};
use weft_process::otlp;
use weft_types::Invariant;

/// What serving metrics is told.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Where /metrics and /healthz are served, on loopback, as 127.0.0.1:9962; nowhere when absent.
    #[arg(long, value_name = "IP:PORT")]
    pub metrics_listen: Option<SocketAddr>,
}

/// How long an owner may take; the reader's own patience is longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Names of labels and their values.
type Labels<const N: usize> = [(&'static str, String); N];

/// Why an ADD returned before every node that has to know its pod did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Early {
    /// Some did not.
    Behind,
    /// No operator said in time.
    Unheard,
}

impl Early {
    const ALL: [Self; 2] = [Self::Behind, Self::Unheard];

    const fn reason(self) -> &'static str {
        match self {
            Self::Behind => "behind",
            Self::Unheard => "unheard",
        }
    }
}

/// What an agent can see of what must hold: an operator gives a number anew that this node knows as another set's, tells what is
/// older than what it, or another, told before; or this node's kernel went back.
const SEEN: [Invariant; 3] = [Invariant::NoReuse, Invariant::NothingLost, Invariant::NeverBack];

/// What is counted over all lives of the actors that count. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    flows: Family<Labels<2>, Counter>,
    malformed: Family<Labels<1>, Counter>,
    lost: Family<Labels<1>, Counter>,
    programs_mended: Counter,
    maps_mended: Family<Labels<1>, Counter>,
    maps_full: Family<Labels<1>, Counter>,
    violations: Family<Labels<1>, Counter>,
    adds_early: Family<Labels<1>, Counter>,
    notices: Notices,
}

impl Counts {
    /// What `weft status` tells beside problems.
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Entries of a map were not as written, and are again.
    pub fn map_mended(&self, map: &'static str, entries: usize) {
        tracing::warn!(map, entries, "entries were not as written, and were mended");
        self.maps_mended.get_or_create(&of(map)).inc_by(entries as u64);
        let what = format!("map {map}: {entries} entries were not as written, and were mended");
        self.notices.tell(Instant::now(), map, what);
    }

    /// How many that were, of one map.
    pub fn mended_of(&self, map: &str) -> u64 {
        self.maps_mended.get_or_create(&of(map)).get()
    }

    /// A sweep found a table full in which newer entries push out those that were used longest ago.
    pub fn map_full(&self, map: &'static str, capacity: u32, advice: &str) {
        tracing::warn!(map, capacity, "the table is full");
        self.maps_full.get_or_create(&of(map)).inc();
        let what = format!(
            "map {map} is full ({capacity} entries): newer ones push out those that were used longest ago; {advice}"
        );
        self.notices.tell(Instant::now(), map, what);
    }

    /// A flow was seen.
    pub fn flow(&self, flow: &Flow) {
        let kind = match flow.event_type.as_ref().map(|event| event.kind) {
            Some(print::DROP) => "drop",
            Some(print::POLICY_VERDICT) => "policy-verdict",
            _ => "unknown",
        };
        let labels = [("type", kind.to_owned()), ("verdict", flow.verdict.clone())];
        self.flows.get_or_create(&labels).inc();
    }

    /// A record was no event.
    pub fn malformed(&self, malformed: Malformed) {
        let problem = match malformed {
            Malformed::Length(_) => "length",
            Malformed::Version(_) => "version",
            Malformed::Kind(_) => "kind",
        };
        self.malformed.get_or_create(&[("problem", problem.to_owned())]).inc();
    }

    /// The ring went on over flows that a reader did not have yet.
    pub fn overtaken(&self, lost: u64) {
        self.lost.get_or_create(&[("source", "hubble_ring_buffer".to_owned())]).inc_by(lost);
    }

    /// Programs were not in their places.
    pub fn programs_mended(&self, ifindex: u32, missing: usize) {
        tracing::warn!(ifindex, missing, "programs were removed, and are attached again");
        self.programs_mended.inc_by(missing as u64);
        let what =
            format!("interface {ifindex}: {missing} programs were removed, and are attached again");
        self.notices.tell(Instant::now(), "programs", what);
    }

    /// An ADD returned before every node that has to know its pod did: which pod and nodes is told for a while.
    pub fn add_early(&self, why: Early, what: String) {
        self.adds_early.get_or_create(&[("reason", why.reason().to_owned())]).inc();
        let subject = match why {
            Early::Behind => "adds behind",
            Early::Unheard => "adds unheard",
        };
        self.notices.tell(Instant::now(), subject, what);
    }

    /// What must hold does not.
    pub fn violated(&self, invariant: Invariant, seen: &str) {
        let of = self.violations.get_or_create(&[("invariant", invariant.to_string())]);
        // Whoever sees it with each try of a session does not fill the log.
        if (of.inc() + 1).is_power_of_two() {
            tracing::error!(%invariant, "an invariant does not hold: {seen}");
        }
        self.notices.tell(
            Instant::now(),
            "invariant",
            format!("{invariant} does not hold: {seen}"),
        );
    }

    /// Has a registry render them.
    pub fn register(&self, registry: &mut Registry) {
        for invariant in SEEN {
            drop(self.violations.get_or_create(&[("invariant", invariant.to_string())]));
        }
        for why in Early::ALL {
            drop(self.adds_early.get_or_create(&[("reason", why.reason().to_owned())]));
        }
        let Self { flows, malformed, lost, programs_mended, maps_full, .. } = self.clone();
        let (violations, adds_early) = (self.violations.clone(), self.adds_early.clone());
        let help = "CNI ADDs that returned before every node that has to know the pod did";
        registry.register("adds_early", help, adds_early);
        let help = "Times that what must hold was seen not to, by its id";
        registry.register("agent_invariant_violations", help, violations);
        registry.register("flows_processed", "Flows seen, by type and verdict", flows);
        registry.register("events_malformed", "Records that are no event", malformed);
        registry.register("lost_events", "Flows that readers missed, by where", lost);
        let help = "Programs that somebody removed, and that were attached again";
        registry.register("bpf_programs_mended", help, programs_mended);
        let help = "Sweeps that found a table full in which newer entries push out older ones";
        registry.register("bpf_map_full", help, maps_full);
    }
}

/// The label of a map.
fn of(map: &str) -> Labels<1> {
    [("map_name", map.to_owned())]
}

/// Where numbers come from.
pub struct Metrics {
    /// What is counted here.
    pub counts: Counts,
    /// Actors.
    pub runtime: Runtime,
    /// Revisions and the epoch.
    pub progress: watch::Receiver<Progress>,
    /// Maps.
    pub inspector: Edge<Inspector>,
    /// Pods.
    pub endpoints: Edge<Endpoints>,
}

impl Metrics {
    /// The OpenMetrics text.
    pub async fn render(&self) -> String {
        let (counted, maps, endpoints) = tokio::join!(
            self.inspector.ask_within(PATIENCE, ReadCounters),
            self.inspector.ask_within(PATIENCE, ListMaps),
            self.endpoints.ask_within(PATIENCE, CountEndpoints),
        );
        let mut page = Page::default();
        self.counts.register(&mut page.0);
        self.runtime.queues().register(&mut page.0);
        page.revisions(&self.progress.borrow());
        page.actors(&self.runtime.actors());
        page.spans(otlp::counts());
        if let Ok(Ok(counted)) = counted {
            page.datapath(&counted);
        }
        if let Ok(Ok(maps)) = maps {
            page.maps(&maps);
        }
        if let Ok(endpoints) = endpoints {
            let states = endpoints.into_iter().map(|(state, count)| {
                ([("endpoint_state", state.to_owned())], gauged(count as u64))
            });
            page.gauges("endpoint_state", "Endpoints by state", states);
        }
        page.text()
    }
}

/// The text as it grows.
struct Page(Registry);

impl Default for Page {
    fn default() -> Self {
        Self(Registry::with_prefix("weft"))
    }
}

impl Page {
    fn revisions(&mut self, progress: &Progress) {
        let both = [("received", progress.received), ("realised", progress.realised)];
        let labelled = |what: &str| [("state", what.to_owned())];
        let indices = both.map(|(what, of)| (labelled(what), gauged(of.index())));
        self.gauges("revision", "Index of the newest revision, by how far it is", indices);
        let generations =
            both.map(|(what, of)| (labelled(what), gauged(u64::from(of.generation()))));
        self.gauges("generation", "Generation of the newest revision", generations);
        self.gauge("epoch", "The epoch of the realised revision", gauged(progress.epoch));
        let session = i64::from(progress.operator.is_some());
        self.gauge("operator_session", "Whether an operator is connected", session);
    }

    fn spans(&mut self, (sent, lost): (u64, u64)) {
        let spans = [("sent", sent), ("lost", lost)];
        let spans = spans.map(|(became, spans)| ([("result", became.to_owned())], spans));
        self.counters("spans", "Spans for a collector, by what became of them", spans);
    }

    fn actors(&mut self, actors: &[ActorRow]) {
        let of = |actor: &ActorRow| [("actor", actor.name.clone())];
        let running = actors.iter().map(|a| (of(a), i64::from(a.state == "running")));
        self.gauges("actor_running", "Whether an actor runs", running);
        let restarts = actors.iter().map(|a| (of(a), a.incarnation.saturating_sub(1)));
        self.counters("actor_restarts", "How often an actor was made anew", restarts);
        let shed = actors.iter().map(|a| (of(a), a.shed));
        self.counters("actor_messages_shed", "Messages that found a mailbox full", shed);
    }

    fn datapath(&mut self, counted: &[Counted]) {
        let (mut forwarded, mut dropped, mut noticed) = (Vec::new(), Vec::new(), Vec::new());
        for counted in counted {
            match (counted.reason, notice(counted.reason)) {
                (0, _) => forwarded.push(counted),
                (_, Some(notice)) => noticed.push((notice, counted.total.packets)),
                (_, None) => dropped.push(counted),
            }
        }
        let noticed = noticed.into_iter().map(|(what, n)| ([("notice", what.to_owned())], n));
        self.counters("datapath_notices", "What the programs noticed", noticed);
        let to = |c: &Counted| [("direction", direction(c.direction))];
        let packets = forwarded.iter().map(|c| (to(c), c.total.packets));
        self.counters("forward_count", "Packets forwarded", packets);
        let bytes = forwarded.iter().map(|c| (to(c), c.total.bytes));
        self.counters("forward_bytes", "Bytes forwarded", bytes);
        let why = |c: &Counted| {
            [("reason", drop::text(u32::from(c.reason))), ("direction", direction(c.direction))]
        };
        let packets = dropped.iter().map(|c| (why(c), c.total.packets));
        self.counters("drop_count", "Packets dropped, by reason", packets);
        let bytes = dropped.iter().map(|c| (why(c), c.total.bytes));
        self.counters("drop_bytes", "Bytes dropped, by reason", bytes);
    }

    fn maps(&mut self, maps: &[MapRow]) {
        let of = |map: &MapRow| of(&map.name);
        let entries = maps.iter().map(|m| (of(m), gauged(m.entries)));
        self.gauges("bpf_map_entries", "Entries of a map", entries);
        let capacity = maps.iter().map(|m| (of(m), gauged(m.capacity)));
        self.gauges("bpf_map_capacity", "Entries that a map can have", capacity);
        let mended = maps.iter().map(|m| (of(m), m.mended));
        self.counters("bpf_map_mended", "Entries that were not as written, and mended", mended);
        let pressure = Family::<Labels<1>, Gauge<f64, AtomicU64>>::default();
        for map in maps.iter().filter(|map| map.capacity > 0) {
            // Exact up to 2^53 entries.
            let full = map.entries as f64 / map.capacity as f64;
            pressure.get_or_create(&of(map)).set(full);
        }
        self.0.register("bpf_map_pressure", "How full a map is, from 0 to 1", pressure);
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) {
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        self.0.register(name, help, gauge);
    }

    fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<N>, i64)>,
    ) {
        let family = Family::<Labels<N>, Gauge>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }

    fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<N>, u64)>,
    ) {
        let family = Family::<Labels<N>, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }

    fn text(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.0) {
            Ok(()) => text,
            // Writing to a string does not fail.
            Err(_) => String::new(),
        }
    }
}

/// What is counted beside packets.
fn notice(number: u8) -> Option<&'static str> {
    Some(match number {
        NOTICE_MID_STREAM => "mid-stream",
        NOTICE_FLOWS_FULL => "flows-full",
        NOTICE_EVENTS_LOST => "events-lost",
        _ => return None,
    })
}

/// A count as gauges have it.
fn gauged(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A direction as Cilium's metrics spell it.
fn direction(number: u8) -> String {
    match number {
        INGRESS => "INGRESS",
        EGRESS => "EGRESS",
        _ => "UNKNOWN",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_abi::{drop::DropReason, metrics::Counter as Total};

    fn lines(page: &Page, name: &str) -> Vec<String> {
        let text = page.text();
        text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect()
    }

    #[test]
    fn packets_are_told_by_reason_and_direction_and_notices_are_no_drops() {
        let counted = |reason, direction, packets| Counted {
            reason,
            direction,
            total: Total { packets, bytes: 100 * packets },
        };
        let mut page = Page::default();
        page.datapath(&[
            counted(0, INGRESS, 7),
            counted(DropReason::PolicyDenied.number(), EGRESS, 3),
            counted(NOTICE_EVENTS_LOST, 0, 5),
        ]);
        assert_eq!(
            lines(&page, "weft_forward_count"),
            ["weft_forward_count_total{direction=\"INGRESS\"} 7"]
        );
        assert_eq!(
            lines(&page, "weft_drop"),
            [
                "weft_drop_count_total{reason=\"Policy denied\",direction=\"EGRESS\"} 3",
                "weft_drop_bytes_total{reason=\"Policy denied\",direction=\"EGRESS\"} 300",
            ]
        );
        assert_eq!(
            lines(&page, "weft_datapath_notices"),
            ["weft_datapath_notices_total{notice=\"events-lost\"} 5"]
        );
    }

    #[test]
    fn what_must_hold_is_told_from_the_beginning_and_by_status_when_it_does_not() {
        let (counts, mut page) = (Counts::default(), Page::default());
        counts.violated(Invariant::NeverBack, "it went back");
        counts.register(&mut page.0);
        let of = |id, count| {
            format!("weft_agent_invariant_violations_total{{invariant=\"{id}\"}} {count}")
        };
        let mut told = lines(&page, "weft_agent_invariant");
        told.sort();
        assert_eq!(told, [of("NeverBack", 1), of("NoReuse", 0), of("NothingLost", 0)]);
        let told = counts.notices().recent(Instant::now());
        assert_eq!(told, ["NeverBack does not hold: it went back (0 s ago)"]);
    }

    #[test]
    fn maps_tell_how_full_they_are() {
        let map = MapRow {
            node: "node1".to_owned(),
            name: "weft_flows4".to_owned(),
            written_by: "kernel".to_owned(),
            entries: 3,
            capacity: 4,
            mended: 2,
            problem: None,
        };
        let mut page = Page::default();
        page.maps(&[map]);
        let of = "{map_name=\"weft_flows4\"}";
        assert_eq!(
            lines(&page, "weft_bpf_map"),
            [
                format!("weft_bpf_map_entries{of} 3"),
                format!("weft_bpf_map_capacity{of} 4"),
                format!("weft_bpf_map_mended_total{of} 2"),
                format!("weft_bpf_map_pressure{of} 0.75"),
            ]
        );
    }
}
