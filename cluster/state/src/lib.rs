//! ClusterState, the replicated state machine: commands in, deltas out.
//!
//! Pure and deterministic: the same commands in the same order give the same state and the same deltas
//! on every operator, and after every restart.

use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};
use weft_types::{
    Delta, Identity, LabelSet, NamespacedName, Node, NodeName, Object, PodEndpoint, Policy,
    Workload,
    identity_labels::identity_labels,
    object::{Namespace, Pod},
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
    /// A pod was plugged.
    Plug(PodEndpoint),
    /// An address of a node is nobody's.
    Unplug(NodeName, Ipv4Addr),
    /// All addresses that a node has pods for.
    EndpointsAre(NodeName, Vec<Ipv4Addr>),
}

/// The state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterState {
    cluster: String,
    namespaces: BTreeMap<String, Namespace>,
    pods: BTreeMap<NamespacedName, Pod>,
    nodes: BTreeMap<NodeName, Node>,
    policies: BTreeMap<PolicyId, Policy>,
    identities: BTreeMap<LabelSet, Identity>,
    workloads: BTreeMap<NamespacedName, Workload>,
    endpoints: BTreeMap<Ipv4Addr, PodEndpoint>,
}

impl ClusterState {
    /// An empty state of a cluster with this name, which is a label of every identity.
    pub fn new(cluster: impl Into<String>) -> Self {
        Self { cluster: cluster.into(), ..Self::default() }
    }

    /// The label sets that a change of the desired state needs a number for.
    pub fn unnumbered(&self, put: &[Object], remove: &[Object]) -> BTreeSet<LabelSet> {
        let mut after = self.clone();
        after.change_objects(put, remove);
        after
            .pods
            .values()
            .map(|pod| after.labels_of(pod))
            .filter(|labels| !self.identities.contains_key(labels))
            .collect()
    }

    /// Applies a command and says what changed of the published state.
    pub fn apply(&mut self, command: &CommandV1) -> Vec<Delta> {
        match command {
            CommandV1::Desire { put, remove, identities } => self.desire(put, remove, identities),
            CommandV1::Plug(endpoint) => self.plug(endpoint),
            CommandV1::Unplug(node, address) => self.unplug(node, *address),
            CommandV1::EndpointsAre(node, addresses) => self
                .endpoints
                .values()
                .filter(|e| e.node == *node && !addresses.contains(&e.address))
                .map(|e| e.address)
                .collect::<Vec<_>>()
                .into_iter()
                .flat_map(|address| self.unplug(node, address))
                .collect(),
        }
    }

    fn desire(
        &mut self,
        put: &[Object],
        remove: &[Object],
        identities: &[(Identity, LabelSet)],
    ) -> Vec<Delta> {
        let mut deltas = Vec::new();
        for (number, labels) in identities {
            self.identities.insert(labels.clone(), *number);
            deltas.push(Delta::IdentityUpsert(*number, labels.clone()));
        }
        let before = self.clone();
        self.change_objects(put, remove);
        self.place_workloads();
        difference(&before.nodes, &self.nodes, Delta::NodeUpsert, Delta::NodeDelete, &mut deltas);
        difference(
            &before.policies,
            &self.policies,
            Delta::PolicyUpsert,
            Delta::PolicyDelete,
            &mut deltas,
        );
        difference(
            &before.workloads,
            &self.workloads,
            Delta::WorkloadUpsert,
            Delta::WorkloadDelete,
            &mut deltas,
        );
        self.relabel_endpoints();
        difference(
            &before.endpoints,
            &self.endpoints,
            Delta::EndpointUpsert,
            Delta::EndpointDelete,
            &mut deltas,
        );
        deltas
    }

