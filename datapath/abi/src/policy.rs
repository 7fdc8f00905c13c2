//! Policy classes: class → inner LPM trie over (peer identity, direction, protocol, port prefix).

use crate::{address::NetPort, map::map_spec};

abi! {
    /// What a policy entry is found by. The trie's prefix length counts bits of this in order, so
    /// the identity and the direction are always whole and only protocol and port may be open.
    pub struct PolicyKey [8] {
        /// The peer's identity number, host byte order; 0 matches any peer.
        0 => pub identity: u32,
        /// [`INGRESS`] or [`EGRESS`].
        4 => pub direction: u8,
        /// IP protocol number.
        5 => pub protocol: u8,
        /// Destination port; for ICMP, its type.
        6 => pub port: NetPort,
    }
}

abi! {
    /// A key with its prefix length, as the kernel's LPM tries want it.
    pub struct PolicyPrefix [12] {
        /// Bits of the key that count: [`PREFIX_ANY`] to [`PREFIX_PORT`].
        0 => pub length: u32,
        /// The key; bits past the length are zero.
        4 => pub key: PolicyKey,
    }
}

/// One step of editing a class in place. User space alone speaks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassEdit {
    /// Add or replace an entry.
    Upsert(PolicyPrefix, PolicyEntry),
    /// Remove an entry; removing the absent is no error.
    Delete(PolicyPrefix),
}

/// Prefix length of an entry that leaves protocol and port open.
pub const PREFIX_ANY: u32 = 40;
/// Prefix length of an entry that leaves the port open.
pub const PREFIX_PROTOCOL: u32 = 48;
/// Prefix length of an entry for one port; `PREFIX_PROTOCOL + n` covers the ports that share n leading bits.
pub const PREFIX_PORT: u32 = 64;

/// Towards the endpoint that the class belongs to.
pub const INGRESS: u8 = 1;
/// From the endpoint that the class belongs to.
pub const EGRESS: u8 = 2;

abi! {
    /// What an entry says.
    pub struct PolicyEntry [16] {
        /// Of several entries that match, the highest decides; a tie is a deny if one of them is.
        0 => pub precedence: u32,
        /// The agent's number for the set of rules behind this entry; 0 names none.
        4 => pub rule: u32,
        /// [`DENY`] or zero.
        8 => pub flags: u8,
        /// Zero.
        9 => pub spare: [u8; 7],
    }
}

/// Flag of an entry that denies.
pub const DENY: u8 = 1;

/// The precedence that a Kubernetes NetworkPolicy's rules have: above nothing, below what later tiers bring.
pub const PRECEDENCE_NETWORK_POLICY: u32 = 1 << 16;
/// The precedence of the entry that opens a direction in which no policy isolates the endpoint.
pub const PRECEDENCE_DEFAULT: u32 = 0;

/// Entries an inner trie is made for at least; grown by powers of two.
pub const CLASS_CAPACITY_MIN: u32 = 64;
/// Entries an inner trie is made for at most.
pub const CLASS_CAPACITY_MAX: u32 = 1 << 20;

map_spec! {
    /// Hash of maps: class number → inner LPM trie of [`PolicyKey`] → [`PolicyEntry`]. A class without
    /// a map has no verdict: its endpoint's packets are dropped.
    CLASSES = "weft_classes" v 1, Agent, u32 => u32, 1 << 14
}
