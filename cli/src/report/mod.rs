//! The report of a lab as a page: data in, HTML out. Nothing here looks at a lab, a clock or a file.
//!
//! The page is whole in itself: no network, no font, no script but its own, which only adds to what is there without it.

mod flow_map;
mod grid;
mod kill;
mod markup;
mod page;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;
mod timeline;

pub(crate) use page::render;

/// What a report tells.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    /// The lab's name.
    pub(crate) lab: String,
    /// When it was made, for people.
    pub(crate) made: String,
    /// Of Weft.
    pub(crate) version: String,
    /// Names of nodes.
    pub(crate) nodes: Vec<String>,
    /// Pods, by name.
    pub(crate) pods: Vec<Pod>,
    /// How many policies there are.
    pub(crate) policies: usize,
    /// Every pair and port that was tried.
    pub(crate) probes: Vec<Probe>,
    /// What the programs told of it.
    pub(crate) flows: Vec<Flow>,
    /// An agent killed under a stream.
    pub(crate) kill: Option<Kill>,
    /// A policy on its way.
    pub(crate) change: Option<Change>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pod {
    /// `namespace/name`.
    pub(crate) name: String,
    /// Where it runs.
    pub(crate) node: String,
    /// Its address.
    pub(crate) address: String,
}

/// What a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Allowed,
    Denied,
}

/// Which end's policies decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Egress,
    Ingress,
}

/// A connection that was tried.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Probe {
    /// `namespace/name`.
    pub(crate) from: String,
    /// `namespace/name`.
    pub(crate) to: String,
    /// `TCP/80`.
    pub(crate) port: String,
    /// What really happened.
    pub(crate) found: Verdict,
    /// What the policies say.
    pub(crate) computed: Verdict,
    /// The rules that say so, in words.
    pub(crate) why: String,
}

/// Flows between two ends to one port, of one verdict.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Flow {
    /// A name, or an address where nobody has one.
    pub(crate) from: String,
    /// The same.
    pub(crate) to: String,
    /// `TCP/80`.
    pub(crate) port: String,
    /// Of all of them.
    pub(crate) verdict: Verdict,
    /// Whose policies denied them; none where they were allowed.
    pub(crate) side: Option<Side>,
    /// How many there were.
    pub(crate) count: u64,
    /// The policies that decided, or the reason of the drop.
    pub(crate) why: String,
}

/// An agent killed under a stream, and started again. Times are milliseconds since the stream began.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kill {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) port: String,
    /// Whose agent.
    pub(crate) node: String,
    pub(crate) killed: f64,
    /// When it served again.
    pub(crate) back: f64,
    pub(crate) end: f64,
    /// Bytes that came back until then.
    pub(crate) samples: Vec<(f64, u64)>,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) longest_gap: f64,
    /// New connections that were tried all the while.
    pub(crate) attempts: Vec<Attempt>,
}

/// A new connection.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attempt {
    pub(crate) at: f64,
    pub(crate) to: String,
    pub(crate) expected: Verdict,
    pub(crate) found: Verdict,
}

/// A policy on its way from YAML to a packet. Times are milliseconds since the command began.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) yaml: String,
    pub(crate) revision: String,
    /// The trace that processes' logs carry, where there is one.
    pub(crate) trace: String,
    pub(crate) steps: Vec<Step>,
}

/// A step of a change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    /// Who did it: `weft`, `operator`, `node1`…
    pub(crate) who: String,
    /// What.
    pub(crate) what: String,
    pub(crate) begun: f64,
    pub(crate) ended: f64,
}

/// The workload's part of `namespace/name`.
fn short(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The namespace of `namespace/name`; none of what is no pod.
fn namespace(name: &str) -> &str {
    name.split_once('/').map_or("", |(namespace, _)| namespace)
}