    fn change_objects(&mut self, put: &[Object], remove: &[Object]) {
        for object in remove {
            match object {
                Object::Namespace(n) => drop(self.namespaces.remove(&n.name)),
                Object::Node(n) => drop(self.nodes.remove(&n.name)),
                Object::Pod(p) => drop(self.pods.remove(&p.name)),
                Object::Policy(p) => drop(self.policies.remove(&p.id)),
            }
        }
        for object in put {
            match object.clone() {
                Object::Namespace(n) => drop(self.namespaces.insert(n.name.clone(), n)),
                Object::Node(n) => drop(self.nodes.insert(n.name.clone(), n)),
                Object::Pod(p) => drop(self.pods.insert(p.name.clone(), p)),
                Object::Policy(p) => drop(self.policies.insert(p.id.clone(), p)),
            }
        }
    }

    /// The scheduled pods with the numbers of their label sets.
    fn place_workloads(&mut self) {
        self.workloads = self
            .pods
            .values()
            .filter_map(|pod| {
                let identity = *self.identities.get(&self.labels_of(pod))?;
                let node = pod.node.clone()?;
                Some((pod.name.clone(), Workload { name: pod.name.clone(), node, identity }))
            })
            .collect();
    }

    /// A plugged pod has the identity of its workload; one without a workload goes with it.
    fn relabel_endpoints(&mut self) {
        let workloads = &self.workloads;
        self.endpoints.retain(|_, endpoint| match workloads.get(&endpoint.name) {
            Some(workload) if workload.node == endpoint.node => {
                endpoint.identity = workload.identity;
                true
            }
            _ => false,
        });
    }

    fn plug(&mut self, endpoint: &PodEndpoint) -> Vec<Delta> {
        let mut endpoint = endpoint.clone();
        match self.workloads.get(&endpoint.name) {
            Some(workload) if workload.node == endpoint.node => {
                endpoint.identity = workload.identity;
            }
            _ => return Vec::new(),
        }
        if self.endpoints.get(&endpoint.address) == Some(&endpoint) {
            return Vec::new();
        }
        self.endpoints.insert(endpoint.address, endpoint.clone());
        vec![Delta::EndpointUpsert(endpoint)]
    }

    fn unplug(&mut self, node: &NodeName, address: Ipv4Addr) -> Vec<Delta> {
        match self.endpoints.get(&address) {
            Some(endpoint) if endpoint.node == *node => {
                self.endpoints.remove(&address);
                vec![Delta::EndpointDelete(address)]
            }
            _ => Vec::new(),
        }
    }

    fn labels_of(&self, pod: &Pod) -> LabelSet {
        let namespace = self.namespaces.get(&pod.name.namespace);
        let absent = Namespace { name: pod.name.namespace.clone(), labels: BTreeMap::new() };
        identity_labels(pod, namespace.unwrap_or(&absent), &self.cluster)
    }

    /// The whole published state, identities first.
    pub fn snapshot(&self) -> Vec<Delta> {
        let mut deltas: Vec<Delta> = self
            .identities
            .iter()
            .map(|(labels, number)| Delta::IdentityUpsert(*number, labels.clone()))
            .collect();
        deltas.extend(self.nodes.values().cloned().map(Delta::NodeUpsert));
        deltas.extend(self.policies.values().cloned().map(Delta::PolicyUpsert));
        deltas.extend(self.workloads.values().cloned().map(Delta::WorkloadUpsert));
        deltas.extend(self.endpoints.values().cloned().map(Delta::EndpointUpsert));
        deltas
    }

    /// Every object of the desired state.
    pub fn objects(&self) -> Vec<Object> {
        let mut objects: Vec<Object> =
            self.namespaces.values().cloned().map(Object::Namespace).collect();
        objects.extend(self.nodes.values().cloned().map(Object::Node));
        objects.extend(self.pods.values().cloned().map(Object::Pod));
        objects.extend(self.policies.values().cloned().map(Object::Policy));
        objects
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

/// The deltas between two tables.
fn difference<K: Ord + Clone, V: Eq + Clone>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    upsert: impl Fn(V) -> Delta,
    delete: impl Fn(K) -> Delta,
    deltas: &mut Vec<Delta>,
) {
    deltas.extend(before.keys().filter(|key| !after.contains_key(key)).cloned().map(delete));
    deltas.extend(
        after
            .iter()
            .filter(|(key, value)| before.get(key) != Some(value))
            .map(|(_, value)| upsert(value.clone())),
    );
}
