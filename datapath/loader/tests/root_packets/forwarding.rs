//! Where packets go, what is rewritten, and under whose name they may.

use crate::{
    support::{ACK, OK, Packet, Program, REDIRECT, SHOT, SYN, checksum, is_root, tcp},
    world::{DENIED_PORT, NEIGHBOUR, NODE, POD, POD_MAC, REMOTE, WORLD, loaded},
};
use weft_abi::{GATEWAY_MAC, conntrack::PENDING4, drop::DropReason};

/// An ARP packet of the pod's, under an address.
pub(crate) fn arp(operation: u8, sender: [u8; 4]) -> Vec<u8> {
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

/// The device to other nodes is, in test runs, the loopback: here one of a network namespace of the test's own.
#[test]
fn root_what_the_device_does_not_take_is_for_the_nodes_stack() {
    use nix::sched::{CloneFlags, unshare};
    if !is_root() {
        return;
    }
    let tried = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let set = ["link", "set", "lo", "mtu", "1000"];
        assert!(std::process::Command::new("ip").args(set).status().unwrap().success());
        let mut datapath = loaded().unwrap();
        let mut sent = |to: [u8; 4], length: usize| {
            let mut bytes = tcp((POD, 7), (to, 80), SYN).bytes();
            bytes.resize(14 + length, 0);
            let ran = datapath.run(Program::FromPod, &bytes);
            (ran.action, ran.packet[22])
        };
        for length in [500, 577, 1_000] {
            assert_eq!(sent(REMOTE, length), (REDIRECT, 63), "{length} bytes");
        }
        for length in [1_001, 1_500] {
            assert_eq!(sent(REMOTE, length), (OK, 64), "{length} bytes: untouched");
            assert_eq!(sent(NEIGHBOUR, length), (REDIRECT, 63), "{length} bytes, to a pod here");
        }
    });
    tried.join().unwrap();
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
