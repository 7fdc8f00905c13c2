//! Packets through the kernel programs by `BPF_PROG_TEST_RUN`: each drop reason by a packet that has it,
//! and flows as they live: what is passed, refused, counted and told, and what is left in the tables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use support::{
    ACK, Datapath, FIN, IFINDEX, OK, Packet, Program, REDIRECT, RST, SHOT, SYN, checksum, echo,
    is_root, tcp, udp,
};
use weft_abi::{
    GATEWAY_MAC,
    address::{Addr, Addr4},
    conntrack::{FLOWS4, PENDING4},
    drop::DropReason,
    endpoint::{ENDPOINTS, Endpoint},
    event::{EVENT_ALLOWED, EVENT_DROP, MUTED4},
    ipcache::{ADDRESSES4, AddressEntry, HOST, LOCAL, PREFIXES4, Prefix4, PrefixEntry, REMOTE_POD},
    map::MapSpec,
    metrics::{NOTICE_FLOWS_FULL, NOTICE_MID_STREAM},
    policy::{DENY, EGRESS, INGRESS, PolicyEntry, PolicyKey, PolicyPrefix},
};
use weft_datapath::kernel::{Maps, RawEntry};

/// The pod behind the interface that test runs see.
const POD: [u8; 4] = [10, 0, 0, 1];
const POD_MAC: [u8; 6] = [2, 0x57, 10, 0, 0, 1];
/// Another pod of this node.
const NEIGHBOUR: [u8; 4] = [10, 0, 0, 2];
/// A pod of this node whose endpoint is not written yet.
const EARLY: [u8; 4] = [10, 0, 0, 3];
/// A pod of this node whose class has no trie yet.
const BARE: [u8; 4] = [10, 0, 0, 4];
/// Nobody, in this node's prefix.
const NOBODY: [u8; 4] = [10, 0, 0, 77];
/// A pod of another node.
const REMOTE: [u8; 4] = [10, 0, 1, 1];
const NODE: [u8; 4] = [192, 0, 2, 1];
const OTHER_NODE: [u8; 4] = [192, 0, 2, 2];
const WORLD: [u8; 4] = [198, 51, 100, 7];

const POD_CLASS: u32 = 1000;
const NEIGHBOUR_CLASS: u32 = 1001;
const REMOTE_IDENTITY: u32 = 1002;
const WORLD_IDENTITY: u32 = 2;
const DENIED_PORT: u16 = 81;

