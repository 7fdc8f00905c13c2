//! Identity numbers, and which of them a cluster has.

use serde::{Deserialize, Serialize};
use std::{fmt, ops::RangeInclusive};

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
    /// First number that an operator of any cluster allocates.
    pub const CLUSTER_MIN: u32 = 256;
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

/// Bits of a number that operators allocate: so many travel as a VXLAN network identifier.
const BITS: u8 = 24;

/// The numbers that a cluster has: the topmost bits tell clusters of a mesh apart. Fixed when a cluster is founded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdentitySpace {
    bits: u8,
    cluster: u32,
}

/// A space that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSpace {
    /// Too few numbers would be left for each cluster.
    #[error("{0} bits for the cluster: at most {most}, which leaves 4096 identities", most = IdentitySpace::MOST_BITS)]
    Bits(u8),
    /// The bits do not have it.
    #[error("cluster number {cluster}: {bits} bits have 0 to {most}", most = (1_u32 << bits) - 1)]
    Cluster {
        /// The bits.
        bits: u8,
        /// The number.
        cluster: u32,
    },
}

impl IdentitySpace {
    /// As many leave 4096 numbers.
    pub const MOST_BITS: u8 = 12;

    /// Of a cluster, whose number has so many bits.
    pub fn new(bits: u8, cluster: u32) -> Result<Self, NoSpace> {
        if bits > Self::MOST_BITS {
            return Err(NoSpace::Bits(bits));
        }
        if cluster >> bits != 0 {
            return Err(NoSpace::Cluster { bits, cluster });
        }
        Ok(Self { bits, cluster })
    }

    /// Bits of a number that are the cluster's.
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// The cluster's number.
    pub const fn cluster(self) -> u32 {
        self.cluster
    }

    /// What its operators allocate.
    pub fn numbers(self) -> RangeInclusive<u32> {
        let own = BITS.saturating_sub(self.bits);
        let first = self.cluster << own;
        first.max(Identity::CLUSTER_MIN)..=first | ((1 << own) - 1)
    }

    /// The number after another, round and round.
    pub fn after(self, number: Identity) -> Identity {
        let numbers = self.numbers();
        match number.0.checked_add(1).filter(|next| numbers.contains(next)) {
            Some(next) => Identity(next),
            None => Identity(*numbers.start()),
        }
    }
}

impl Default for IdentitySpace {
    /// Cluster 0 of 16, each with over a million numbers.
    fn default() -> Self {
        Self { bits: 4, cluster: 0 }
    }
}

impl fmt::Display for IdentitySpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {} of {} bits", self.cluster, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_of_a_mesh_share_no_number() {
        for bits in 0..=IdentitySpace::MOST_BITS {
            let mut next = Identity::CLUSTER_MIN;
            for cluster in 0..1 << bits {
                let numbers = IdentitySpace::new(bits, cluster).unwrap().numbers();
                assert_eq!(*numbers.start(), next, "{bits} bits, cluster {cluster}");
                assert!(numbers.clone().count() >= 4096 - 256);
                next = numbers.end() + 1;
            }
            assert_eq!(next, 1 << 24);
        }
        assert_eq!(IdentitySpace::default().numbers(), 256..=0x000F_FFFF);
        assert_eq!(IdentitySpace::new(4, 15).unwrap().numbers(), 0x00F0_0000..=0x00FF_FFFF);
    }

    #[test]
    fn numbers_go_round() {
        let space = IdentitySpace::new(4, 3).unwrap();
        assert_eq!(space.after(Identity(0x0030_0000)), Identity(0x0030_0001));
        assert_eq!(space.after(Identity(0x003F_FFFF)), Identity(0x0030_0000));
        assert_eq!(space.after(Identity(256)), Identity(0x0030_0000), "another's");
        assert_eq!(IdentitySpace::default().after(Identity(0x000F_FFFF)), Identity(256));
    }

    #[test]
    fn a_space_that_there_is_not_is_refused_with_what_there_is() {
        assert_eq!(IdentitySpace::new(13, 0), Err(NoSpace::Bits(13)));
        let said = IdentitySpace::new(4, 16).unwrap_err().to_string();
        assert_eq!(said, "cluster number 16: 4 bits have 0 to 15");
        let said = IdentitySpace::new(0, 1).unwrap_err().to_string();
        assert_eq!(said, "cluster number 1: 0 bits have 0 to 0");
    }
}
