//! What the lab's parts say, in the words of the page. Nothing here asks anybody.

use crate::report::{Flow, Side, Verdict};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
    time::Duration,
};
use weft_core::policy::offline;
use weft_hubble::{
    flow::{Endpoint, Flow as HubbleFlow, Layer4, Policy},
    print, time,
};

/// Points of a chart: as many as it can show.
const POINTS: u32 = 60;

/// From whom to whom, to which port, and what came of it.
type Key = (String, String, String, Verdict);
/// How often, on whose side it ended, and who decided.
type Told = (u64, Option<Side>, BTreeSet<String>);

/// Flows by their ends, port and verdict. A flow between two nodes is told by both; whether it came through is what the destination's
/// node says, `nodes` being where pods are; that it did not is told once, where it ended.
pub(super) fn flows(flows: &[Arc<HubbleFlow>], nodes: &BTreeMap<&str, &str>) -> Vec<Flow> {
    let mut told: BTreeMap<Key, Told> = BTreeMap::new();
    for flow in flows {
        let ((from, to), verdict) = (ends(flow), verdict(flow));
        let arrived = nodes.get(to.as_str()).is_none_or(|node| {
            flow.node_name.rsplit('/').next().is_some_and(|teller| teller == *node)
        });
        let (count, side, by) = told.entry((from, to, port(flow), verdict)).or_default();
        *count += u64::from(verdict == Verdict::Denied || arrived);
        *side = (verdict == Verdict::Denied).then(|| match flow.traffic_direction.as_str() {
            "EGRESS" => Side::Egress,
            _ => Side::Ingress,
        });
        by.extend(policies(flow));
    }
    let counted = told.into_iter().filter(|(_, (count, ..))| *count > 0);
    let flow = |((from, to, port, verdict), (count, side, by)): (Key, Told)| {
        let named: Vec<String> = by.into_iter().collect();
        let why = match verdict {
            _ if !named.is_empty() => named.join(" and "),
            Verdict::Allowed => "no policy isolates either end".to_owned(),
            Verdict::Denied => String::new(),
        };
        Flow { from, to, port, verdict, side, count, why }
    };
    counted.map(flow).collect()
}

fn verdict(flow: &HubbleFlow) -> Verdict {
    if flow.verdict == "FORWARDED" { Verdict::Allowed } else { Verdict::Denied }
}

/// Names of a flow's ends, or their addresses.
fn ends(flow: &HubbleFlow) -> (String, String) {
    let name = |endpoint: Option<&Endpoint>, address: Option<&String>| match endpoint {
        Some(pod) if !pod.pod_name.is_empty() => format!("{}/{}", pod.namespace, pod.pod_name),
        _ => address.cloned().unwrap_or_default(),
    };
    let ip = flow.ip.as_ref();
    let from = name(flow.source.as_ref(), ip.map(|ip| &ip.source));
    (from, name(flow.destination.as_ref(), ip.map(|ip| &ip.destination)))
}

fn port(flow: &HubbleFlow) -> String {
    match &flow.l4 {
        Some(Layer4::Tcp(tcp)) => format!("TCP/{}", tcp.destination_port),
        Some(Layer4::Udp(ports)) => format!("UDP/{}", ports.destination_port),
        Some(Layer4::Sctp(ports)) => format!("SCTP/{}", ports.destination_port),
        Some(Layer4::Icmp4(_)) => "ICMP".to_owned(),
        None => "IP".to_owned(),
    }
}

/// The policies that decided a flow; of a drop without any its reason.
fn policies(flow: &HubbleFlow) -> Vec<String> {
    let (egress, ingress) = match verdict(flow) {
        Verdict::Allowed => (&flow.egress_allowed_by, &flow.ingress_allowed_by),
        Verdict::Denied => (&flow.egress_denied_by, &flow.ingress_denied_by),
    };
    let named: Vec<String> = egress.iter().chain(ingress).map(policy_name).collect();
    match verdict(flow) {
        Verdict::Denied if named.is_empty() => vec![print::kind(flow)],
        _ => named,
    }
}

