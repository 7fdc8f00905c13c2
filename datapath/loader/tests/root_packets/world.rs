//! A node for packets to be run on: a pod behind the interface that test runs see, and who is around it.

use crate::support::{Datapath, IFINDEX, Packet, is_root};
use weft_abi::{
    address::{Addr, Addr4},
    endpoint::{ENDPOINTS, Endpoint},
    ipcache::{ADDRESSES4, AddressEntry, HOST, LOCAL, PREFIXES4, Prefix4, PrefixEntry, REMOTE_POD},
    map::MapSpec,
    policy::{DENY, EGRESS, INGRESS, PolicyEntry, PolicyKey, PolicyPrefix},
};
use weft_datapath::kernel::{Maps, RawEntry};

/// The pod behind the interface that test runs see.
pub(crate) const POD: [u8; 4] = [10, 0, 0, 1];
pub(crate) const POD_MAC: [u8; 6] = [2, 0x57, 10, 0, 0, 1];
/// Another pod of this node.
pub(crate) const NEIGHBOUR: [u8; 4] = [10, 0, 0, 2];
/// A pod of this node whose endpoint is not written yet.
pub(crate) const EARLY: [u8; 4] = [10, 0, 0, 3];
/// A pod of this node whose class has no trie yet.
pub(crate) const BARE: [u8; 4] = [10, 0, 0, 4];
/// Nobody, in this node's prefix.
pub(crate) const NOBODY: [u8; 4] = [10, 0, 0, 77];
/// A pod of another node.
pub(crate) const REMOTE: [u8; 4] = [10, 0, 1, 1];
pub(crate) const NODE: [u8; 4] = [192, 0, 2, 1];
pub(crate) const OTHER_NODE: [u8; 4] = [192, 0, 2, 2];
pub(crate) const WORLD: [u8; 4] = [198, 51, 100, 7];

pub(crate) const POD_CLASS: u32 = 1000;
pub(crate) const NEIGHBOUR_CLASS: u32 = 1001;
pub(crate) const REMOTE_IDENTITY: u32 = 1002;
pub(crate) const WORLD_IDENTITY: u32 = 2;
pub(crate) const DENIED_PORT: u16 = 81;

/// What everyone may: the pod sends anything but to [`DENIED_PORT`] and takes anything but from the
/// neighbour; the neighbour sends and takes anything.
pub(crate) fn world(datapath: &Datapath) {
    stand(datapath, POD, POD_CLASS, IFINDEX);
    stand(datapath, NEIGHBOUR, NEIGHBOUR_CLASS, 72);
    stand(datapath, BARE, 1004, 74);
    let address = |address: [u8; 4], identity: u32, flags: u32, ifindex: u32, node: [u8; 4]| {
        let node = Addr::from4(Addr4::new(node));
        let entry = AddressEntry { identity, flags, ifindex, node, ..AddressEntry::zeroed() };
        put(datapath, &ADDRESSES4, &address, &entry.to_bytes());
    };
    address(EARLY, 1003, LOCAL, 73, [0; 4]);
    address(REMOTE, REMOTE_IDENTITY, REMOTE_POD, 0, OTHER_NODE);
    address(NODE, 1, HOST, 0, [0; 4]);
    let prefix = |length: u32, at: [u8; 4], identity: u32, flags: u32| {
        let key = Prefix4 { length, addr: Addr4::new(at) }.to_bytes();
        let entry = PrefixEntry { identity, flags, ..PrefixEntry::zeroed() };
        put(datapath, &PREFIXES4, &key, &entry.to_bytes());
    };
    prefix(0, [0; 4], WORLD_IDENTITY, 0);
    prefix(24, [10, 0, 0, 0], 0, LOCAL);
    judge_by(datapath, &[(EGRESS, 0, None, 0), (EGRESS, 0, Some(DENIED_PORT), DENY)]);
}

/// A pod of this node behind an interface; its class's number is its identity's.
pub(crate) fn stand(datapath: &Datapath, pod: [u8; 4], class: u32, ifindex: u32) {
    let [a, b, c, d] = pod;
    let (addr4, mac) = (Addr4::new(pod), [2, 0x57, a, b, c, d]);
    let row = Endpoint { ifindex, identity: class, class, addr4, mac, ..Endpoint::zeroed() };
    put(datapath, &ENDPOINTS, &ifindex.to_ne_bytes(), &row.to_bytes());
    let entry = AddressEntry { identity: class, flags: LOCAL, ifindex, ..AddressEntry::zeroed() };
    put(datapath, &ADDRESSES4, &pod, &entry.to_bytes());
}

pub(crate) fn put(datapath: &Datapath, map: &MapSpec, key: &[u8], value: &[u8]) {
    let entry = RawEntry { key: key.to_vec(), value: value.to_vec() };
    datapath.maps.update(map, &[entry]).expect("write the world");
}

/// Gives the pod's class these entries (direction, peer, TCP port, flags), and entries that let in who is
/// remote and the world; makes every flow stale.
pub(crate) fn judge_by(datapath: &Datapath, entries: &[(u8, u32, Option<u16>, u8)]) {
    let entry = |(direction, identity, port, flags): (u8, u32, Option<u16>, u8)| {
        let mut prefix = PolicyPrefix { length: 40, key: PolicyKey::zeroed() };
        (prefix.key.identity, prefix.key.direction) = (identity, direction);
        if let Some(port) = port {
            prefix.length = 64;
            prefix.key.protocol = 6;
            prefix.key.port = weft_abi::address::NetPort::from_host(port);
        }
        (prefix, PolicyEntry { precedence: 1, rule: 5, flags, ..PolicyEntry::zeroed() })
    };
    let mut pod: Vec<_> = entries.iter().copied().map(entry).collect();
    pod.extend(
        [(INGRESS, REMOTE_IDENTITY, None, 0), (INGRESS, WORLD_IDENTITY, None, 0)].map(entry),
    );
    let open = [(EGRESS, 0, None, 0), (INGRESS, 0, None, 0)].map(entry).to_vec();
    datapath.maps.class_replace(&[(POD_CLASS, pod), (NEIGHBOUR_CLASS, open)]).unwrap();
    datapath.maps.bump_epoch().unwrap();
}

pub(crate) fn loaded() -> Option<Datapath> {
    is_root().then(|| {
        let datapath = Datapath::load();
        world(&datapath);
        datapath
    })
}

pub(crate) fn with(packet: Packet, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = packet.bytes();
    change(&mut bytes);
    bytes
}
