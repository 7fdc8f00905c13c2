//! What an operator counts; `weft_operator_…` in the text of `/metrics`.

use crate::violations::Violations;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use std::{path::Path, time::Instant};
use weft_api::operator::IdentityState;

/// Why a session is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelValue)]
pub enum Refusal {
    /// No TLS session: no certificate, another authority's, or no TLS at all.
    Handshake,
    /// Its certificate names no node.
    NotANode,
    /// It speaks for another node than its certificate's.
    OtherNode,
    /// What it says is no message, or too long, or not its turn.
    Protocol,
    /// It speaks another version.
    Version,
    /// It holds something newer than there is.
    Ahead,
    /// Too many at once.
    Limit,
    /// Its message did not come in time.
    Silent,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: Refusal,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Wire {
    wire: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

/// A session that is counted until this is dropped.
#[derive(Debug)]
pub struct Standing(Gauge);

impl Drop for Standing {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The counters, and the registry that renders them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Index of the newest revision.
    pub revision: Gauge,
    /// Its generation.
    pub generation: Gauge,
    /// Sessions that stand.
    pub sessions: Gauge,
    /// Who waits for a revision.
    pub waiters: Gauge,
    /// The group's term, as far as it is known here.
    pub term: Gauge,
    /// Whether this operator leads: 1 or 0.
    pub leads: Gauge,
    /// Whether it takes changes itself: it leads, and has adopted what the store holds.
    pub serves: Gauge,
    /// The last entry of its log that is committed.
    pub committed: Gauge,
    /// Changes of the term that it saw in this life: elections, mostly.
    pub terms: Counter,
    /// Messages of changes that were sent.
    pub pushes: Counter,
    /// Snapshots that were begun.
    pub snapshots: Counter,
    /// Bytes of both.
    pub pushed_bytes: Counter,
    /// What must never have come to be.
    pub violations: Violations,
    identities: Family<State, Gauge>,
    wires: Family<Wire, Gauge>,
    refused: Family<Reason, Counter>,
    latency: Family<Operation, Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::of(Violations::default())
    }
}

impl Metrics {
    /// Of an operator with a state folder.
    pub fn kept_in(state_dir: &Path) -> Self {
        Self::of(Violations::kept_in(state_dir))
    }

    fn of(violations: Violations) -> Self {
        let mut registry = Registry::with_prefix("weft_operator");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::<i64>::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let revision = gauge("revision", "Index of the newest revision");
        let generation = gauge("generation", "Generation of the newest revision");
        let sessions = gauge("sessions", "Sessions of agents");
        let waiters = gauge("waiters", "Callers that wait for a revision");
        let term = gauge("raft_term", "Term of the operators' group, as this operator knows it");
        let leads = gauge("raft_leads", "Whether this operator leads its group");
        let serves =
            gauge("raft_serves", "Whether it leads and takes changes: its fence is in the store");
        let committed = gauge("raft_committed", "Last entry of the log that is committed");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::<u64>::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let pushes = counter("pushes", "Messages of changes sent to agents");
        let snapshots = counter("snapshots", "Snapshots begun");
        let pushed_bytes = counter("pushed_bytes", "Bytes sent to agents, changes and snapshots");
        let terms = counter("raft_terms", "Changes of the term that this operator saw");
        let identities = Family::<State, Gauge>::default();
        let help = "Identities: used, unused (nobody refers to them), retiring (agents are to forget them)";
        registry.register("identities", help, identities.clone());
        let help =
            "Times that what must hold was seen not to, by its id, over all lives of this operator";
        registry.register("invariant_violations", help, violations.family());
        let wires = Family::<Wire, Gauge>::default();
        let help = "Sessions of agents, by the version of the wire that both sides speak";
        registry.register("sessions_by_wire", help, wires.clone());
        let refused = Family::<Reason, Counter>::default();
        registry.register("sessions_refused", "Sessions refused, by reason", refused.clone());
        // From 50 microseconds to 1.6 seconds.
        let histogram: fn() -> Histogram =
            || Histogram::new(exponential_buckets(0.000_05, 2.0, 16));
        let latency = Family::<Operation, Histogram>::new_with_constructor(histogram);
        let help = "Time of transactions of the store and the log";
        registry.register_with_unit("store", help, Unit::Seconds, latency.clone());
        Self {
            registry,
            revision,
            generation,
            sessions,
            waiters,
            term,
            leads,
            serves,
            committed,
            terms,
            pushes,
            snapshots,
            pushed_bytes,
            violations,
            identities,
            wires,
            refused,
            latency,
        }
    }

    /// How many identities are in each state of their lives.
    pub fn identities(&self, of: [(IdentityState, usize); 3]) {
        for (state, count) in of {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.identities.get_or_create(&State { state: state.as_str() }).set(count);
        }
    }

    /// A session that stands as long as what comes back is held.
    pub fn session(&self, wire: u16) -> Standing {
        let of_version = self.wires.get_or_create(&Wire { wire }).clone();
        of_version.inc();
        Standing(of_version)
    }

    /// Counts a refused session.
    pub fn refuse(&self, reason: Refusal) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// How many were refused so.
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refused.get_or_create(&Reason { reason }).get()
    }

    /// Runs a transaction and records how long it took.
    pub fn timed<T>(&self, operation: &'static str, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        let seconds = begun.elapsed().as_secs_f64();
        self.latency.get_or_create(&Operation { operation }).observe(seconds);
        done
    }

    /// The OpenMetrics text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            // Writing to a string does not fail.
            Err(_) => String::new(),
        }
    }
}
