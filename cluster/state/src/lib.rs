//! ClusterState, the replicated state machine: commands in, deltas out.
//!
//! Pure and deterministic: the same commands in the same order give the same state and the same deltas
//! on every operator, and after every restart. The cost of a command follows what it changes.
#![warn(
    clippy::wildcard_enum_match_arm,
    reason = "whoever adds a case is shown every place that it concerns"
)]

mod adopt;
mod change;
mod conflict;
mod encoding;
pub mod interests;
pub mod leadership;

pub use adopt::adoption;
pub use conflict::Conflict;
pub use encoding::{EntryV1, Unreadable, decode_entry, encode_entry};

use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};
use weft_types::{
    Delta, Identity, LabelFilter, LabelSet, NamespacedName, Node, NodeName, Object, PodEndpoint,
    Policy, Workload,
    object::{Namespace, ObjectKey, Pod},
    policy::PolicyId,
};

/// A change, as the log holds it. A later version is another enum beside this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandV1 {
    /// Change the desired state. `identities` has a number for every label set that is new with it.
    Desire {
        /// Objects to add or replace.
        put: Vec<Object>,
        /// Objects to remove; kind and name count.
        remove: Vec<Object>,
        /// Label sets that got a number.
        identities: Vec<(Identity, LabelSet)>,
    },
    /// A node plugged a pod at an address.
    Plug(NodeName, NamespacedName, Ipv4Addr),
    /// An address of a node is nobody's.
    Unplug(NodeName, Ipv4Addr),
    /// All addresses that a node has pods for.
    EndpointsAre(NodeName, Vec<Ipv4Addr>),
    /// Have other labels of pods make identities. `identities` has a number for every label set that is new with it.
    FilterLabels {
        /// The patterns beside the defaults, as [`LabelFilter::parse`] takes them.
        patterns: Vec<String>,
        /// Label sets that got a number.
        identities: Vec<(Identity, LabelSet)>,
    },
}

/// What a node said of one of its addresses. It is published while the pod is scheduled to that node, and
/// kept when it is not: a Pod that is deleted and applied again finds its endpoint as it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Plugged {
    pod: NamespacedName,
    node: NodeName,
}

/// The state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterState {
    cluster: String,
    labels: LabelFilter,
    // What sources want.
    namespaces: BTreeMap<String, Namespace>,
    pods: BTreeMap<NamespacedName, Pod>,
    nodes: BTreeMap<NodeName, Node>,
    policies: BTreeMap<PolicyId, Policy>,
    // What was allocated, and what nodes said.
    identities: BTreeMap<LabelSet, Identity>,
    plugged: BTreeMap<Ipv4Addr, Plugged>,
    // What is published, made of the above.
    workloads: BTreeMap<NamespacedName, Workload>,
    endpoints: BTreeMap<Ipv4Addr, PodEndpoint>,
    // Indexes.
    addresses: BTreeMap<NamespacedName, BTreeSet<Ipv4Addr>>,
    unnumbered: BTreeSet<NamespacedName>,
}

impl ClusterState {
    /// An empty state of a cluster with this name, which is a label of every identity.
    pub fn new(cluster: impl Into<String>) -> Self {
        Self { cluster: cluster.into(), ..Self::default() }
    }

    /// Applies a command and says what changed of the published state.
    pub fn apply(&mut self, command: &CommandV1) -> Vec<Delta> {
        match command {
            CommandV1::Desire { put, remove, identities } => self.desire(put, remove, identities),
            CommandV1::Plug(node, pod, address) => self.plug(node, pod, *address),
            CommandV1::Unplug(node, address) => self.unplug(node, *address),
            CommandV1::EndpointsAre(node, addresses) => self
                .strays(node, addresses)
                .into_iter()
                .flat_map(|address| self.unplug(node, address))
                .collect(),
            CommandV1::FilterLabels { patterns, identities } => self.filter(patterns, identities),
        }
    }

    /// Whether a command would change anything, published or not; what would not needs no log entry.
    pub fn would_change(&self, command: &CommandV1) -> bool {
        match command {
            CommandV1::Desire { put, remove, identities } => {
                let (put, remove) = self.effective(put, remove);
                !put.is_empty()
                    || !remove.is_empty()
                    || identities.iter().any(|(_, labels)| !self.identities.contains_key(labels))
            }
            CommandV1::Plug(node, pod, address) => {
                let said = Plugged { pod: pod.clone(), node: node.clone() };
                self.may_plug(node, *address) && self.plugged.get(address) != Some(&said)
            }
            CommandV1::Unplug(node, address) => {
                self.plugged.get(address).is_some_and(|p| p.node == *node)
            }
            CommandV1::EndpointsAre(node, addresses) => !self.strays(node, addresses).is_empty(),
            CommandV1::FilterLabels { patterns, identities } => {
                LabelFilter::parse(patterns).is_ok_and(|filter| filter != self.labels)
                    || identities.iter().any(|(_, labels)| !self.identities.contains_key(labels))
            }
        }
    }

    /// Whether an address is inside the prefixes of a node, for whose pods alone it may speak.
    pub fn may_plug(&self, node: &NodeName, address: Ipv4Addr) -> bool {
        self.nodes.get(node).is_some_and(|n| n.pod_cidrs.iter().any(|c| c.contains(&address)))
    }