/// `shop/cart-from-frontend ingress[0]`.
fn policy_name(policy: &Policy) -> String {
    let rule = policy.labels.iter().find_map(|label| label.strip_prefix("weft:rule="));
    let rule = rule.map(|rule| format!(" {rule}")).unwrap_or_default();
    format!("{}/{}{rule}", policy.namespace, policy.name)
}

/// Why both ends' policies say what they say.
pub(super) fn why(answer: &offline::Answer) -> String {
    let (egress, ingress) = (side(&answer.egress), side(&answer.ingress));
    match (answer.egress.allows(), answer.ingress.allows()) {
        (false, true) => egress.unwrap_or_default(),
        (true, false) => ingress.unwrap_or_default(),
        _ => {
            let both: Vec<String> = egress.into_iter().chain(ingress).collect();
            if both.is_empty() {
                "no policy isolates either end".to_owned()
            } else {
                both.join(" and ")
            }
        }
    }
}

fn side(side: &offline::Side) -> Option<String> {
    let joined = |names: Vec<String>| names.join(", ");
    match side {
        offline::Side::NoPod | offline::Side::Open => None,
        offline::Side::Itself => Some("a pod reaches itself".to_owned()),
        offline::Side::OwnNode => Some("a pod's own node reaches it".to_owned()),
        offline::Side::Allowed(rules) => {
            Some(joined(rules.iter().map(ToString::to_string).collect()))
        }
        offline::Side::Isolated(policies) => {
            let names = joined(policies.iter().map(ToString::to_string).collect());
            Some(format!("isolated by {names}, and no rule allows it"))
        }
        offline::Side::Dropped(reason) => Some(format!("dropped: {reason:?}")),
    }
}

/// A policy that lets pods with these labels open nothing.
pub(super) fn policy(pod: &str, labels: &BTreeMap<String, String>) -> String {
    let namespace = pod.split('/').next().unwrap_or_default();
    let mut yaml = format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: weft-report\n  namespace: {namespace}\nspec:\n  policyTypes: [Egress]\n  podSelector:\n    matchLabels:\n"
    );
    for (key, value) in labels {
        // Quoted as JSON, which is YAML: a label may look like a number. A text takes what is written to it.
        let value = serde_json::Value::from(value.as_str());
        let _ = writeln!(yaml, "      {key}: {value}");
    }
    yaml
}

/// When and how a flow from one pod to another was stopped after a moment.
pub(super) fn stopped(
    flow: &HubbleFlow,
    (from, to): (&str, &str),
    after: u64,
) -> Option<(u64, String)> {
    let at = time::parse(&flow.time)?;
    let is_it = verdict(flow) == Verdict::Denied && ends(flow) == (from.to_owned(), to.to_owned());
    let what = || {
        format!(
            "{from} → {to} {} is judged and dropped: {}",
            port(flow),
            policies(flow).join(" and ")
        )
    };
    (is_it && at >= after).then(|| (at, what()))
}

