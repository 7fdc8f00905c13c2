//! Identity numbers.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The number of a label set. The numbers below 256 are Cilium's reserved ones, which its clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity(pub u32);

impl Identity {
    /// Not known: matched by rules for anyone alone.
    pub const UNKNOWN: Self = Self(0);
    /// The node that asks.
    pub const HOST: Self = Self(1);
    /// Outside the cluster.
    pub const WORLD: Self = Self(2);
    /// A pod that Weft did not plug.
    pub const UNMANAGED: Self = Self(3);
    /// The health endpoint of a node.
    pub const HEALTH: Self = Self(4);
    /// An endpoint whose labels are not known yet.
    pub const INIT: Self = Self(5);
    /// Another node.
    pub const REMOTE_NODE: Self = Self(6);
    /// The API server.
    pub const KUBE_APISERVER: Self = Self(7);
    /// The ingress proxy.
    pub const INGRESS: Self = Self(8);
    /// Outside the cluster, IPv4.
    pub const WORLD_IPV4: Self = Self(9);
    /// Outside the cluster, IPv6.
    pub const WORLD_IPV6: Self = Self(10);
    /// First number that an operator allocates.
    pub const CLUSTER_MIN: u32 = 256;
    /// Last number that an operator allocates: 24 bits travel as a VXLAN network identifier.
    pub const CLUSTER_MAX: u32 = 0x00FF_FFFF;
    /// First node-local number (prefixes, names); never leaves its node.
    pub const LOCAL_MIN: u32 = 0x0100_0001;
    /// Last node-local number.
    pub const LOCAL_MAX: u32 = 0x01FF_FFFF;

    /// The reserved name of this number, without the source prefix.
    pub const fn reserved_name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "unknown",
            1 => "host",
            2 => "world",
            3 => "unmanaged",
            4 => "health",
            5 => "init",
            6 => "remote-node",
            7 => "kube-apiserver",
            8 => "ingress",
            9 => "world-ipv4",
            10 => "world-ipv6",
            _ => return None,
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
