//! The policy oracle: who may speak to whom by the words of the Kubernetes NetworkPolicy API, slowly.
//!
//! It reads Kubernetes objects as they are and goes through every policy for every question. It shares
//! no code with the engine, the verdict crate or the manifest reader, and is built the other way round:
//! no identities, no entries, no prefixes, just pods, policies and addresses.
//!
//! Where the API leaves room, Weft's decisions are these:
//! - `ipBlock` matches whoever has the address, pods and nodes included.
//! - A pod's own node always reaches it; what a pod sends to its node is judged like any other traffic.
//! - A named port is the one that the *destination pod* calls so, if the protocol agrees; of two with one
//!   name and protocol the first counts. A destination that is no pod has no named ports.
//! - A pod always reaches itself.

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Node, Pod},
        networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

/// Objects of a cluster, as Kubernetes has them.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    /// Namespaces.
    pub namespaces: Vec<Namespace>,
    /// Pods, each with `status.podIP`.
    pub pods: Vec<Pod>,
    /// Nodes, each with an InternalIP.
    pub nodes: Vec<Node>,
    /// Policies.
    pub policies: Vec<NetworkPolicy>,
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// A pod by `namespace/name`.
    Pod(String),
    /// A node by name.
    Node(String),
    /// Someone outside the cluster.
    External(Ipv4Addr),
}

/// What the policies say of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the source's policies let it out; true for a source that has none.
    pub egress: bool,
    /// Whether the destination's policies let it in; true for a destination that has none.
    pub ingress: bool,
}

impl Answer {
    /// Whether it may be.
    pub fn allowed(self) -> bool {
        self.egress && self.ingress
    }
}

/// A destination port as policies see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// `TCP`, `UDP`, `SCTP`, or anything else, which policies cannot name.
    pub protocol: String,
    /// Its number.
    pub number: u16,
}

#[derive(Clone, Copy)]
enum Direction {
    Ingress,
    Egress,
}

impl Oracle {
    /// From YAML documents; kinds that it does not know are an error.
    pub fn parse(text: &str) -> Result<Self> {
        let mut oracle = Self::default();
        oracle.add(text)?;
        Ok(oracle)
    }

