//! The endpoints of this node by the interface their packets use.

use crate::{
    address::{Addr, Addr4},
    map::map_spec,
};

abi! {
    /// What differs between endpoints; programs are the same for all.
    pub struct Endpoint [64] {
        /// Host side of the pod's link.
        0 => pub ifindex: u32,
        /// The endpoint's number on this node.
        4 => pub id: u32,
        /// Its identity number.
        8 => pub identity: u32,
        /// Its policy class.
        12 => pub class: u32,
        /// Its IPv4 address; what it sends must carry it.
        16 => pub addr4: Addr4,
        /// Zero.
        20 => pub flags: u32,
        /// Its IPv6 address, zero without one.
        24 => pub addr6: Addr,
        /// The pod's hardware address.
        40 => pub mac: [u8; 6],
        /// Zero.
        46 => pub spare: [u8; 18],
    }
}

map_spec! {
    /// Hash: interface index → [`Endpoint`].
    ENDPOINTS = "weft_endpoints" v 1, Agent, u32 => Endpoint, 1 << 14
}