/// What everyone may: the pod sends anything but to [`DENIED_PORT`] and takes anything but from the
/// neighbour; the neighbour sends and takes anything.
fn world(datapath: &Datapath) {
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
fn stand(datapath: &Datapath, pod: [u8; 4], class: u32, ifindex: u32) {
    let [a, b, c, d] = pod;
    let (addr4, mac) = (Addr4::new(pod), [2, 0x57, a, b, c, d]);
    let row = Endpoint { ifindex, identity: class, class, addr4, mac, ..Endpoint::zeroed() };
    put(datapath, &ENDPOINTS, &ifindex.to_ne_bytes(), &row.to_bytes());
    let entry = AddressEntry { identity: class, flags: LOCAL, ifindex, ..AddressEntry::zeroed() };
    put(datapath, &ADDRESSES4, &pod, &entry.to_bytes());
}

fn put(datapath: &Datapath, map: &MapSpec, key: &[u8], value: &[u8]) {
    let entry = RawEntry { key: key.to_vec(), value: value.to_vec() };
    datapath.maps.update(map, &[entry]).expect("write the world");
}

/// Gives the pod's class these entries (direction, peer, TCP port, flags), and entries that let in who is
/// remote and the world; makes every flow stale.
fn judge_by(datapath: &Datapath, entries: &[(u8, u32, Option<u16>, u8)]) {
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

fn loaded() -> Option<Datapath> {
    is_root().then(|| {
        let datapath = Datapath::load();
        world(&datapath);
        datapath
    })
}

fn with(packet: Packet, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = packet.bytes();
    change(&mut bytes);
    bytes
}

#[test]
fn root_each_drop_reason_has_a_packet_is_counted_and_is_told() {
    use Program::{FromNet, FromPod, ToPod};
    let Some(mut datapath) = loaded() else { return };
    let out = |to| tcp((POD, 40_000), (to, 80), SYN);
    let in_from = |from| tcp((from, 40_000), (POD, 80), SYN);
    let cases = [
        (
            "a pod under another's address",
            FromPod,
            in_from(NEIGHBOUR).bytes(),
            DropReason::InvalidSourceIp,
        ),
        (
            "the network under a pod's",
            FromNet,
            in_from(NEIGHBOUR).bytes(),
            DropReason::InvalidSourceIp,
        ),
        (
            "the network under this node's",
            FromNet,
            in_from(NODE).bytes(),
            DropReason::InvalidSourceIp,
        ),
        ("nothing allows it", ToPod, in_from(NEIGHBOUR).bytes(), DropReason::PolicyDenied),
        (
            "a rule denies it",
            FromPod,
            tcp((POD, 40_000), (WORLD, DENIED_PORT), SYN).bytes(),
            DropReason::PolicyDeny,
        ),
        ("IP version 5", FromPod, with(out(WORLD), |b| b[14] = 0x55), DropReason::InvalidPacket),
        (
            "a header of 16 bytes",
            FromPod,
            with(out(WORLD), |b| b[14] = 0x44),
            DropReason::InvalidPacket,
        ),
        ("no ports", FromPod, with(out(WORLD), |b| b.truncate(36)), DropReason::Truncated),
        (
            "no ports, from the network",
            FromNet,
            with(in_from(WORLD), |b| b.truncate(36)),
            DropReason::Truncated,
        ),
        ("GRE", FromPod, with(out(WORLD), |b| b[23] = 47), DropReason::UnknownL4),
        (
            "LLDP",
            FromPod,
            with(out(WORLD), |b| b[12..14].copy_from_slice(&[0x88, 0xcc])),
            DropReason::UnsupportedL3,
        ),
        (
            "LLDP to a pod",
            ToPod,
            with(out(WORLD), |b| b[12..14].copy_from_slice(&[0x88, 0xcc])),
            DropReason::UnsupportedL3,
        ),
        ("an ARP reply", FromPod, arp(2, POD), DropReason::UnsupportedL3),
        ("ARP under another's address", FromPod, arp(1, NEIGHBOUR), DropReason::InvalidSourceIp),
        ("an address nobody has", FromPod, out(NOBODY).bytes(), DropReason::UnroutableIp),
        (
            "the same from the network",
            FromNet,
            tcp((WORLD, 1), (NOBODY, 80), SYN).bytes(),
            DropReason::UnroutableIp,
        ),
        (
            "another pod's, in front of this one",
            ToPod,
            tcp((NODE, 1), (NEIGHBOUR, 80), SYN).bytes(),
            DropReason::UnroutableIp,
        ),
        ("more fragments", FromPod, with(out(WORLD), |b| b[20] = 0x20), DropReason::Fragment),
        ("a last fragment", FromNet, with(in_from(WORLD), |b| b[21] = 9), DropReason::Fragment),
        ("the end of its time", FromPod, out(REMOTE).ttl(1).bytes(), DropReason::TtlExceeded),
        ("no endpoint yet", FromPod, out(EARLY).bytes(), DropReason::EndpointNotReady),
        ("no class yet", FromPod, out(BARE).bytes(), DropReason::EndpointNotReady),
    ];
    for (name, program, bytes, reason) in &cases {
        datapath.events();
        // Each case is told, however alike the packets are.
        datapath.maps.prune(&MUTED4, &mut |_| true).unwrap();
        let before = datapath.counted(reason.number());
        assert_eq!(datapath.run(*program, bytes).action, SHOT, "{name}");
        assert_eq!(datapath.counted(reason.number()), before + 1, "{name}: {reason:?} is counted");
        let told: Vec<_> = datapath.events().into_iter().filter(|e| e.0 == EVENT_DROP).collect();
        assert_eq!(told.len(), 1, "{name}: {told:?}");
        assert_eq!(told[0].1, reason.number(), "{name} is told");
    }
    // What only a kernel out of memory does: insert into an LRU, write to a packet that it must copy.
    let unreachable = [DropReason::FlowTableFull, DropReason::WriteFailed];
    for reason in DropReason::ALL {
        let tried = cases.iter().any(|(.., r)| r == reason);
        assert!(tried || unreachable.contains(reason), "{reason:?} has no packet here");
    }
}

fn arp(operation: u8, sender: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..6].fill(0xff);
    bytes[6..12].copy_from_slice(&POD_MAC);
    bytes[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    bytes[22..28].copy_from_slice(&POD_MAC);
    bytes[28..32].copy_from_slice(&sender);
    bytes[38..42].copy_from_slice(&[169, 254, 1, 1]);
    bytes
}

#[test]
fn root_arp_is_answered_with_the_gateway() {
    let Some(mut datapath) = loaded() else { return };
    let ran = datapath.run(Program::FromPod, &arp(1, POD));
    assert_eq!(ran.action, REDIRECT);
    assert_eq!(ran.packet[..6], POD_MAC);
    assert_eq!(ran.packet[6..12], GATEWAY_MAC);
    assert_eq!(ran.packet[20..22], [0, 2], "a reply");
    assert_eq!(ran.packet[22..28], GATEWAY_MAC);
    assert_eq!(ran.packet[28..32], [169, 254, 1, 1], "for the address that was asked for");
    assert_eq!(ran.packet[32..42], [&POD_MAC[..], &POD[..]].concat());
}

#[test]
fn root_where_packets_go_and_what_is_rewritten() {
    use Program::{FromNet, FromPod, ToPod};
    let Some(mut datapath) = loaded() else { return };
    let cases = [
        ("to the neighbour", FromPod, tcp((POD, 1), (NEIGHBOUR, 80), SYN), REDIRECT, 63),
        ("to another node", FromPod, tcp((POD, 1), (REMOTE, 80), SYN), REDIRECT, 63),
        (
            "to the world: the node's stack routes it",
            FromPod,
            tcp((POD, 1), (WORLD, 80), SYN),
            OK,
            64,
        ),
        ("to the node itself", FromPod, tcp((POD, 1), (NODE, 80), SYN), OK, 64),
        ("into the pod", FromNet, tcp((REMOTE, 1), (POD, 80), SYN), REDIRECT, 63),
        ("not for a pod", FromNet, tcp((REMOTE, 1), (NODE, 80), SYN), OK, 64),
        ("from the node, already routed", ToPod, tcp((NODE, 1), (POD, 80), SYN), OK, 64),
    ];
    for (name, program, packet, action, ttl) in cases {
        let ran = datapath.run(program, &packet.bytes());
        assert_eq!(ran.action, action, "{name}");
        assert_eq!(ran.packet[22], ttl, "{name}");
        assert_eq!(checksum(&ran.packet[14..34]), 0, "{name}: the header's checksum");
    }
    let ran = datapath.run(FromNet, &tcp((REMOTE, 1), (POD, 80), ACK).bytes());
    assert_eq!((&ran.packet[..6], &ran.packet[6..12]), (&POD_MAC[..], &GATEWAY_MAC[..]));
}

#[test]
fn root_options_in_the_header_change_nothing() {
    let Some(mut datapath) = loaded() else { return };
    let with_options = |packet: Packet| {
        let mut bytes = packet.bytes();
        // Four times "no operation".
        bytes.splice(34..34, [1; 4]);
        bytes[14] = 0x46;
        bytes[24..26].fill(0);
        let sum = checksum(&bytes[14..38]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        bytes
    };
    let syn = tcp((POD, 40_000), (NEIGHBOUR, 80), SYN);
    assert_eq!(datapath.run(Program::FromPod, &syn.bytes()).action, REDIRECT);
    let before = datapath.entries(&PENDING4);
    let ran = datapath.run(Program::FromPod, &with_options(syn));
    assert_eq!((ran.action, ran.packet[22]), (REDIRECT, 63));
    assert_eq!(checksum(&ran.packet[14..38]), 0);
    assert_eq!(datapath.entries(&PENDING4).len(), before.len(), "it is the same flow");
    let denied = tcp((POD, 40_000), (NEIGHBOUR, DENIED_PORT), SYN);
    assert_eq!(datapath.run(Program::FromPod, &with_options(denied)).action, SHOT);
}

#[test]
fn root_nobody_sends_as_another_into_a_flow_that_is_there() {
    let Some(mut datapath) = loaded() else { return };
    // The neighbour is called from elsewhere; the pod answers in its name.
    let called = tcp((REMOTE, 40_000), (NEIGHBOUR, 80), SYN);
    assert_eq!(datapath.run(Program::FromNet, &called.bytes()).action, REDIRECT);
    let reason = DropReason::InvalidSourceIp.number();
    let before = datapath.counted(reason);
    assert_eq!(datapath.run(Program::FromPod, &called.reply(SYN | ACK).bytes()).action, SHOT);
    assert_eq!(datapath.counted(reason), before + 1);
    // And in its own name, it is itself.
    let called = tcp((REMOTE, 40_000), (POD, 80), SYN);
    assert_eq!(datapath.run(Program::FromNet, &called.bytes()).action, REDIRECT);
    assert_eq!(datapath.run(Program::FromPod, &called.reply(SYN | ACK).bytes()).action, REDIRECT);
}

#[test]
fn root_a_flow_lives_from_its_first_packet_to_its_refusal() {
    let Some(mut datapath) = loaded() else { return };
    let syn = tcp((POD, 40_000), (REMOTE, 80), SYN);
    datapath.events();
    assert_eq!(datapath.run(Program::FromPod, &syn.bytes()).action, REDIRECT);
    assert_eq!(datapath.entries(&PENDING4).len(), 1);
    assert_eq!(datapath.run(Program::FromNet, &syn.reply(SYN | ACK).bytes()).action, REDIRECT);
    assert_eq!((datapath.entries(&PENDING4).len(), datapath.entries(&FLOWS4).len()), (0, 1));
    let data = tcp((POD, 40_000), (REMOTE, 80), ACK);
    for _ in 0..3 {
        assert_eq!(datapath.run(Program::FromPod, &data.bytes()).action, REDIRECT);
    }
    let told = datapath.events();
    assert_eq!(told.iter().map(|e| e.0).collect::<Vec<_>>(), [EVENT_ALLOWED], "one event a flow");

    // A policy that denies: neither side gets through, and neither opens it anew.
    judge_by(&datapath, &[(EGRESS, 0, Some(80), DENY), (INGRESS, 0, None, 0)]);
    assert_eq!(datapath.run(Program::FromNet, &data.reply(ACK).bytes()).action, SHOT);
    assert_eq!(datapath.run(Program::FromPod, &data.bytes()).action, SHOT);
    assert_eq!(datapath.run(Program::FromNet, &data.reply(ACK).bytes()).action, SHOT);
    assert_eq!(datapath.entries(&FLOWS4).len(), 1, "a refusal is remembered");
    let kinds: Vec<_> = datapath.events().iter().map(|e| (e.0, e.1, e.2)).collect();
    assert_eq!(kinds, [(EVENT_DROP, DropReason::PolicyDeny.number(), EGRESS)], "once a second");

    // And back: it opens at the next packet of either side.
    judge_by(&datapath, &[(EGRESS, 0, None, 0)]);
    assert_eq!(datapath.run(Program::FromNet, &data.reply(ACK).bytes()).action, REDIRECT);
    assert_eq!(datapath.events().len(), 1, "and says so");

    // It ends, and the next SYN is another flow.
    for packet in [data.reply(FIN | ACK), data] {
        datapath.run(
            if packet.from == POD { Program::FromPod } else { Program::FromNet },
            &packet.bytes(),
        );
    }
    judge_by(&datapath, &[(EGRESS, 0, Some(80), DENY)]);
    assert_eq!(datapath.run(Program::FromPod, &syn.bytes()).action, SHOT);
    judge_by(&datapath, &[(EGRESS, 0, None, 0)]);
    assert_eq!(datapath.run(Program::FromPod, &syn.bytes()).action, REDIRECT);
    assert_eq!((datapath.entries(&PENDING4).len(), datapath.entries(&FLOWS4).len()), (1, 0));
}

#[test]
fn root_an_answer_is_no_way_in() {
    let Some(mut datapath) = loaded() else { return };
    // The pod asks the neighbour, who may not ask the pod.
    let question = tcp((POD, 40_000), (NEIGHBOUR, 80), SYN);
    assert_eq!(datapath.run(Program::FromPod, &question.bytes()).action, REDIRECT);
    let from_neighbour = |datapath: &mut Datapath, packet: Packet| {
        // The interface of test runs is the neighbour's for a moment, and the neighbour's the pod's.
        stand(datapath, NEIGHBOUR, NEIGHBOUR_CLASS, IFINDEX);
        stand(datapath, POD, POD_CLASS, 72);
        let ran = datapath.run(Program::FromPod, &packet.bytes());
        stand(datapath, POD, POD_CLASS, IFINDEX);
        stand(datapath, NEIGHBOUR, NEIGHBOUR_CLASS, 72);
        ran.action
    };
    assert_eq!(from_neighbour(&mut datapath, question.reply(SYN | ACK)), REDIRECT);
    assert_eq!(from_neighbour(&mut datapath, question.reply(SYN)), SHOT, "a SYN answers nothing");
    assert_eq!(from_neighbour(&mut datapath, question.reply(ACK)), REDIRECT, "and changed nothing");
    // The same of echoes under one identifier.
    let ping = echo(POD, NEIGHBOUR, 8, 7);
    assert_eq!(datapath.run(Program::FromPod, &ping.bytes()).action, REDIRECT);
    assert_eq!(from_neighbour(&mut datapath, ping.reply(0)), REDIRECT);
    assert_eq!(from_neighbour(&mut datapath, ping.reply(8)), SHOT, "its own request is judged");
    // Nor is a flow a way in for the network under the neighbour's address.
    let ran = datapath.run(Program::FromNet, &question.reply(ACK).bytes());
    assert_eq!((ran.action, datapath.counted(DropReason::InvalidSourceIp.number())), (SHOT, 1));
    let from_node = udp((NODE, 5), (POD, 53));
    assert_eq!(datapath.run(Program::ToPod, &from_node.bytes()).action, OK);
    assert_eq!(datapath.run(Program::FromNet, &from_node.bytes()).action, SHOT);
}

#[test]
fn root_a_scan_leaves_the_answered_alone_and_a_full_table_is_counted() {
    if !is_root() {
        return;
    }
    let mut datapath = Datapath::load_with(&[(&FLOWS4, 2)]);
    world(&datapath);
    let mut open = |port: u16, answer: u8| {
        let syn = tcp((POD, port), (REMOTE, 80), SYN);
        datapath.run(Program::FromPod, &syn.bytes());
        let action = datapath.run(Program::FromNet, &syn.reply(answer).bytes()).action;
        (action, datapath.entries(&FLOWS4).len(), datapath.entries(&PENDING4).len())
    };
    assert_eq!(open(1, RST | ACK), (REDIRECT, 0, 1), "a closed port needs no room");
    assert_eq!(open(2, SYN | ACK), (REDIRECT, 1, 1));
    assert_eq!(open(3, SYN | ACK), (REDIRECT, 2, 1));
    assert_eq!(open(4, SYN | ACK), (REDIRECT, 2, 2), "it lives on among the unanswered");
    assert_eq!(datapath.counted(NOTICE_FLOWS_FULL), 1);
    let data = tcp((POD, 4), (REMOTE, 80), ACK);
    assert_eq!(datapath.run(Program::FromPod, &data.bytes()).action, REDIRECT);
    assert_eq!(datapath.run(Program::FromNet, &data.reply(ACK).bytes()).action, REDIRECT);
}

#[test]
fn root_a_packet_from_the_middle_of_a_connection_is_judged_and_counted() {
    let Some(mut datapath) = loaded() else { return };
    let data = tcp((POD, 40_000), (REMOTE, 80), ACK);
    assert_eq!(datapath.run(Program::FromPod, &data.bytes()).action, REDIRECT);
    assert_eq!(datapath.counted(NOTICE_MID_STREAM), 1);
    assert_eq!(datapath.run(Program::FromPod, &data.bytes()).action, REDIRECT);
    assert_eq!(datapath.counted(NOTICE_MID_STREAM), 1, "it has a flow now");
}

#[test]
fn root_pruning_takes_what_is_over_and_nothing_else() {
    let Some(mut datapath) = loaded() else { return };
    // More than one batch.
    for n in 0..5_000_u16 {
        datapath.run(Program::FromPod, &udp((POD, 10_000 + n), (WORLD, 53)).bytes());
    }
    let port = |key: &[u8]| u16::from_be_bytes([key[8], key[9]]);
    assert_eq!(datapath.entries(&PENDING4).len(), 5_000);
    let pruned = datapath.maps.prune(&PENDING4, &mut |e| port(&e.key) % 2 == 0).unwrap();
    assert_eq!((pruned.seen, pruned.removed), (5_000, 2_500));
    assert!(datapath.entries(&PENDING4).iter().all(|e| port(&e.key) % 2 == 1));
    // Who is still over when seen, but not when taken, stays.
    let mut looks = std::collections::HashMap::new();
    let pruned = datapath
        .maps
        .prune(&PENDING4, &mut |e| {
            let look = looks.entry(e.key.clone()).or_insert(0);
            *look += 1;
            *look == 1
        })
        .unwrap();
    assert_eq!((pruned.seen, pruned.removed), (2_500, 0));
    assert_eq!(datapath.entries(&PENDING4).len(), 2_500);
}

/// Bytes that look like a packet up to a point: right EtherType and version, anything after.
fn nearly_a_packet() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    use proptest::prelude::*;
    let addresses = prop::sample::select(vec![POD, NEIGHBOUR, EARLY, NOBODY, REMOTE, NODE, WORLD]);
    let head = (prop::sample::select(vec![0x0800_u16, 0x0806, 0x86dd, 0x8100]), any::<u8>());
    let ends = (addresses.clone(), addresses, any::<bool>());
    (prop::collection::vec(any::<u8>(), 34..200), head, ends).prop_map(
        |(mut bytes, (ethertype, length), (from, to, real))| {
            bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
            if ethertype == 0x86dd {
                // Test runs take no shorter IPv6.
                bytes.resize(bytes.len().max(14 + 40), 0);
            }
            if real {
                bytes[14] = 0x40 | (length & 0x0f);
                bytes[26..30].copy_from_slice(&from);
                bytes[30..34].copy_from_slice(&to);
            }
            bytes
        },
    )
}

#[test]
fn root_no_bytes_get_lost_between_passed_and_dropped() {
    use proptest::test_runner::{Config, TestRunner};
    let Some(mut datapath) = loaded() else { return };
    let numbers: Vec<u8> =
        std::iter::once(0).chain(DropReason::ALL.iter().map(|reason| reason.number())).collect();
    let counted = |datapath: &Datapath| -> Vec<u64> {
        numbers.iter().map(|number| datapath.counted(*number)).collect()
    };
    let programs = [Program::FromPod, Program::ToPod, Program::FromNet];
    // The strategy draws, the loop judges: a datapath is not a value that a runner could share.
    let mut runner = TestRunner::new(Config { cases: 1, ..Config::default() });
    for _ in 0..2_000 {
        use proptest::strategy::{Strategy, ValueTree};
        let bytes = nearly_a_packet().new_tree(&mut runner).unwrap().current();
        for program in programs {
            let before = counted(&datapath);
            let action = datapath.run(program, &bytes).action;
            let after = counted(&datapath);
            let rose: Vec<u8> = numbers
                .iter()
                .zip(before.iter().zip(&after))
                .filter(|(_, (before, after))| after > before)
                .map(|(number, _)| *number)
                .collect();
            let sum = |counts: &[u64]| counts.iter().sum::<u64>();
            assert_eq!(sum(&after), sum(&before) + 1, "{program:?} {bytes:02x?}: counted {rose:?}");
            assert_eq!(action == SHOT, rose != [0], "{program:?} {bytes:02x?}: {action}, {rose:?}");
            assert!([OK, SHOT, REDIRECT].contains(&action), "{program:?} {bytes:02x?}: {action}");
        }
    }
}
