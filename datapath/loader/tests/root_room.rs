//! Maps that the agent writes grow while packets are judged by them: every first packet gets the verdict it would get
//! otherwise. What one map has no room for is refused with its name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use support::{Datapath, IFINDEX, Program, REDIRECT, SHOT, SYN, is_root, tcp};
use weft_abi::{
    address::{Addr, Addr4, NetPort},
    endpoint::{ENDPOINTS, Endpoint},
    ipcache::{ADDRESSES4, AddressEntry, LOCAL, PREFIXES4, Prefix4, PrefixEntry, REMOTE_POD},
    map::MapSpec,
    policy::{DENY, EGRESS, PREFIX_ANY, PREFIX_PORT, PolicyEntry, PolicyKey, PolicyPrefix},
};
use weft_datapath::kernel::{KernelError, Maps, RawEntry};

const POD: [u8; 4] = [10, 0, 0, 1];
const REMOTE: [u8; 4] = [10, 0, 1, 1];
const CLASS: u32 = 1000;
const DENIED: u16 = 81;
/// More than the map was ever made for at once; the second kind is a trie, whose look-ups grow dear.
const ADDRESSES: u32 = 300_000;
const PREFIXES: u32 = 20_000;
const ENDPOINTS_MORE: u32 = 10_000;
const CLASSES_MORE: u32 = 2_000;
const CHUNK: u32 = 5_000;

fn put(maps: &dyn Maps, map: &MapSpec, key: &[u8], value: &[u8]) {
    maps.update(map, &[RawEntry { key: key.to_vec(), value: value.to_vec() }]).unwrap();
}

/// The pod may send anything but to one port.
fn world(maps: &dyn Maps) {
    let addr4 = Addr4::new(POD);
    let row =
        Endpoint { ifindex: IFINDEX, identity: CLASS, class: CLASS, addr4, ..Endpoint::zeroed() };
    put(maps, &ENDPOINTS, &IFINDEX.to_ne_bytes(), &row.to_bytes());
    let pod =
        AddressEntry { identity: CLASS, flags: LOCAL, ifindex: IFINDEX, ..AddressEntry::zeroed() };
    put(maps, &ADDRESSES4, &POD, &pod.to_bytes());
    put(maps, &ADDRESSES4, &REMOTE, &remote(2000).to_bytes());
    let entry = |length, port: u16, flags| {
        let protocol = if length == PREFIX_PORT { 6 } else { 0 };
        let port = NetPort::from_host(port);
        let key = PolicyKey { direction: EGRESS, protocol, port, ..PolicyKey::zeroed() };
        let entry = PolicyEntry { precedence: 1, flags, ..PolicyEntry::zeroed() };
        (PolicyPrefix { length, key }, entry)
    };
    let entries = vec![entry(PREFIX_ANY, 0, 0), entry(PREFIX_PORT, DENIED, DENY)];
    maps.class_replace(&[(CLASS, entries)]).unwrap();
    maps.bump_epoch().unwrap();
}

fn remote(identity: u32) -> AddressEntry {
    let node = Addr::from4(Addr4::new([192, 0, 2, 2]));
    AddressEntry { identity, flags: REMOTE_POD, node, ..AddressEntry::zeroed() }
}

fn address(number: u32) -> RawEntry {
    let [_, b, c, d] = number.to_be_bytes();
    RawEntry { key: vec![11, b, c, d], value: remote(number).to_bytes().into() }
}

fn prefix(number: u32) -> RawEntry {
    let [_, _, c, d] = number.to_be_bytes();
    let key = Prefix4 { length: 24, addr: Addr4::new([12, c, d, 0]) };
    let entry = PrefixEntry { cidr: number, ..PrefixEntry::zeroed() };
    RawEntry { key: key.to_bytes().into(), value: entry.to_bytes().into() }
}

fn endpoint(number: u32) -> RawEntry {
    let ifindex = IFINDEX + 1 + number;
    let [_, _, c, d] = number.to_be_bytes();
    let addr4 = Addr4::new([13, 0, c, d]);
    let row = Endpoint { ifindex, identity: 2000, class: 2000, addr4, ..Endpoint::zeroed() };
    RawEntry { key: ifindex.to_ne_bytes().into(), value: row.to_bytes().into() }
}

/// Classes in the tens, as plugged pods bring them; each denies everything.
fn add_classes(maps: &dyn Maps, count: u32) {
    let key = PolicyKey { direction: EGRESS, ..PolicyKey::zeroed() };
    let entry = PolicyEntry { precedence: 1, flags: DENY, ..PolicyEntry::zeroed() };
    let class = |number| (number, vec![(PolicyPrefix { length: PREFIX_ANY, key }, entry)]);
    for begin in (CLASS + 1..=CLASS + count).step_by(50) {
        let classes: Vec<_> = (begin..=CLASS + count).take(50).map(class).collect();
        maps.class_replace(&classes).unwrap();
    }
}

/// Writes so many in pieces, as they come.
fn grow(maps: &dyn Maps, map: &MapSpec, count: u32, row: fn(u32) -> RawEntry) {
    for begin in (0..count).step_by(CHUNK as usize) {
        let rows: Vec<RawEntry> = (begin..(begin + CHUNK).min(count)).map(row).collect();
        maps.update(map, &rows).unwrap();
    }
}

#[test]
fn root_maps_grow_under_packets_and_no_verdict_is_wrong() {
    if !is_root() {
        return;
    }
    let mut datapath = Datapath::load();
    world(&*datapath.maps);
    let maps = std::sync::Arc::clone(&datapath.maps);
    let grown = AtomicBool::new(false);
    let judged = thread::scope(|scope| {
        scope.spawn(|| {
            grow(&*maps, &ADDRESSES4, ADDRESSES, address);
            grow(&*maps, &PREFIXES4, PREFIXES, prefix);
            grow(&*maps, &ENDPOINTS, ENDPOINTS_MORE, endpoint);
            add_classes(&*maps, CLASSES_MORE);
            grown.store(true, Ordering::SeqCst);
        });
        let mut judged = 0_u16;
        while !grown.load(Ordering::SeqCst) || judged < 1000 {
            judged = judged.wrapping_add(1).max(1);
            for (port, action) in [(80, REDIRECT), (DENIED, SHOT)] {
                // A port of its own each: every packet is a first one.
                let syn = tcp((POD, judged), (REMOTE, port), SYN);
                let ran = datapath.run(Program::FromPod, &syn.bytes());
                assert_eq!(ran.action, action, "port {port}, packet {judged}");
            }
        }
        judged
    });
    assert!(judged >= 1000);
    assert_eq!(datapath.entries(&ADDRESSES4).len(), ADDRESSES as usize + 2);
    assert_eq!(datapath.entries(&PREFIXES4).len(), PREFIXES as usize);
    assert_eq!(datapath.entries(&ENDPOINTS).len(), ENDPOINTS_MORE as usize + 1);
    assert_eq!(datapath.maps.classes().unwrap().len(), CLASSES_MORE as usize + 1);
}

#[test]
fn root_a_map_tells_what_it_was_made_for() {
    if !is_root() {
        return;
    }
    let datapath = Datapath::load_with(&[(&ADDRESSES4, 3)]);
    assert_eq!(datapath.maps.capacity(&ADDRESSES4), 3);
    assert_eq!(datapath.maps.capacity(&PREFIXES4), PREFIXES4.capacity);
    let rows: Vec<RawEntry> = (1..=4).map(address).collect();
    let refused = datapath.maps.update(&ADDRESSES4, &rows).unwrap_err();
    assert!(matches!(refused, KernelError::Full { capacity: 3, .. }), "{refused}");
}
