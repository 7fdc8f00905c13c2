//! Nodes.

use crate::name::NodeName;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its InternalIP.
    pub address: Ipv4Addr,
    /// The prefixes its pods' addresses are taken from.
    pub pod_cidrs: Vec<Ipv4Net>,
}
