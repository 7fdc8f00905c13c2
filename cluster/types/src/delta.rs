//! What operators push: changes of the published state, one per key.

use crate::{
    identity::Identity,
    label::LabelSet,
    name::{NamespacedName, NodeName},
    node::Node,
    policy::{Policy, PolicyId},
    workload::{PodEndpoint, Workload},
};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// One change. An upsert carries the whole object; deleting the absent is no error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delta {
    /// A number stands for a label set.
    IdentityUpsert(Identity, LabelSet),
    /// A number is free.
    IdentityDelete(Identity),
    /// A node.
    NodeUpsert(Node),
    /// A node left.
    NodeDelete(NodeName),
    /// A pod was scheduled or relabelled.
    WorkloadUpsert(Workload),
    /// A pod left.
    WorkloadDelete(NamespacedName),
    /// An address is a pod's.
    EndpointUpsert(PodEndpoint),
    /// An address is nobody's.
    EndpointDelete(Ipv4Addr),
    /// A policy.
    PolicyUpsert(Policy),
    /// A policy left.
    PolicyDelete(PolicyId),
}

/// The key a delta replaces: of two with one key the later alone matters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeltaKey {
    /// By number.
    Identity(Identity),
    /// By name.
    Node(NodeName),
    /// By name.
    Workload(NamespacedName),
    /// By address.
    Endpoint(Ipv4Addr),
    /// By id.
    Policy(PolicyId),
}

impl Delta {
    /// What it replaces.
    pub fn key(&self) -> DeltaKey {
        match self {
            Self::IdentityUpsert(number, _) | Self::IdentityDelete(number) => {
                DeltaKey::Identity(*number)
            }
            Self::NodeUpsert(node) => DeltaKey::Node(node.name.clone()),
            Self::NodeDelete(name) => DeltaKey::Node(name.clone()),
            Self::WorkloadUpsert(workload) => DeltaKey::Workload(workload.name.clone()),
            Self::WorkloadDelete(name) => DeltaKey::Workload(name.clone()),
            Self::EndpointUpsert(endpoint) => DeltaKey::Endpoint(endpoint.address),
            Self::EndpointDelete(address) => DeltaKey::Endpoint(*address),
            Self::PolicyUpsert(policy) => DeltaKey::Policy(policy.id.clone()),
            Self::PolicyDelete(id) => DeltaKey::Policy(id.clone()),
        }
    }

    /// Whether it takes something out.
    pub fn is_delete(&self) -> bool {
        matches!(
            self,
            Self::IdentityDelete(_)
                | Self::NodeDelete(_)
                | Self::WorkloadDelete(_)
                | Self::EndpointDelete(_)
                | Self::PolicyDelete(_)
        )
    }

    /// The delta that takes out what this one is about.
    pub fn deletion(&self) -> Self {
        match self.key() {
            DeltaKey::Identity(number) => Self::IdentityDelete(number),
            DeltaKey::Node(name) => Self::NodeDelete(name),
            DeltaKey::Workload(name) => Self::WorkloadDelete(name),
            DeltaKey::Endpoint(address) => Self::EndpointDelete(address),
            DeltaKey::Policy(id) => Self::PolicyDelete(id),
        }
    }
}
