//! What the fabric does is what the policies' words say: random clusters, the engine and the verdict crate
//! against the oracle, every pair and every interesting port.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};
use weft_core::policy::offline::{Offline, Question};
use weft_tests::oracle::{Endpoint, Oracle, Port};
use weft_types::{LabelFilter, Object};

const PORTS: [i32; 8] = [1, 79, 80, 81, 443, 1023, 8080, 65535];
const NAMES: [&str; 3] = ["http", "dns", "metrics"];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const BLOCKS: [&str; 12] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/16",
    "10.0.0.0/24",
    "10.0.0.0/30",
    "10.0.0.1/32",
    "10.0.0.4/31",
    "10.0.1.0/24",
    "192.168.0.0/24",
    "192.168.0.1/32",
    "8.0.0.0/6",
    "8.8.8.8/32",
];
/// Outside the cluster: in and out of the blocks.
const OUTSIDERS: [&str; 3] = ["8.8.8.8", "10.1.2.3", "172.16.0.1"];

fn label() -> impl Strategy<Value = (&'static str, &'static str)> {
    (select(&["app", "tier"][..]), select(&["web", "db", "cache"][..]))
}

fn labels() -> impl Strategy<Value = Value> {
    vec(label(), 0..3).prop_map(|labels| {
        Value::Object(labels.into_iter().map(|(k, v)| (k.to_owned(), json!(v))).collect())
    })
}

fn selector() -> impl Strategy<Value = Value> {
    let key = || select(&["app", "tier", "absent"][..]);
    let values = || vec(select(&["web", "db", "cache"][..]), 1..3);
    prop_oneof![
        2 => Just(json!({})),
        4 => labels().prop_map(|labels| json!({ "matchLabels": labels })),
        1 => (key(), select(&["In", "NotIn"][..]), values()).prop_map(|(key, operator, values)| {
            json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]})
        }),
        1 => (key(), select(&["Exists", "DoesNotExist"][..])).prop_map(|(key, operator)| {
            json!({"matchExpressions": [{"key": key, "operator": operator}]})
        }),
    ]
}

fn peer() -> impl Strategy<Value = Value> {
    let block = (select(&BLOCKS[..]), vec(select(&BLOCKS[..]), 0..3)).prop_map(|(cidr, except)| {
        let outer: ipnet::Ipv4Net = cidr.parse().unwrap();
        let inside = |net: &&str| {
            let net: ipnet::Ipv4Net = net.parse().unwrap();
            outer.contains(&net) && outer != net
        };
        let except: Vec<_> = except.into_iter().filter(inside).collect();
        json!({"ipBlock": {"cidr": cidr, "except": except}})
    });
    prop_oneof![
        selector().prop_map(|pods| json!({ "podSelector": pods })),
        selector().prop_map(|namespaces| json!({ "namespaceSelector": namespaces })),
        (selector(), selector()).prop_map(|(namespaces, pods)| {
            json!({"namespaceSelector": namespaces, "podSelector": pods})
        }),
        block,
    ]
}

fn port() -> impl Strategy<Value = Value> {
    let protocol = || select(&PROTOCOLS[..]);
    prop_oneof![
        protocol().prop_map(|protocol| json!({ "protocol": protocol })),
        select(&PORTS[..]).prop_map(|port| json!({ "port": port })),
        (protocol(), select(&PORTS[..])).prop_map(|(p, port)| json!({"protocol": p, "port": port})),
        (protocol(), select(&PORTS[..]), select(&PORTS[..])).prop_map(|(p, a, b)| {
            json!({"protocol": p, "port": a.min(b), "endPort": a.max(b)})
        }),
        (protocol(), select(&NAMES[..])).prop_map(|(p, n)| json!({"protocol": p, "port": n})),
    ]
}

/// Rules of one direction; `list` is what the API calls its peers.
fn rules(list: &'static str) -> impl Strategy<Value = Value> {
    let rule = (proptest::option::of(vec(peer(), 0..3)), proptest::option::of(vec(port(), 0..3)));
    vec(rule, 0..3).prop_map(move |rules| {
        let rule = |(peers, ports): (Option<Vec<Value>>, Option<Vec<Value>>)| {
            let mut rule = serde_json::Map::new();
            rule.extend(peers.map(|peers| (list.to_owned(), json!(peers))));
            rule.extend(ports.map(|ports| ("ports".to_owned(), json!(ports))));
            Value::Object(rule)
        };
        Value::Array(rules.into_iter().map(rule).collect())
    })
}

fn policy() -> impl Strategy<Value = Value> {
    let types = proptest::option::of(select(vec![
        vec!["Ingress"],
        vec!["Egress"],
        vec!["Ingress", "Egress"],
    ]));
    let parts = (
        select(&["a", "b"][..]),
        selector(),
        types,
        proptest::option::of(rules("from")),
        proptest::option::of(rules("to")),
    );
    parts.prop_map(|(namespace, subject, types, ingress, egress)| {
        let mut spec = serde_json::Map::new();
        spec.insert("podSelector".to_owned(), subject);
        spec.extend(types.map(|types| ("policyTypes".to_owned(), json!(types))));
        spec.extend(ingress.map(|rules| ("ingress".to_owned(), rules)));
        spec.extend(egress.map(|rules| ("egress".to_owned(), rules)));
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"namespace": namespace}, "spec": spec,
        })
    })
}

type PodParts = (&'static str, Value, Vec<(&'static str, &'static str, i32)>, &'static str);

