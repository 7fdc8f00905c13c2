//! Flows as `hubble observe` prints them, one a line: compact and JSON.

use crate::{
    drop,
    flow::{Endpoint, Flow, Layer4, Policy},
    time,
};
use weft_types::Identity;

/// `event_type.type` of a drop.
pub const DROP: i32 = 1;
/// `event_type.type` of a trace.
pub const TRACE: i32 = 4;
/// `event_type.type` of a policy verdict.
pub const POLICY_VERDICT: i32 = 5;

/// Observation points by `event_type.sub_type` of a trace.
pub(crate) const POINTS: [&str; 14] = [
    "to-endpoint",
    "to-proxy",
    "to-host",
    "to-stack",
    "to-overlay",
    "from-endpoint",
    "from-proxy",
    "from-host",
    "from-stack",
    "from-overlay",
    "from-network",
    "to-network",
    "from-crypto",
    "to-crypto",
];
const MATCHES: [&str; 7] = ["none", "L3-Only", "L3-L4", "L4-Only", "all", "L3-Proto", "Proto-Only"];

/// What a line for people shows, in every format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compact {
    /// The node, after the time.
    pub node_name: bool,
    /// The policies that decided, after the verdict.
    pub policy_names: bool,
    /// Addresses instead of names.
    pub numeric: bool,
    /// Colours as Hubble's.
    pub colour: bool,
}

impl Compact {
    /// A flow on a line, without its end.
    pub fn line(self, flow: &Flow) -> String {
        let at = stamp(flow);
        let node = if self.node_name { format!(" [{}]", flow.node_name) } else { String::new() };
        let source = self.end(flow, flow.source.as_ref(), End::Source);
        let destination = self.end(flow, flow.destination.as_ref(), End::Destination);
        let (left, arrow, right) = match flow.is_reply {
            None => (source, "<>", destination),
            Some(false) => (source, "->", destination),
            Some(true) => (destination, "<-", source),
        };
        let (kind, verdict) = (kind(flow), self.verdict(flow));
        format!("{at}{node}: {left} {arrow} {right} {kind} {verdict} ({})", flow.summary)
    }

    /// An end with the number of who is there.
    fn end(self, flow: &Flow, endpoint: Option<&Endpoint>, end: End) -> String {
        let number = endpoint.map_or(0, |endpoint| endpoint.identity);
        let identity = match Identity(number).reserved_name() {
            Some(name) => format!("({name})"),
            None => format!("(ID:{number})"),
        };
        format!("{} {}", self.host(flow, endpoint, end), self.paint(MAGENTA, &identity))
    }

    /// Name, or address, and port of an end.
    pub(crate) fn host(self, flow: &Flow, endpoint: Option<&Endpoint>, end: End) -> String {
        let host = match endpoint {
            Some(e) if !self.numeric && !e.pod_name.is_empty() && !e.namespace.is_empty() => {
                format!("{}/{}", e.namespace, e.pod_name)
            }
            Some(e) if !self.numeric && !e.pod_name.is_empty() => e.pod_name.clone(),
            _ => flow.ip.as_ref().map_or_else(String::new, |ip| match end {
                End::Source => ip.source.clone(),
                End::Destination => ip.destination.clone(),
            }),
        };
        let host = self.paint(CYAN, &host);
        match ports(flow).map(|(source, destination)| match end {
            End::Source => source,
            End::Destination => destination,
        }) {
            None | Some(0) => host,
            Some(port) => format!("{host}:{}", self.paint(YELLOW, &port.to_string())),
        }
    }

    pub(crate) fn verdict(self, flow: &Flow) -> String {
        let judged = flow.event_type.as_ref().is_some_and(|e| e.kind == POLICY_VERDICT);
        let word = match (flow.verdict.as_str(), judged) {
            ("FORWARDED", true) => "ALLOWED",
            ("DROPPED", true) => "DENIED",
            ("AUDIT", true) => "AUDITED",
            (word, _) => word,
        };
        let by = if self.policy_names { by(flow) } else { String::new() };
        let colour = match flow.verdict.as_str() {
            "FORWARDED" => GREEN,
            "DROPPED" | "ERROR" => RED,
            _ => YELLOW,
        };
        format!("{}{by}", self.paint(colour, word))
    }

