//! Which flows are shown: Hubble's flow filters.

use crate::{
    drop,
    flow::{Endpoint, Flow, Layer4},
    print::{POINTS, ports},
};
use ipnet::IpNet;
use std::net::IpAddr;
use weft_types::Identity;

/// Filters of which one must match, if there are any, and filters of which none may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// One of these must match; with none of them every flow does.
    pub allow: Vec<Filter>,
    /// None of these may match.
    pub deny: Vec<Filter>,
}

impl Filters {
    /// Whether a flow is shown.
    pub fn matches(&self, flow: &Flow) -> bool {
        (self.allow.is_empty() || self.allow.iter().any(|filter| filter.matches(flow)))
            && !self.deny.iter().any(|filter| filter.matches(flow))
    }
}

/// What a flow must be: every field that has values must match one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Who sent it.
    pub source: End,
    /// Whom it was for.
    pub destination: End,
    /// `FORWARDED`, `DROPPED`…
    pub verdict: Vec<String>,
    /// Names of drop reasons.
    pub drop_reason: Vec<String>,
    /// Types of events, with the sub-type where it matters.
    pub event: Vec<(i32, Option<i32>)>,
    /// Transport protocols in lower case.
    pub protocol: Vec<String>,
    /// `INGRESS`, `EGRESS`.
    pub direction: Vec<String>,
    /// Nodes' names; `*` stands for any run of characters.
    pub node: Vec<String>,
    /// TCP flags that must all be set; one of these sets.
    pub tcp_flags: Vec<Vec<String>>,
}

/// What an end of a flow must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// (namespace, beginning of the name); no namespace is any.
    pub pod: Vec<(Option<String>, String)>,
    /// Addresses and prefixes.
    pub ip: Vec<IpNet>,
    /// Selectors of labels.
    pub label: Vec<LabelSelector>,
    /// Ports.
    pub port: Vec<u16>,
    /// Identities.
    pub identity: Vec<u32>,
}

/// One requirement a part, all of which must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    /// No source is any.
    source: Option<String>,
    key: String,
    /// Without values the key alone counts.
    values: Option<Vec<String>>,
    negated: bool,
}

impl Filter {
    /// Whether a flow is so.
    pub fn matches(&self, flow: &Flow) -> bool {
        let ip = |end: fn(&crate::flow::Ip) -> &str| flow.ip.as_ref().map_or("", end);
        let (source_port, destination_port) = ports(flow).unwrap_or_default();
        self.source.matches(flow.source.as_ref(), ip(|ip| &ip.source), source_port)
            && self.destination.matches(
                flow.destination.as_ref(),
                ip(|ip| &ip.destination),
                destination_port,
            )
            && one_of(&self.verdict, |verdict| *verdict == flow.verdict)
            && one_of(&self.drop_reason, |reason| {
                flow.verdict == "DROPPED" && *reason == flow.drop_reason_desc
            })
            && one_of(&self.event, |(kind, sub)| {
                flow.event_type.as_ref().is_some_and(|event| {
                    event.kind == *kind && sub.is_none_or(|sub| sub == event.sub_type)
                })
            })
            && one_of(&self.protocol, |protocol| is_protocol(flow, protocol))
            && one_of(&self.direction, |direction| *direction == flow.traffic_direction)
            && one_of(&self.node, |node| is_node(&flow.node_name, node))
            && one_of(&self.tcp_flags, |flags| has_flags(flow, flags))
    }
}

