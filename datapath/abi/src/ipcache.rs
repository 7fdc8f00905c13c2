//! Who has an address: exact addresses in a hash, prefixes in a small LPM trie.

use crate::{
    address::{Addr, Addr4},
    map::map_spec,
};

abi! {
    /// What is known of an exact address: its identity and where it is.
    pub struct AddressEntry [32] {
        /// Identity number; 0 while it is not known.
        0 => pub identity: u32,
        /// [`LOCAL`], [`HOST`], [`REMOTE_POD`], [`REMOTE_NODE`].
        4 => pub flags: u32,
        /// Interface of a local pod (host side); 0 otherwise.
        8 => pub ifindex: u32,
        /// Zero.
        12 => pub spare: [u8; 4],
        /// The node to send to, for a remote pod.
        16 => pub node: Addr,
    }
}

/// The address is a pod of this node.
pub const LOCAL: u32 = 1;
/// The address is this node's own.
pub const HOST: u32 = 2;
/// The address is a pod of another node.
pub const REMOTE_POD: u32 = 4;
/// The address is another node's own.
pub const REMOTE_NODE: u32 = 8;

abi! {
    /// What is known of all addresses of a prefix that have no exact entry.
    pub struct PrefixEntry [32] {
        /// Identity number: world, or 0 (unknown) inside a pod or node CIDR, never both.
        0 => pub identity: u32,
        /// Node-local identity of the most specific policy prefix around it; 0 when there is none.
        /// It is looked up for exact addresses too: a Kubernetes ipBlock matches whoever has the address.
        4 => pub cidr: u32,
        /// [`LOCAL`] for this node's pod CIDRs, [`REMOTE_POD`] for other nodes'.
        8 => pub flags: u32,
        /// Zero.
        12 => pub spare: [u8; 4],
        /// The node to send to, for other nodes' pod CIDRs.
        16 => pub node: Addr,
    }
}

abi! {
    /// A prefix, as the kernel's LPM tries want it.
    pub struct Prefix4 [8] {
        /// Bits of the address that count.
        0 => pub length: u32,
        /// The address; bits past the length are zero.
        4 => pub addr: Addr4,
    }
}

map_spec! {
    /// Hash: exact address → [`AddressEntry`].
    ADDRESSES4 = "weft_addresses4" v 1, Agent, Addr4 => AddressEntry, 1 << 20
}
map_spec! {
    /// LPM trie: prefix → [`PrefixEntry`].
    PREFIXES4 = "weft_prefixes4" v 1, Agent, Prefix4 => PrefixEntry, 1 << 20
}
