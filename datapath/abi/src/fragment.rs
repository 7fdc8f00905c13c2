//! Fragmented datagrams: what their first fragment says of the others, which carry no ports.

use crate::{
    address::{Addr4, NetPort},
    map::map_spec,
};

abi! {
    /// A datagram by what all its fragments carry (RFC 791 §3.2), or the latest one between two ends.
    pub struct FragmentKey4 [12] {
        /// Source.
        0 => pub source: Addr4,
        /// Destination.
        4 => pub destination: Addr4,
        /// The datagram's identification, as it stands in the packet; zero for [`LATEST`].
        8 => pub id: u16,
        /// IP protocol number.
        10 => pub protocol: u8,
        /// [`DATAGRAM`] or [`LATEST`].
        11 => pub scope: u8,
    }
}

/// This very datagram.
pub const DATAGRAM: u8 = 0;
/// The datagram whose first fragment passed last between these ends.
pub const LATEST: u8 = 1;

abi! {
    /// What a first fragment said.
    pub struct Fragmented [12] {
        /// Source port, as in the flow's key.
        0 => pub source_port: NetPort,
        /// Destination port, as in the flow's key.
        2 => pub destination_port: NetPort,
        /// What policies are asked for.
        4 => pub policy_port: NetPort,
        /// ICMP type and code; zero for others.
        6 => pub icmp: [u8; 2],
        /// Seconds of the monotonic clock when it was seen.
        8 => pub seen: u32,
    }
}

map_spec! {
    /// LRU hash: datagram → what its first fragment said. Of Cilium's `cilium_ipv4_frag_datagrams`' size.
    FRAGMENTS4 = "weft_fragments4" v 1, Kernel, FragmentKey4 => Fragmented, 1 << 13
}
