//! A first packet, judged by what a kernel's maps hold: the shipped verdict, which is that of the kernel's programs.

use super::maps::Maps;
use std::net::Ipv4Addr;
use weft_abi::{
    address::{Addr4, NetPort},
    endpoint::{ENDPOINTS, Endpoint},
    ipcache::{ADDRESSES4, AddressEntry, PREFIXES4, Prefix4, PrefixEntry},
};
use weft_core::policy::offline::Trie;
use weft_verdict::flow::{Judgement, Opening, World, judge_flow};

/// A packet that opens a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) from: Ipv4Addr,
    pub(crate) to: Ipv4Addr,
    /// IP protocol number.
    pub(crate) protocol: u8,
    pub(crate) port: u16,
}

/// Of both ends what maps say of them, as the verdict looks it up.
struct Looked<'a> {
    maps: &'a Maps,
    ends: [End; 2],
}

struct End {
    at: Addr4,
    address: Option<AddressEntry>,
    prefix: Option<PrefixEntry>,
    endpoint: Option<Endpoint>,
}

impl Maps {
    /// What becomes of a packet.
    pub(crate) fn judge(&self, packet: &Packet) -> Judgement {
        let Packet { from, to, protocol, port } = *packet;
        let [source, destination] = [from, to].map(|at| Addr4::new(at.octets()));
        let ends = [source, destination].map(|at| {
            let address = self.address(at);
            let endpoint = address.and_then(|it| self.endpoint(it.ifindex));
            End { at, address, prefix: self.prefix(at), endpoint }
        });
        let opening = Opening { source, destination, protocol, port: NetPort::from_host(port) };
        let mut found = Judgement::NOTHING;
        judge_flow(&Looked { maps: self, ends }, &opening, &mut found);
        found
    }

    /// Who has an address.
    pub(crate) fn address(&self, at: Addr4) -> Option<AddressEntry> {
        AddressEntry::from_bytes(self.row(ADDRESSES4.name, &at.to_bytes())?)
    }

    /// Who is behind an interface.
    pub(crate) fn endpoint(&self, ifindex: u32) -> Option<Endpoint> {
        Endpoint::from_bytes(self.row(ENDPOINTS.name, &ifindex.to_ne_bytes())?)
    }

    /// The longest prefix around an address.
    fn prefix(&self, at: Addr4) -> Option<PrefixEntry> {
        let host = at.to_host();
        let row = (0..=32_u32).rev().find_map(|length| {
            let network = host & u32::MAX.checked_shl(32 - length).unwrap_or(0);
            let addr = Addr4::new(network.to_be_bytes());
            self.row(PREFIXES4.name, &Prefix4 { length, addr }.to_bytes())
        });
        PrefixEntry::from_bytes(row?)
    }
}

impl Looked<'_> {
    fn end(&self, at: Addr4) -> Option<&End> {
        self.ends.iter().find(|end| end.at == at)
    }
}

impl World for Looked<'_> {
    type Class<'a>
        = Trie<'a>
    where
        Self: 'a;

    fn address(&self, address: Addr4) -> Option<&AddressEntry> {
        self.end(address)?.address.as_ref()
    }

    fn prefix(&self, address: Addr4) -> Option<&PrefixEntry> {
        self.end(address)?.prefix.as_ref()
    }

    fn endpoint(&self, ifindex: u32) -> Option<&Endpoint> {
        let endpoints = self.ends.iter().filter_map(|end| end.endpoint.as_ref());
        endpoints.into_iter().find(|endpoint| endpoint.ifindex == ifindex)
    }

    fn class(&self, class: u32) -> Option<Trie<'_>> {
        self.maps.classes.get(&class).map(Trie)
    }
}
