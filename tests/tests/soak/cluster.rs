//! What the cluster is made of at a moment, as manifests and as the oracle reads them; and changes of it by chance.

use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt, net::Ipv4Addr};
use weft_tests::{
    oracle::{Endpoint, Oracle, Port},
    seed::Chance,
    timeline::{Question, Verdicts},
};

pub(crate) const NAMESPACE: &str = "soak";
pub(crate) const NODES: [&str; 2] = ["node1", "node2"];
/// What probes ask, and where.
pub(crate) const PORTS: [(&str, u16); 2] = [("UDP", 53), ("TCP", 80)];
const ROLES: [&str; 3] = ["red", "green", "blue"];
/// Policies that there are at most: any two of them often speak of the same pods.
const POLICIES: u64 = 5;
/// What an agent of the lab lets a class have. Five policies of these need less.
pub(crate) const CLASS_ENTRIES: u64 = 256;

/// A pod; its name is never used again.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    role: &'static str,
    pub(crate) node: &'static str,
    /// Known once it runs.
    pub(crate) address: Option<Ipv4Addr>,
}

/// Pods and policies by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) pods: BTreeMap<String, Pod>,
    policies: BTreeMap<String, Value>,
    named: u32,
}

/// A change of one object.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A policy comes, or has other rules.
    Policy(String, Value),
    /// One goes.
    NoPolicy(String),
    /// A pod goes, and a new one comes.
    Pod(String),
    /// A policy that no agent has room for. Nothing may be seen of it.
    TooMuch,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(name, spec) => write!(f, "{name} is {spec}"),
            Self::NoPolicy(name) => write!(f, "{name} goes"),
            Self::Pod(name) => write!(f, "another pod in the place of {name}"),
            Self::TooMuch => f.write_str("a policy that there is no room for"),
        }
    }
}

impl Cluster {
    /// With so many pods on each node.
    pub(crate) fn of(chance: &mut Chance, pods: usize) -> Self {
        let mut cluster = Self::default();
        for node in NODES {
            (0..pods).for_each(|_| drop(cluster.add_pod(chance, node)));
        }
        cluster
    }

    /// Adds a pod; its name.
    pub(crate) fn add_pod(&mut self, chance: &mut Chance, node: &'static str) -> String {
        self.named += 1;
        let name = format!("p{}", self.named);
        let role = chance.one_of(&ROLES);
        self.pods.insert(name.clone(), Pod { role, node, address: None });
        name
    }

    /// A change by chance.
    pub(crate) fn draw(&self, chance: &mut Chance) -> Change {
        let name = format!("r{}", chance.number() % POLICIES);
        match chance.number() % 20 {
            0..=2 => {
                let pods: Vec<&str> = self.pods.keys().map(String::as_str).collect();
                Change::Pod(chance.one_of(&pods).to_owned())
            }
            3 => Change::TooMuch,
            4..=8 if self.policies.contains_key(&name) => Change::NoPolicy(name),
            _ => Change::Policy(name, draw_spec(chance)),
        }
    }

    /// The cluster after a change of policies.
    pub(crate) fn with(&self, change: &Change) -> Self {
        let mut cluster = self.clone();
        match change {
            Change::Policy(name, spec) => drop(cluster.policies.insert(name.clone(), spec.clone())),
            Change::NoPolicy(name) => drop(cluster.policies.remove(name)),
            Change::Pod(_) | Change::TooMuch => {}
        }
        cluster
    }

    /// A pod's manifest.
    pub(crate) fn manifest(&self, name: &str) -> String {
        self.pods.get(name).map(|pod| pod.manifest(name).to_string()).unwrap()
    }

    /// All of it as documents.
    pub(crate) fn manifests(&self) -> String {
        let pods = self.pods.iter().map(|(name, pod)| pod.manifest(name));
        let policies = self.policies.iter().map(|(name, spec)| policy(name, spec));
        pods.chain(policies)
            .map(|document| document.to_string())
            .collect::<Vec<_>>()
            .join("\n---\n")
    }

