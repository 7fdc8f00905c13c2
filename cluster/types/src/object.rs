//! What sources (manifests, Kubernetes) say should be: objects, already parsed and defaulted.

use crate::{
    name::{NamespacedName, NodeName},
    node::Node,
    policy::Policy,
    workload::ContainerPort,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::Ipv4Addr};

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