fn one_of<T>(values: &[T], matches: impl Fn(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(matches)
}

impl End {
    fn matches(&self, endpoint: Option<&Endpoint>, ip: &str, port: u32) -> bool {
        let absent = Endpoint::default();
        let endpoint = endpoint.unwrap_or(&absent);
        one_of(&self.pod, |(namespace, name)| {
            !endpoint.pod_name.is_empty()
                && namespace.as_ref().is_none_or(|namespace| *namespace == endpoint.namespace)
                && endpoint.pod_name.starts_with(name)
        }) && one_of(&self.ip, |net| ip.parse::<IpAddr>().is_ok_and(|ip| net.contains(&ip)))
            && one_of(&self.label, |selector| selector.matches(&endpoint.labels))
            && one_of(&self.port, |wanted| u32::from(*wanted) == port)
            && one_of(&self.identity, |identity| *identity == endpoint.identity)
    }
}

impl LabelSelector {
    /// Parses Kubernetes' selector syntax over `[source:]key`: `app=cart`, `k8s:app in (a,b)`, `!app`…
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts: Vec<String> = vec![String::new()];
        let mut depth = 0;
        for c in text.chars() {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            match (c, depth, parts.last_mut()) {
                (',', 0, _) => parts.push(String::new()),
                (_, _, Some(part)) => part.push(c),
                (_, _, None) => {}
            }
        }
        parts.iter().map(|part| requirement(part.trim())).collect::<Result<_, _>>().map(Self)
    }

    fn matches(&self, labels: &[String]) -> bool {
        self.0.iter().all(|requirement| {
            let found = labels.iter().any(|label| requirement.is_met_by(label));
            found != requirement.negated
        })
    }
}

impl Requirement {
    fn is_met_by(&self, label: &str) -> bool {
        let (label, value) = label.split_once('=').unwrap_or((label, ""));
        let (source, key) = label.split_once(':').unwrap_or(("", label));
        self.key == key
            && self.source.as_deref().is_none_or(|wanted| wanted == "any" || wanted == source)
            && self.values.as_ref().is_none_or(|values| values.iter().any(|v| v == value))
    }
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let (key, values, negated) = if let Some(key) = text.strip_prefix('!') {
        (key, None, true)
    } else if let Some((key, value)) = text.split_once("!=") {
        (key, Some(vec![value.trim().to_owned()]), true)
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, Some(vec![value.trim().to_owned()]), false)
    } else if let Some((key, list)) = text.split_once(" notin ") {
        (key, Some(set(list)?), true)
    } else if let Some((key, list)) = text.split_once(" in ") {
        (key, Some(set(list)?), false)
    } else {
        (text, None, false)
    };
    let key = key.trim();
    let (source, key) = match key.split_once(':') {
        Some((source, key)) => (Some(source.to_owned()), key),
        None => (None, key),
    };
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(format!(
            "{text:?} is no label selector, as app=cart or 'k8s:tier in (a,b)' are"
        ));
    }
    Ok(Requirement { source, key: key.to_owned(), values, negated })
}

fn set(text: &str) -> Result<Vec<String>, String> {
    let inner = text.trim().strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    let inner = inner.ok_or_else(|| format!("{text:?} is no set of values, as (a,b) is"))?;
    Ok(inner.split(',').map(|value| value.trim().to_owned()).collect())
}

fn is_protocol(flow: &Flow, wanted: &str) -> bool {
    matches!(
        (&flow.l4, wanted),
        (Some(Layer4::Tcp(_)), "tcp")
            | (Some(Layer4::Udp(_)), "udp")
            | (Some(Layer4::Sctp(_)), "sctp")
            | (Some(Layer4::Icmp4(_)), "icmp" | "icmpv4")
    )
}

/// Whether `cluster/node` is what a pattern means; one without a slash is of any cluster.
fn is_node(name: &str, pattern: &str) -> bool {
    let node = name.split_once('/').map_or(name, |(_, node)| node);
    let name = if pattern.contains('/') { name } else { node };
    glob(pattern.to_ascii_lowercase().as_bytes(), name.to_ascii_lowercase().as_bytes())
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], text) => text.is_empty(),
        ([b'*', rest @ ..], text) => {
            (0..=text.len()).any(|at| text.get(at..).is_some_and(|text| glob(rest, text)))
        }
        ([p, pattern @ ..], [t, text @ ..]) => p == t && glob(pattern, text),
        (_, []) => false,
    }
}

fn has_flags(flow: &Flow, wanted: &[String]) -> bool {
    let Some(Layer4::Tcp(tcp)) = &flow.l4 else { return false };
    let set = tcp.flags.names();
    wanted.iter().all(|flag| set.contains(&flag.as_str()))
}