    /// What the oracle says of everyone whose address is known.
    pub(crate) fn verdicts(&self) -> Verdicts {
        let mut known = self.clone();
        known.pods.retain(|_, pod| pod.address.is_some());
        let oracle = Oracle::parse(&known.manifests()).unwrap();
        let mut verdicts = Verdicts::new();
        for from in known.pods.keys().map(|name| full(name)) {
            for to in known.pods.keys().map(|name| full(name)).filter(|to| *to != from) {
                for (protocol, number) in PORTS {
                    let ends = (Endpoint::Pod(from.clone()), Endpoint::Pod(to.clone()));
                    let port = Port { protocol: protocol.to_owned(), number };
                    let answer = oracle.judge(&ends.0, &ends.1, &port).unwrap();
                    let (from, to) = (from.clone(), to.clone());
                    verdicts.insert(Question { from, to, protocol }, answer);
                }
            }
        }
        verdicts
    }
}

/// A pod's name with its namespace.
pub(crate) fn full(name: &str) -> String {
    format!("{NAMESPACE}/{name}")
}

impl Pod {
    fn manifest(&self, name: &str) -> Value {
        let ports = PORTS.map(|(protocol, n)| json!({"containerPort": n, "protocol": protocol}));
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"role": self.role}},
            "spec": {"nodeName": self.node, "containers": [{"name": "c", "image": "i", "ports": ports}]},
            "status": self.address.map(|address| json!({"podIP": address})),
        })
    }
}

/// A policy's document.
pub(crate) fn policy(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
    })
}

/// More ports than an agent of the lab lets a class have; its first rule would let everyone in.
pub(crate) fn too_much() -> Value {
    // Every other one: none are a prefix together.
    let ports: Vec<Value> = (0..=CLASS_ENTRIES).map(|n| json!({"port": 10_000 + 2 * n})).collect();
    let roles = json!({"matchExpressions": [{"key": "role", "operator": "Exists"}]});
    json!({"podSelector": roles, "ingress": [{}, {"ports": ports}], "egress": [{}], "policyTypes": ["Ingress", "Egress"]})
}

fn draw_spec(chance: &mut Chance) -> Value {
    let subject = draw_selector(chance);
    let types = chance.one_of::<[&str]>(&[&["Ingress"], &["Egress"], &["Ingress", "Egress"]]);
    json!({
        "podSelector": subject, "policyTypes": types,
        "ingress": draw_rules(chance, "from"), "egress": draw_rules(chance, "to"),
    })
}

fn draw_selector(chance: &mut Chance) -> Value {
    match chance.number() % 4 {
        0 => json!({}),
        1 => {
            let roles = [chance.one_of(&ROLES), chance.one_of(&ROLES)];
            json!({"matchExpressions": [{"key": "role", "operator": "NotIn", "values": roles}]})
        }
        _ => json!({"matchLabels": {"role": chance.one_of(&ROLES)}}),
    }
}

/// Rules of a direction: none, one or two; `peers` is what the API calls its list.
fn draw_rules(chance: &mut Chance, peers: &str) -> Value {
    let rules = (0..chance.number() % 3).map(|_| {
        let mut rule = serde_json::Map::new();
        match chance.number() % 5 {
            0 => {}
            1 => {
                let except = chance.one_of(&["10.244.1.0/24", "10.244.2.0/28"]);
                let block = json!({"ipBlock": {"cidr": "10.244.0.0/16", "except": [except]}});
                rule.insert(peers.to_owned(), json!([block]));
            }
            _ => {
                let selector = json!({"podSelector": draw_selector(chance)});
                rule.insert(peers.to_owned(), json!([selector]));
            }
        }
        if chance.number().is_multiple_of(3) {
            let (protocol, port) = *chance.one_of(&PORTS.each_ref());
            rule.insert("ports".to_owned(), json!([{"protocol": protocol, "port": port}]));
        }
        Value::Object(rule)
    });
    Value::Array(rules.collect())
}