    /// Adds YAML documents.
    pub fn add(&mut self, text: &str) -> Result<()> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("parse YAML")?;
        for document in documents.into_iter().filter(|document| !document.is_null()) {
            match document.get("kind").and_then(Value::as_str) {
                Some("Namespace") => self.namespaces.push(object(document)?),
                Some("Pod") => self.pods.push(object(document)?),
                Some("Node") => self.nodes.push(object(document)?),
                Some("NetworkPolicy") => self.policies.push(object(document)?),
                other => bail!("the oracle does not know kind {other:?}"),
            }
        }
        Ok(())
    }

    /// What the policies say of a connection that `from` opens to a port of `to`.
    pub fn judge(&self, from: &Endpoint, to: &Endpoint, port: &Port) -> Result<Answer> {
        if matches!(from, Endpoint::Pod(_)) && from == to {
            return Ok(Answer { egress: true, ingress: true });
        }
        let egress = match from {
            Endpoint::Pod(name) => {
                self.one_side(self.pod(name)?, to, to, port, Direction::Egress)?
            }
            Endpoint::Node(_) | Endpoint::External(_) => true,
        };
        let ingress = match to {
            Endpoint::Pod(name) => {
                let pod = self.pod(name)?;
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
                let own = matches!(from, Endpoint::Node(from) if Some(from) == node.as_ref());
                own || self.one_side(pod, from, to, port, Direction::Ingress)?
            }
            Endpoint::Node(_) | Endpoint::External(_) => true,
        };
        Ok(Answer { egress, ingress })
    }

    /// One pod's policies in one direction: allowed if none isolates it, or any rule of any lets it.
    fn one_side(
        &self,
        pod: &Pod,
        peer: &Endpoint,
        destination: &Endpoint,
        port: &Port,
        direction: Direction,
    ) -> Result<bool> {
        let mut isolated = false;
        for policy in &self.policies {
            let spec = policy.spec.clone().unwrap_or_default();
            if namespace_of(&policy.metadata.namespace) != namespace_of(&pod.metadata.namespace)
                || !selects(&spec.pod_selector.clone().unwrap_or_default(), &labels_of(pod))
                || !is_about(&spec, direction)
            {
                continue;
            }
            isolated = true;
            let home = namespace_of(&policy.metadata.namespace);
            for (peers, ports) in rules_of(&spec, direction) {
                if self.peers_match(&peers, peer, &home)?
                    && self.ports_match(&ports, destination, port)?
                {
                    return Ok(true);
                }
            }
        }
        Ok(!isolated)
    }

    /// An empty or missing list of peers means everyone.
    fn peers_match(
        &self,
        peers: &[NetworkPolicyPeer],
        whom: &Endpoint,
        home: &str,
    ) -> Result<bool> {
        if peers.is_empty() {
            return Ok(true);
        }
        for peer in peers {
            if self.peer_matches(peer, whom, home)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn peer_matches(&self, peer: &NetworkPolicyPeer, whom: &Endpoint, home: &str) -> Result<bool> {
        if let Some(block) = &peer.ip_block {
            let address = IpAddr::V4(self.address_of(whom)?);
            if !block.cidr.parse::<IpNet>()?.contains(&address) {
                return Ok(false);
            }
            for except in block.except.iter().flatten() {
                if except.parse::<IpNet>()?.contains(&address) {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        // Selectors select pods; nodes and outsiders are never meant.
        let Endpoint::Pod(name) = whom else { return Ok(false) };
        let pod = self.pod(name)?;
        let namespace = namespace_of(&pod.metadata.namespace);
        let in_namespace = match &peer.namespace_selector {
            None => namespace == home,
            Some(selector) => selects(selector, &self.namespace_labels(&namespace)),
        };
        let pod_selected = match &peer.pod_selector {
            None => true,
            Some(selector) => selects(selector, &labels_of(pod)),
        };
        Ok(in_namespace && pod_selected)
    }

    /// An empty or missing list of ports means every port of every protocol.
    fn ports_match(
        &self,
        ports: &[NetworkPolicyPort],
        destination: &Endpoint,
        asked: &Port,
    ) -> Result<bool> {
        if ports.is_empty() {
            return Ok(true);
        }
        for port in ports {
            if port.protocol.as_deref().unwrap_or("TCP") != asked.protocol {
                continue;
            }
            let matches = match &port.port {
                None => true,
                Some(IntOrString::Int(first)) => {
                    let last = port.end_port.unwrap_or(*first);
                    (*first..=last).contains(&i32::from(asked.number))
                }
                Some(IntOrString::String(name)) => {
                    self.port_named(destination, name, &asked.protocol)? == Some(asked.number)
                }
            };
            if matches {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The port that a destination calls so.
    fn port_named(&self, at: &Endpoint, name: &str, protocol: &str) -> Result<Option<u16>> {
        let Endpoint::Pod(pod) = at else { return Ok(None) };
        let containers = self.pod(pod)?.spec.iter().flat_map(|spec| &spec.containers);
        for port in containers.flat_map(|container| container.ports.iter().flatten()) {
            if port.name.as_deref() == Some(name)
                && port.protocol.as_deref().unwrap_or("TCP") == protocol
            {
                return Ok(Some(u16::try_from(port.container_port)?));
            }
        }
        Ok(None)
    }

    /// The address of an endpoint.
    pub fn address_of(&self, endpoint: &Endpoint) -> Result<Ipv4Addr> {
        let text = match endpoint {
            Endpoint::External(address) => return Ok(*address),
            Endpoint::Pod(name) => {
                let status = self.pod(name)?.status.as_ref();
                status.and_then(|status| status.pod_ip.clone())
            }
            Endpoint::Node(name) => {
                let named = |node: &&Node| node.metadata.name.as_deref() == Some(name);
                let node = self.nodes.iter().find(named);
                let status = node.and_then(|node| node.status.as_ref());
                let addresses = status.and_then(|status| status.addresses.as_ref());
                let internal = addresses.into_iter().flatten().find(|a| a.type_ == "InternalIP");
                internal.map(|address| address.address.clone())
            }
        };
        let text = text.with_context(|| format!("{endpoint:?} has no address"))?;
        text.parse().with_context(|| format!("{text} is no address"))
    }

    /// A pod by `namespace/name`.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        let named = |pod: &&Pod| name_of(pod) == name;
        self.pods.iter().find(named).with_context(|| format!("there is no pod {name}"))
    }

    /// Every pod and every node.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let pods = self.pods.iter().map(|pod| Endpoint::Pod(name_of(pod)));
        let nodes = self.nodes.iter().filter_map(|node| node.metadata.name.clone());
        pods.chain(nodes.map(Endpoint::Node)).collect()
    }

    /// A namespace's labels, with the one that the API server gives each.
    fn namespace_labels(&self, name: &str) -> BTreeMap<String, String> {
        let named = |ns: &&Namespace| ns.metadata.name.as_deref() == Some(name);
        let namespace = self.namespaces.iter().find(named);
        let mut labels = namespace.and_then(|ns| ns.metadata.labels.clone()).unwrap_or_default();
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
        labels
    }
}

fn object<T: DeserializeOwned>(document: Value) -> Result<T> {
    serde_json::from_value(document).context("read a Kubernetes object")
}

/// `namespace/name`.
pub fn name_of(pod: &Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    format!("{}/{name}", namespace_of(&pod.metadata.namespace))
}

fn namespace_of(namespace: &Option<String>) -> String {
    namespace.clone().unwrap_or_else(|| "default".to_owned())
}

fn labels_of(pod: &Pod) -> BTreeMap<String, String> {
    pod.metadata.labels.clone().unwrap_or_default()
}

/// `policyTypes`, with what it is when it is missing: ingress always, egress if there are egress rules.
fn is_about(spec: &NetworkPolicySpec, direction: Direction) -> bool {
    let types = spec.policy_types.clone().unwrap_or_default();
    match direction {
        Direction::Ingress => types.is_empty() || types.iter().any(|t| t == "Ingress"),
        Direction::Egress if types.is_empty() => {
            !spec.egress.clone().unwrap_or_default().is_empty()
        }
        Direction::Egress => types.iter().any(|t| t == "Egress"),
    }
}

type RuleParts = (Vec<NetworkPolicyPeer>, Vec<NetworkPolicyPort>);

fn rules_of(spec: &NetworkPolicySpec, direction: Direction) -> Vec<RuleParts> {
    match direction {
        Direction::Ingress => {
            let rules = spec.ingress.clone().unwrap_or_default().into_iter();
            rules.map(|r| (r.from.unwrap_or_default(), r.ports.unwrap_or_default())).collect()
        }
        Direction::Egress => {
            let rules = spec.egress.clone().unwrap_or_default().into_iter();
            rules.map(|r| (r.to.unwrap_or_default(), r.ports.unwrap_or_default())).collect()
        }
    }
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    equal
        && selector.match_expressions.iter().flatten().all(|expression| {
            let value = labels.get(&expression.key);
            let listed = value.is_some_and(|v| expression.values.iter().flatten().any(|w| w == v));
            match expression.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests;
