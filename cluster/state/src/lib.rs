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
mod references;
pub mod retirement;
mod violation;
mod words;

pub use adopt::adoption;
pub use conflict::Conflict;
pub use encoding::{EntryV1, FILTERS, OLDEST, Unreadable, VERSION, decode_entry, encode_entry};
pub use references::{Numbered, Phase, References};
pub use words::{Stamp, Word};

use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};
use weft_types::{
    Delta, Fence, Identity, LabelFilter, LabelSet, NamespacedName, Node, NodeName, Object,
    PodEndpoint, Policy, Workload,
    object::{Namespace, ObjectKey, Pod},
    packed,
    policy::PolicyId,
};
use words::Plugged;

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
        #[serde(with = "packed")]
        identities: Vec<(Identity, LabelSet)>,
    },
    /// A node said something of its pods.
    Said(NodeName, Stamp, Word),
    /// Have other labels of pods make identities. `identities` has a number for every label set that is new with it.
    FilterLabels {
        /// The patterns beside the defaults, as [`LabelFilter::parse`] takes them.
        patterns: Vec<String>,
        /// Label sets that got a number.
        #[serde(with = "packed")]
        identities: Vec<(Identity, LabelSet)>,
    },
    /// Have agents forget numbers that nobody refers to.
    Retire(Vec<Identity>),
    /// Numbers that agents have forgotten stand for nothing any more.
    Free {
        /// The numbers.
        numbers: Vec<Identity>,
        /// The number that was given last: those after it are given before these are given again.
        given: Identity,
    },
    /// Every member knows this version: it is written from now on, and members of older releases have no part any more.
    Raise(u8),
}

/// The state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterState {
    cluster: String,
    /// Of what is written: every member of the group knows it.
    version: u8,
    labels: LabelFilter,
    // What sources want.
    namespaces: BTreeMap<String, Namespace>,
    pods: BTreeMap<NamespacedName, Pod>,
    nodes: BTreeMap<NodeName, Node>,
    policies: BTreeMap<PolicyId, Policy>,
    // What was allocated, and what nodes said.
    identities: BTreeMap<Arc<LabelSet>, Identity>,
    given: Option<Identity>,
    fence: Option<Fence>,
    plugged: BTreeMap<Ipv4Addr, Plugged>,
    heard: BTreeMap<NodeName, Stamp>,
    // What is published, made of the above.
    workloads: BTreeMap<NamespacedName, Workload>,
    endpoints: BTreeMap<Ipv4Addr, PodEndpoint>,
    // Indexes.
    references: References,
    numbered: BTreeMap<NamespacedName, Identity>,
    addresses: BTreeMap<NamespacedName, BTreeSet<Ipv4Addr>>,
    unnumbered: BTreeSet<NamespacedName>,
}

impl ClusterState {
    /// An empty state of a cluster with this name, which is a label of every identity.
    pub fn new(cluster: impl Into<String>) -> Self {
        Self::of_version(cluster, VERSION)
    }

    /// The same of a group of a version.
    pub fn of_version(cluster: impl Into<String>, version: u8) -> Self {
        Self { cluster: cluster.into(), version, ..Self::default() }
    }

    /// Applies a command and says what changed of the published state.
    pub fn apply(&mut self, command: &CommandV1) -> Vec<Delta> {
        match command {
            CommandV1::Desire { put, remove, identities } => self.desire(put, remove, identities),
            CommandV1::Said(node, stamp, word) => self.hear(node, *stamp, word),
            CommandV1::FilterLabels { patterns, identities } => self.filter(patterns, identities),
            CommandV1::Retire(numbers) => {
                numbers.iter().filter_map(|number| self.references.retire(*number)).collect()
            }
            CommandV1::Free { numbers, given } => {
                for labels in numbers.iter().filter_map(|number| self.references.free(*number)) {
                    self.identities.remove(&labels);
                    self.given = Some(*given);
                }
                Vec::new()
            }
            CommandV1::Raise(version) => {
                self.version = self.version.max(*version);
                Vec::new()
            }
        }
    }

    /// Applies an entry: the same, and the store has had its fence.
    pub fn apply_entry(&mut self, entry: &EntryV1) -> Vec<Delta> {
        self.fence = self.fence.max(entry.fence);
        self.apply(&entry.command)
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
            CommandV1::Said(node, stamp, word) => self.is_news(node, *stamp, word),
            CommandV1::FilterLabels { patterns, identities } => {
                LabelFilter::parse(patterns).is_ok_and(|filter| filter != self.labels)
                    || identities.iter().any(|(_, labels)| !self.identities.contains_key(labels))
            }
            CommandV1::Retire(numbers) => {
                numbers.iter().any(|number| self.references.idle().contains(number))
            }
            CommandV1::Free { numbers, .. } => {
                numbers.iter().any(|number| self.references.retiring().contains(number))
            }
            CommandV1::Raise(version) => *version > self.version,
        }
    }

    /// The label set of a Pod of the desired state.
    pub fn label_set(&self, name: &NamespacedName) -> Option<LabelSet> {
        let pod = self.pods.get(name)?;
        Some(self.labels_of(pod, self.namespaces.get(&name.namespace)))
    }

    fn labels_of(&self, pod: &Pod, namespace: Option<&Namespace>) -> LabelSet {
        let absent = Namespace { name: pod.name.namespace.clone(), labels: BTreeMap::new() };
        self.labels.identity_labels(pod, namespace.unwrap_or(&absent), &self.cluster)
    }

    /// The whole published state, identities first.
    pub fn snapshot(&self) -> impl Iterator<Item = Delta> + '_ {
        let known = self.references.iter().filter(|(_, known)| known.phase == Phase::Live);
        known
            .filter_map(|(number, known)| Some((number, known.labels.as_deref()?.clone())))
            .map(|(number, labels)| Delta::IdentityUpsert(number, labels))
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

    /// The group's version: every member knows what it has.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Nodes by name.
    pub fn nodes(&self) -> &BTreeMap<NodeName, Node> {
        &self.nodes
    }

    /// Label sets and their numbers, also those that are retiring.
    pub fn identities(&self) -> &BTreeMap<Arc<LabelSet>, Identity> {
        &self.identities
    }

    /// Numbers, and who refers to them.
    pub fn references(&self) -> &References {
        &self.references
    }

    /// The number that was given last when some were freed; none before that.
    pub fn given(&self) -> Option<Identity> {
        self.given
    }

    /// The highest fence that the store is known to have had; what it held then is part of this.
    pub fn fence(&self) -> Option<Fence> {
        self.fence
    }

    /// The newest word of a node that was taken.
    pub fn heard(&self, node: &NodeName) -> Option<Stamp> {
        self.heard.get(node).copied()
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
