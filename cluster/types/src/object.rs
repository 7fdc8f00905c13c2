//! What sources (manifests, Kubernetes) say should be: objects, already parsed and defaulted.

use crate::{
    name::{NamespacedName, NodeName},
    node::Node,
    policy::{Policy, PolicyId, PolicyKind},
    workload::ContainerPort,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

/// A namespace with its labels, `kubernetes.io/metadata.name` among them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A pod as its manifest has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pod {
    /// Its namespace and name.
    pub name: NamespacedName,
    /// Its labels as written; filtering makes an identity of them.
    pub labels: BTreeMap<String, String>,
    /// Its service account, `default` unless it says otherwise.
    pub service_account: String,
    /// Its declared container ports.
    pub ports: Vec<ContainerPort>,
    /// The node it was given, when it was.
    pub node: Option<NodeName>,
    /// `status.podIP`, when the manifest has one.
    pub address: Option<Ipv4Addr>,
    /// The command of its first container, when it names one; run by the lab only when asked to.
    pub command: Vec<String>,
}

/// An object of the desired state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Object {
    /// A namespace.
    Namespace(Namespace),
    /// A node.
    Node(Node),
    /// A pod.
    Pod(Pod),
    /// A policy.
    Policy(Policy),
}

/// What an object is known by: of two objects with one key the later counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ObjectKey {
    /// By name.
    Namespace(String),
    /// By name.
    Node(NodeName),
    /// By namespace and name.
    Pod(NamespacedName),
    /// By API, namespace and name.
    Policy(PolicyId),
}

impl Object {
    /// What it is known by.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Namespace(namespace) => ObjectKey::Namespace(namespace.name.clone()),
            Self::Node(node) => ObjectKey::Node(node.name.clone()),
            Self::Pod(pod) => ObjectKey::Pod(pod.name.clone()),
            Self::Policy(policy) => ObjectKey::Policy(policy.id.clone()),
        }
    }
}

impl fmt::Display for ObjectKey {
    /// A path, as the store's keys spell it: `pod/shop/cart-0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(name) => write!(f, "namespace/{name}"),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Pod(name) => write!(f, "pod/{name}"),
            Self::Policy(PolicyId { kind: PolicyKind::NetworkPolicy, name }) => {
                write!(f, "networkpolicy/{name}")
            }
        }
    }
}