    fn paint(self, colour: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\u{1b}[{colour}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const MAGENTA: &str = "35";
const CYAN: &str = "36";

/// Which end of a flow.
#[derive(Clone, Copy)]
pub(crate) enum End {
    Source,
    Destination,
}

/// When it was, for people.
pub(crate) fn stamp(flow: &Flow) -> String {
    time::parse(&flow.time).map_or_else(|| "N/A".to_owned(), time::stamp)
}

/// ` BY name (Kind), …`: the policies that decided.
fn by(flow: &Flow) -> String {
    let (egress, ingress) = match flow.verdict.as_str() {
        "DROPPED" => (&flow.egress_denied_by, &flow.ingress_denied_by),
        _ => (&flow.egress_allowed_by, &flow.ingress_allowed_by),
    };
    let name = |policy: &Policy| format!("{} ({})", policy.name, policy.kind);
    let names: Vec<String> = egress.iter().chain(ingress).map(name).collect();
    if names.is_empty() { String::new() } else { format!(" BY {}", names.join(", ")) }
}

/// The event in words: an observation point, a drop reason, or how a policy matched.
pub fn kind(flow: &Flow) -> String {
    let Some(event) = &flow.event_type else { return "UNKNOWN".to_owned() };
    match event.kind {
        DROP => drop::text(u32::try_from(event.sub_type).unwrap_or_default()),
        TRACE => {
            let point = usize::try_from(event.sub_type).ok().and_then(|at| POINTS.get(at));
            point.map_or_else(|| event.sub_type.to_string(), |point| (*point).to_owned())
        }
        POLICY_VERDICT => {
            let matched = usize::try_from(flow.policy_match_type).ok().and_then(|m| MATCHES.get(m));
            let direction = match flow.traffic_direction.as_str() {
                "" => "TRAFFIC_DIRECTION_UNKNOWN",
                direction => direction,
            };
            format!("policy-verdict:{} {direction}", matched.unwrap_or(&"unknown"))
        }
        _ => "UNKNOWN".to_owned(),
    }
}

/// Source and destination port of a flow that has ports.
pub(crate) fn ports(flow: &Flow) -> Option<(u32, u32)> {
    match flow.l4.as_ref()? {
        Layer4::Tcp(tcp) => Some((tcp.source_port, tcp.destination_port)),
        Layer4::Udp(ports) | Layer4::Sctp(ports) => {
            Some((ports.source_port, ports.destination_port))
        }
        Layer4::Icmp4(_) => None,
    }
}

/// A flow as a line of `hubble observe -o json`.
pub fn json(flow: &Flow) -> String {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        flow: &'a Flow,
        node_name: &'a str,
        time: &'a str,
    }
    // A flow is plain data: writing it cannot fail.
    let line = Line { flow, node_name: &flow.node_name, time: &flow.time };
    serde_json::to_string(&line).unwrap_or_default()
}

/// Where events were lost, by the names of Hubble's `LostEventSource`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostIn {
    /// The kernel's ring was full.
    Kernel,
    /// The ring of flows went on over what a reader did not have yet.
    Flows,
}

impl LostIn {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "PERF_EVENT_RING_BUFFER",
            Self::Flows => "HUBBLE_RING_BUFFER",
        }
    }
}

/// That events were lost before the next flow, as a compact line. One ring serves all CPUs, so it names the first.
pub fn lost_line(now_ns: u64, place: LostIn, lost: u64) -> String {
    format!("{} EVENTS LOST: {} CPU(0) {lost}", time::stamp(now_ns), place.as_str())
}

/// That events were lost, as a line of JSON.
pub fn lost_json(now_ns: u64, node: &str, place: LostIn, lost: u64) -> String {
    serde_json::json!({
        "lost_events": {"source": place.as_str(), "num_events_lost": lost.to_string()},
        "node_name": node,
        "time": time::rfc3339(now_ns),
    })
    .to_string()
}