    /// What a node said it has, and does not have any more.
    fn strays(&self, node: &NodeName, addresses: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
        let has: BTreeSet<&Ipv4Addr> = addresses.iter().collect();
        self.nodes
            .get(node)
            .map(|node| self.plugged_of(node))
            .into_iter()
            .flatten()
            .filter(|address| !has.contains(address))
            .collect()
    }

    /// The addresses that a node has plugged; all of them are inside its prefixes.
    fn plugged_of<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = Ipv4Addr> + 'a {
        let ranges = node.pod_cidrs.iter().map(|cidr| cidr.network()..=cidr.broadcast());
        ranges.flat_map(|range| {
            let plugged = self.plugged.range(range);
            plugged.filter(|(_, said)| said.node == node.name).map(|(address, _)| *address)
        })
    }

    fn plug(&mut self, node: &NodeName, pod: &NamespacedName, address: Ipv4Addr) -> Vec<Delta> {
        if !self.may_plug(node, address) {
            return Vec::new();
        }
        let said = Plugged { pod: pod.clone(), node: node.clone() };
        if let Some(before) = self.plugged.insert(address, said) {
            self.forget_address(&before.pod, address);
        }
        self.addresses.entry(pod.clone()).or_default().insert(address);
        self.publish_endpoint(address).into_iter().collect()
    }

    fn unplug(&mut self, node: &NodeName, address: Ipv4Addr) -> Vec<Delta> {
        match self.plugged.get(&address) {
            Some(said) if said.node == *node => {
                let pod = said.pod.clone();
                self.plugged.remove(&address);
                self.forget_address(&pod, address);
                self.publish_endpoint(address).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn forget_address(&mut self, pod: &NamespacedName, address: Ipv4Addr) {
        if let Some(addresses) = self.addresses.get_mut(pod) {
            addresses.remove(&address);
            if addresses.is_empty() {
                self.addresses.remove(pod);
            }
        }
    }

    /// Makes the published endpoint of an address what it should be now.
    fn publish_endpoint(&mut self, address: Ipv4Addr) -> Option<Delta> {
        let endpoint = self.plugged.get(&address).and_then(|said| {
            let workload = self.workloads.get(&said.pod)?;
            (workload.node == said.node).then(|| PodEndpoint {
                name: said.pod.clone(),
                address,
                identity: workload.identity,
                node: said.node.clone(),
            })
        });
        match endpoint {
            Some(endpoint) if self.endpoints.get(&address) == Some(&endpoint) => None,
            Some(endpoint) => {
                self.endpoints.insert(address, endpoint.clone());
                Some(Delta::EndpointUpsert(endpoint))
            }
            None => self.endpoints.remove(&address).map(|_| Delta::EndpointDelete(address)),
        }
    }

    fn labels_of(&self, pod: &Pod, namespace: Option<&Namespace>) -> LabelSet {
        let absent = Namespace { name: pod.name.namespace.clone(), labels: BTreeMap::new() };
        self.labels.identity_labels(pod, namespace.unwrap_or(&absent), &self.cluster)
    }

    /// The whole published state, identities first.
    pub fn snapshot(&self) -> impl Iterator<Item = Delta> + '_ {
        let identities = self.identities.iter();
        identities
            .map(|(labels, number)| Delta::IdentityUpsert(*number, labels.clone()))
            .chain(self.nodes.values().cloned().map(Delta::NodeUpsert))
            .chain(self.policies.values().cloned().map(Delta::PolicyUpsert))
            .chain(self.workloads.values().cloned().map(Delta::WorkloadUpsert))
            .chain(self.endpoints.values().cloned().map(Delta::EndpointUpsert))
    }

    /// Every object of the desired state.
    pub fn objects(&self) -> impl Iterator<Item = Object> + '_ {
        let namespaces = self.namespaces.values().cloned().map(Object::Namespace);
        namespaces
            .chain(self.nodes.values().cloned().map(Object::Node))
            .chain(self.pods.values().cloned().map(Object::Pod))
            .chain(self.policies.values().cloned().map(Object::Policy))
    }

    /// One object of the desired state.
    pub fn object(&self, key: &ObjectKey) -> Option<Object> {
        match key {
            ObjectKey::Namespace(name) => self.namespaces.get(name).cloned().map(Object::Namespace),
            ObjectKey::Node(name) => self.nodes.get(name).cloned().map(Object::Node),
            ObjectKey::Pod(name) => self.pods.get(name).cloned().map(Object::Pod),
            ObjectKey::Policy(id) => self.policies.get(id).cloned().map(Object::Policy),
        }
    }

    /// Which labels of pods make identities.
    pub fn labels(&self) -> &LabelFilter {
        &self.labels
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Nodes by name.
    pub fn nodes(&self) -> &BTreeMap<NodeName, Node> {
        &self.nodes
    }

    /// Label sets and their numbers.
    pub fn identities(&self) -> &BTreeMap<LabelSet, Identity> {
        &self.identities
    }

    /// Scheduled pods.
    pub fn workloads(&self) -> &BTreeMap<NamespacedName, Workload> {
        &self.workloads
    }

    /// Plugged pods.
    pub fn endpoints(&self) -> &BTreeMap<Ipv4Addr, PodEndpoint> {
        &self.endpoints
    }

    /// Policies.
    pub fn policies(&self) -> &BTreeMap<PolicyId, Policy> {
        &self.policies
    }
}
