//! Nodes that cannot be in one cluster.

use crate::ClusterState;
use ipnet::Ipv4Net;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};
use weft_types::{Node, NodeName, Object};

/// Why a change of the desired state is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// An address would be a pod's of two nodes.
    #[error(
        "node {second}: its pod CIDR {second_cidr} overlaps {first_cidr} of node {first}; give every node prefixes of its own"
    )]
    PodCidrs {
        /// One node.
        first: NodeName,
        /// Its prefix.
        first_cidr: Ipv4Net,
        /// The other.
        second: NodeName,
        /// Its prefix.
        second_cidr: Ipv4Net,
    },
    /// Two nodes with one address.
    #[error(
        "node {second}: its address {address} is node {first}'s; give every node one of its own"
    )]
    Address {
        /// One node.
        first: NodeName,
        /// The other.
        second: NodeName,
        /// The address of both.
        address: Ipv4Addr,
    },
}

impl ClusterState {
    /// Whether the desired state may change so.
    pub fn check(&self, put: &[Object], remove: &[Object]) -> Result<(), Conflict> {
        let node = |object: &Object| match object {
            Object::Node(node) => Some(node.clone()),
            Object::Namespace(_) | Object::Pod(_) | Object::Policy(_) => None,
        };
        let put: Vec<Node> = put.iter().filter_map(node).collect();
        if put.is_empty() {
            return Ok(());
        }
        let mut after: BTreeMap<&NodeName, &Node> = self.nodes.iter().collect();
        let removed: BTreeSet<NodeName> =
            remove.iter().filter_map(node).map(|node| node.name).collect();
        after.retain(|name, _| !removed.contains(*name));
        after.extend(put.iter().map(|node| (&node.name, node)));
        addresses_differ(after.values())?;
        prefixes_are_apart(after.values())
    }
}

fn addresses_differ<'a>(nodes: impl Iterator<Item = &'a &'a Node>) -> Result<(), Conflict> {
    let mut seen: BTreeMap<Ipv4Addr, &NodeName> = BTreeMap::new();
    for node in nodes {
        if let Some(first) = seen.insert(node.address, &node.name) {
            let (first, second) = (first.clone(), node.name.clone());
            return Err(Conflict::Address { first, second, address: node.address });
        }
    }
    Ok(())
}

/// Prefixes are nested or disjoint, so in their order each is compared with the widest before it.
fn prefixes_are_apart<'a>(nodes: impl Iterator<Item = &'a &'a Node>) -> Result<(), Conflict> {
    let mut all: Vec<(Ipv4Net, &NodeName)> =
        nodes.flat_map(|node| node.pod_cidrs.iter().map(|c| (c.trunc(), &node.name))).collect();
    all.sort_by_key(|(cidr, name)| (cidr.network(), cidr.prefix_len(), *name));
    let mut widest: Option<(Ipv4Net, &NodeName)> = None;
    for (cidr, name) in all {
        match widest {
            Some((around, first)) if around.contains(&cidr) => {
                if first != name {
                    return Err(Conflict::PodCidrs {
                        first: first.clone(),
                        first_cidr: around,
                        second: name.clone(),
                        second_cidr: cidr,
                    });
                }
            }
            _ => widest = Some((cidr, name)),
        }
    }
    Ok(())
}
