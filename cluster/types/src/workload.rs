//! Pods as operators and agents know them.

use crate::{
    identity::Identity,
    name::{NamespacedName, NodeName},
    policy::Protocol,
};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// A container port that a pod declares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerPort {
    /// Its name, when it has one.
    pub name: Option<String>,
    /// The protocol.
    pub protocol: Protocol,
    /// The number, host order.
    pub port: u16,
}

/// A pod that is scheduled to a node, whether or not it runs yet. Known before the kubelet calls CNI.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Workload {
    /// Its namespace and name.
    pub name: NamespacedName,
    /// The node it was given.
    pub node: NodeName,
    /// The number of its label set.
    pub identity: Identity,
}

/// A pod that is plugged: who has the address, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodEndpoint {
    /// Its namespace and name.
    pub name: NamespacedName,
    /// Its address.
    pub address: Ipv4Addr,
    /// The number of its label set.
    pub identity: Identity,
    /// The node it is on.
    pub node: NodeName,
}