fn pod() -> impl Strategy<Value = PodParts> {
    let ports = vec((select(&NAMES[..]), select(&PROTOCOLS[..]), select(&PORTS[..])), 0..3)
        .prop_map(|mut ports| {
            // The API refuses two ports of one name in a container.
            ports.sort();
            ports.dedup_by_key(|port| port.0);
            ports
        });
    (select(&["a", "b"][..]), labels(), ports, select(&["n1", "n2"][..]))
}

/// A cluster as YAML documents (JSON is YAML).
fn cluster() -> impl Strategy<Value = String> {
    (vec(pod(), 2..6), vec(policy(), 1..5), labels()).prop_map(|(pods, policies, of_a)| {
        let mut documents = vec![
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": of_a}}),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "b"}}),
        ];
        for (name, address, cidr) in
            [("n1", "192.168.0.1", "10.0.0.0/24"), ("n2", "192.168.0.2", "10.0.1.0/24")]
        {
            documents.push(json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
                "spec": {"podCIDR": cidr},
                "status": {"addresses": [{"type": "InternalIP", "address": address}]},
            }));
        }
        for (at, (namespace, labels, ports, node)) in pods.into_iter().enumerate() {
            let ports: Vec<Value> = ports
                .into_iter()
                .map(|(name, p, port)| json!({"name": name, "protocol": p, "containerPort": port}))
                .collect();
            let net = if node == "n1" { 0 } else { 1 };
            documents.push(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("p{at}"), "namespace": namespace, "labels": labels},
                "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i", "ports": ports}]},
                "status": {"podIP": format!("10.0.{net}.{}", at + 1)},
            }));
        }
        for (at, mut policy) in policies.into_iter().enumerate() {
            policy["metadata"]["name"] = json!(format!("r{at}"));
            documents.push(policy);
        }
        documents.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
    })
}

fn offline(text: &str) -> Offline {
    let manifests = weft_manifests::parse("cluster", text).unwrap_or_else(|e| panic!("{e:?}"));
    let addresses = manifests.objects.iter().filter_map(|object| match object {
        Object::Pod(pod) => Some((pod.name.clone(), pod.address?)),
        _ => None,
    });
    Offline::new(&manifests.objects, &addresses.collect(), &LabelFilter::default())
}

/// Every pair and port that the two judge differently.
fn differences(judged: &str, told: &str) -> Vec<String> {
    let (fabric, oracle) = (offline(judged), Oracle::parse(told).unwrap());
    let mut endpoints = oracle.endpoints();
    endpoints.extend(OUTSIDERS.iter().map(|at| Endpoint::External(at.parse().unwrap())));
    let mut ports: Vec<(&str, u8, u16)> = vec![("ICMP", 1, 8)];
    for (protocol, number) in [("TCP", 6), ("UDP", 17), ("SCTP", 132)] {
        ports.extend(PORTS.iter().map(|port| (protocol, number, u16::try_from(*port).unwrap())));
    }
    let mut differences = Vec::new();
    for from in &endpoints {
        for to in &endpoints {
            for (name, protocol, port) in &ports {
                let asked = Port { protocol: (*name).to_owned(), number: *port };
                let expected = oracle.judge(from, to, &asked).unwrap();
                let question = Question {
                    from: oracle.address_of(from).unwrap(),
                    to: oracle.address_of(to).unwrap(),
                    protocol: *protocol,
                    port: *port,
                };
                let found = fabric.judge(&question);
                if (found.egress.allows(), found.ingress.allows())
                    != (expected.egress, expected.ingress)
                    || fabric.passes(&question) != expected.allowed()
                {
                    let says = format!("{found:?}, the oracle {expected:?}");
                    differences.push(format!("{from:?} -> {to:?} {name}/{port}: {says}"));
                }
            }
        }
    }
    differences
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_fabric_does_what_the_words_say(text in cluster()) {
        let differences = differences(&text, &text);
        prop_assert!(differences.is_empty(), "{}\n{text}", differences.join("\n"));
    }
}

/// The comparison must be able to fail: the fabric is given a policy that is a little off.
#[test]
fn a_policy_that_is_a_little_off_is_noticed() {
    let nodes_and_pods = r#"
{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDR: 10.0.0.0/24}, status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p0, namespace: a, labels: {app: web}}, spec: {nodeName: n1, containers: [{name: c, image: i, ports: [{name: http, containerPort: 80}]}]}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p1, namespace: a, labels: {app: web}}, spec: {nodeName: n1, containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]}, status: {podIP: 10.0.0.2}}
---
"#;
    let of = |spec: &str| {
        format!(
            "{nodes_and_pods}{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: r, namespace: a}}, spec: {spec}}}"
        )
    };
    for (right, off) in [
        (
            "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.1/32]}}]}]}",
            "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}",
        ),
        (
            "{podSelector: {}, ingress: [{ports: [{port: http}]}]}",
            "{podSelector: {}, ingress: [{ports: [{port: 80}, {port: 8080}]}]}",
        ),
        (
            "{podSelector: {}, ingress: [{ports: [{port: 79, endPort: 80}]}]}",
            "{podSelector: {}, ingress: [{ports: [{port: 79, endPort: 81}]}]}",
        ),
        ("{podSelector: {}, ingress: []}", "{podSelector: {}, ingress: [{}]}"),
        ("{podSelector: {}, policyTypes: [Egress]}", "{podSelector: {}}"),
        (
            "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}",
            "{podSelector: {}, ingress: [{from: []}]}",
        ),
    ] {
        assert_eq!(differences(&of(right), &of(right)), Vec::<String>::new(), "{right}");
        assert!(!differences(&of(off), &of(right)).is_empty(), "{off} for {right}");
    }
}