/// As many samples as a chart shows, at even distances: of each part the last.
pub(super) fn thinned(samples: &[(f64, u64)], whole: Duration) -> Vec<(f64, u64)> {
    let whole = whole.as_secs_f64() * 1000.0;
    let mut thinned = vec![(0.0, 0)];
    let mut last = 0;
    let mut samples = samples.iter().peekable();
    for point in 1..=POINTS {
        let until = whole * f64::from(point) / f64::from(POINTS);
        while let Some((_, back)) = samples.next_if(|(at, _)| *at <= until) {
            last = *back;
        }
        thinned.push((until, last));
    }
    thinned
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]
    use super::*;

    fn flow(node: &str, changes: &str) -> Arc<HubbleFlow> {
        let mut value: serde_json::Value = serde_json::from_str(
            r#"{"time":"2026-07-30T12:34:56.789Z","verdict":"FORWARDED","IP":{"source":"10.0.1.10","destination":"10.0.2.20"},
            "l4":{"TCP":{"source_port":43210,"destination_port":80,"flags":{"SYN":true}}},
            "source":{"namespace":"shop","pod_name":"web-0"},"destination":{"namespace":"shop","pod_name":"db-0"},"Type":"L3_L4"}"#,
        )
        .unwrap();
        value["node_name"] = node.into();
        let changes: serde_json::Value = serde_json::from_str(changes).unwrap();
        changes.as_object().unwrap().iter().for_each(|(key, it)| value[key] = it.clone());
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn flows_are_told_once_with_who_decided() {
        let by = r#"{"ingress_allowed_by":[{"name":"db","namespace":"shop","labels":["weft:rule=ingress[0]"]}]}"#;
        let denied = r#"{"verdict":"DROPPED","traffic_direction":"EGRESS","event_type":{"type":1,"sub_type":133},
            "egress_denied_by":[{"name":"shut","namespace":"shop"}]}"#;
        let outside = r#"{"source":{"identity":2},"verdict":"DROPPED","event_type":{"type":1,"sub_type":133}}"#;
        let nodes = BTreeMap::from([("shop/web-0", "a"), ("shop/db-0", "b")]);
        let out = r#"{"egress_allowed_by":[{"name":"web","namespace":"shop"}]}"#;
        let elsewhere = r#"{"destination":{"namespace":"shop","pod_name":"cart"},"IP":{"destination":"10.0.2.21"}}"#;
        let nodes = nodes.into_iter().chain([("shop/cart", "b")]).collect();
        let told = flows(
            &[
                flow("x/a", out),
                flow("x/b", by),
                flow("x/b", by),
                flow("x/a", denied),
                flow("x/b", outside),
                flow("x/a", elsewhere),
            ],
            &nodes,
        );
        let line = |flow: &Flow| {
            let Flow { from, to, port, verdict, side, count, why } = flow;
            format!("{from} {to} {port} {verdict:?} {side:?} {count} {why}")
        };
        assert_eq!(
            told.iter().map(line).collect::<Vec<_>>(),
            [
                "10.0.1.10 shop/db-0 TCP/80 Denied Some(Ingress) 1 Policy denied",
                "shop/web-0 shop/db-0 TCP/80 Allowed None 2 shop/db ingress[0] and shop/web",
                "shop/web-0 shop/db-0 TCP/80 Denied Some(Egress) 1 shop/shut",
            ]
        );
    }

    #[test]
    fn the_first_stopped_packet_is_one_of_that_stream_after_that_moment() {
        let denied = flow("a", r#"{"verdict":"DROPPED","event_type":{"type":1,"sub_type":133}}"#);
        let at = time::parse(&denied.time).unwrap();
        let ends = ("shop/web-0", "shop/db-0");
        assert!(stopped(&denied, ends, at).unwrap().1.contains("TCP/80"));
        assert_eq!(stopped(&denied, ends, at + 1), None);
        assert_eq!(stopped(&denied, ("shop/db-0", "shop/web-0"), 0), None);
        assert_eq!(stopped(&flow("a", "{}"), ends, 0), None);
    }

    #[test]
    fn a_policy_is_yaml_whatever_its_labels_are() {
        let labels = BTreeMap::from([
            ("app".to_owned(), "1.0".to_owned()),
            ("a/b".to_owned(), String::new()),
        ]);
        let parsed = weft_manifests::parse("report", &policy("shop/web-0", &labels)).unwrap();
        let told = format!("{:?}", parsed.objects);
        assert!(told.contains("weft-report") && told.contains("1.0"), "{told}");
    }

    #[test]
    fn a_chart_has_even_points_and_ends_with_what_was_back() {
        let samples: Vec<(f64, u64)> =
            (1..=1000_u32).map(|n| (f64::from(n), u64::from(n))).collect();
        let thinned = thinned(&samples, Duration::from_secs(1));
        assert_eq!(thinned.len(), POINTS as usize + 1);
        assert_eq!((thinned[0], thinned[POINTS as usize]), ((0.0, 0), (1000.0, 1000)));
        assert!(thinned.windows(2).all(|two| two[0].1 <= two[1].1 && two[0].0 < two[1].0));
    }
}