/// The pods of `[namespace/]prefix`; `namespace/` is all of a namespace, `/prefix` of any.
pub fn pod(text: &str) -> Result<(Option<String>, String), String> {
    match text.split_once('/') {
        _ if text.is_empty() => Err("a pod is [NAMESPACE/]PREFIX, not nothing".to_owned()),
        None => Ok((Some("default".to_owned()), text.to_owned())),
        Some(("", name)) => Ok((None, name.to_owned())),
        Some((namespace, name)) => Ok((Some(namespace.to_owned()), name.to_owned())),
    }
}

/// An address or a prefix.
pub fn ip(text: &str) -> Result<IpNet, String> {
    let whole = text.parse::<IpAddr>().map(IpNet::from);
    whole
        .or_else(|_| text.parse::<IpNet>())
        .map_err(|_| format!("{text:?} is no address and no CIDR"))
}

/// An identity's number, or a reserved identity's name.
pub fn identity(text: &str) -> Result<u32, String> {
    let name = text.strip_prefix("reserved:").unwrap_or(text);
    let reserved = (0..=10).find(|number| Identity(*number).reserved_name() == Some(name));
    reserved.or_else(|| text.parse().ok()).ok_or_else(|| {
        format!("{text:?} is no identity: a number, or a name such as world or host")
    })
}

/// An event's type, `TYPE[:SUBTYPE]`, by names or numbers.
pub fn event(text: &str) -> Result<(i32, Option<i32>), String> {
    let (kind, sub) = match text.split_once(':') {
        Some((kind, sub)) => (kind, Some(sub)),
        None => (text, None),
    };
    let known = match kind {
        "drop" => Some(1),
        "capture" => Some(3),
        "trace" => Some(4),
        "policy-verdict" => Some(5),
        "trace-sock" => Some(7),
        "l7" => Some(129),
        number => number.parse().ok(),
    };
    let bad = || {
        format!(
            "{text:?} is no type of event: drop, trace[:to-endpoint…], policy-verdict, capture, trace-sock or l7"
        )
    };
    let sub = match sub {
        None => None,
        Some(name) => {
            let point = POINTS.iter().position(|point| *point == name);
            let sub = point.and_then(|at| i32::try_from(at).ok()).or_else(|| name.parse().ok());
            Some(sub.ok_or_else(bad)?)
        }
    };
    Ok((known.ok_or_else(bad)?, sub))
}

/// A verdict's name.
pub fn verdict(text: &str) -> Result<String, String> {
    const KNOWN: [&str; 7] =
        ["FORWARDED", "DROPPED", "AUDIT", "REDIRECTED", "ERROR", "TRACED", "TRANSLATED"];
    one(text.to_ascii_uppercase(), &KNOWN, "verdict")
}

/// A direction's name.
pub fn direction(text: &str) -> Result<String, String> {
    one(text.to_ascii_uppercase(), &["INGRESS", "EGRESS"], "direction")
}

/// A transport protocol's name.
pub fn protocol(text: &str) -> Result<String, String> {
    one(text.to_ascii_lowercase(), &["tcp", "udp", "sctp", "icmp", "icmpv4"], "protocol")
}

/// A drop reason's name.
pub fn drop_reason(text: &str) -> Result<String, String> {
    let name = text.to_ascii_uppercase();
    let known = drop::number(&name).is_some();
    known.then_some(name).ok_or_else(|| format!("{text:?} is no drop reason, as POLICY_DENIED is"))
}

/// TCP flags that must all be set: `SYN,ACK`.
pub fn tcp_flags(text: &str) -> Result<Vec<String>, String> {
    const KNOWN: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    text.split(',').map(|flag| one(flag.trim().to_ascii_uppercase(), &KNOWN, "TCP flag")).collect()
}

fn one(text: String, known: &[&str], what: &str) -> Result<String, String> {
    if known.contains(&text.as_str()) {
        Ok(text)
    } else {
        Err(format!("{text:?} is no {what}: it is one of {}", known.join(", ")))
    }
}
