//! Fragments: each is judged as its flow is, in any order once the flow is known, and within bounds.

use crate::{
    support::{
        Datapath, IFINDEX, OK, Packet, Program, REDIRECT, SHOT, SYN, checksum, echo, is_root, tcp,
        udp,
    },
    world::{
        DENIED_PORT, NEIGHBOUR, NEIGHBOUR_CLASS, NODE, POD, POD_CLASS, REMOTE, WORLD, judge_by,
        loaded, stand, world,
    },
};
use weft_abi::{
    conntrack::PENDING4,
    drop::DropReason,
    fragment::{FRAGMENTS4, FragmentKey4, Fragmented},
    metrics::NOTICE_MID_STREAM,
    policy::{DENY, EGRESS},
};
use weft_datapath::{
    clock,
    kernel::{Maps, RawEntry},
};
use weft_verdict::fragment::LIFETIME;

/// A piece of a datagram: from so many units of eight bytes on, and whether more come after it.
fn piece(packet: Packet, id: u16, offset: u16, more: bool) -> Vec<u8> {
    let mut bytes = packet.bytes();
    bytes[18..20].copy_from_slice(&id.to_be_bytes());
    bytes[20..22].copy_from_slice(&(offset | u16::from(more) << 13).to_be_bytes());
    bytes[24..26].fill(0);
    let sum = checksum(&bytes[14..34]);
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    if offset > 0 {
        // Anything but ports.
        bytes[34..].fill(0xff);
    }
    bytes
}

fn unknown(datapath: &Datapath) -> u64 {
    datapath.counted(DropReason::FirstFragmentUnknown.number())
}

/// As if every first fragment had been seen long ago.
fn age(datapath: &Datapath) {
    let aged = |entry: RawEntry| {
        let known = Fragmented::from_bytes(&entry.value).unwrap();
        let old = Fragmented { seen: known.seen.wrapping_sub(LIFETIME + 3), ..known };
        RawEntry { value: old.to_bytes().into(), ..entry }
    };
    let entries: Vec<_> = datapath.entries(&FRAGMENTS4).into_iter().map(aged).collect();
    datapath.maps.update(&FRAGMENTS4, &entries).unwrap();
}

#[test]
fn root_later_fragments_go_where_their_first_went() {
    let Some(mut datapath) = loaded() else { return };
    let cases = [
        ("to the neighbour", Program::FromPod, udp((POD, 7), (NEIGHBOUR, 53)), REDIRECT),
        ("to another node", Program::FromPod, udp((POD, 7), (REMOTE, 53)), REDIRECT),
        ("from another node", Program::FromNet, udp((REMOTE, 8), (POD, 53)), REDIRECT),
        ("an echo", Program::FromPod, echo(POD, REMOTE, 8, 9), REDIRECT),
        ("to the world", Program::FromPod, udp((POD, 7), (WORLD, 53)), OK),
        ("from the node", Program::ToPod, udp((NODE, 7), (POD, 53)), OK),
        ("TCP", Program::FromPod, tcp((POD, 7), (REMOTE, 80), SYN), REDIRECT),
    ];
    for (name, program, packet, action) in cases {
        for (offset, more) in [(0, true), (185, true), (370, false)] {
            let ran = datapath.run(program, &piece(packet, 77, offset, more));
            assert_eq!(ran.action, action, "{name} at {offset}");
            assert_eq!(checksum(&ran.packet[14..34]), 0, "{name} at {offset}: the checksum");
        }
    }
    assert_eq!(datapath.entries(&PENDING4).len(), cases.len(), "one flow a datagram");
    assert_eq!(datapath.counted(NOTICE_MID_STREAM), 0);
    assert_eq!(unknown(&datapath), 0);
}

#[test]
fn root_a_fragment_before_its_first_is_of_the_flow_that_sends_fragments() {
    let Some(mut datapath) = loaded() else { return };
    let packet = udp((POD, 7), (REMOTE, 53));
    let send = |datapath: &mut Datapath, id: u16, offset: u16| {
        datapath.run(Program::FromPod, &piece(packet, id, offset, offset == 0)).action
    };
    // The first datagram that comes backwards is lost, and counted; those after it are not.
    assert_eq!([185, 0].map(|offset| send(&mut datapath, 1, offset)), [SHOT, REDIRECT]);
    for id in 2..20 {
        assert_eq!([370, 185, 0].map(|offset| send(&mut datapath, id, offset)), [REDIRECT; 3]);
    }
    assert_eq!(unknown(&datapath), 1);
    // Of another protocol, for another pod, or the other way, nothing is known.
    for (program, other) in [
        (Program::FromPod, tcp((POD, 7), (REMOTE, 53), 0)),
        (Program::FromPod, udp((POD, 7), (NEIGHBOUR, 53))),
        (Program::FromNet, udp((REMOTE, 53), (POD, 7))),
    ] {
        assert_eq!(datapath.run(program, &piece(other, 2, 185, false)).action, SHOT, "{other:?}");
    }
    assert_eq!(unknown(&datapath), 4);
    // After a pause that is longer than it is believed, the flow's next datagram is as its first.
    age(&datapath);
    assert_eq!([185, 0].map(|offset| send(&mut datapath, 20, offset)), [SHOT, REDIRECT]);
    assert_eq!([185, 0].map(|offset| send(&mut datapath, 21, offset)), [REDIRECT; 2]);
    assert_eq!(unknown(&datapath), 5);
}

#[test]
fn root_fragments_of_what_is_denied_are_denied() {
    let Some(mut datapath) = loaded() else { return };
    let denied = DropReason::PolicyDeny.number();
    let packet = tcp((POD, 7), (REMOTE, DENIED_PORT), SYN);
    let allowed = tcp((POD, 7), (REMOTE, 80), SYN);
    let mut send = |packet: Packet, id: u16, offset: u16| {
        datapath.run(Program::FromPod, &piece(packet, id, offset, offset == 0)).action
    };
    assert_eq!((send(packet, 1, 0), send(packet, 1, 185)), (SHOT, SHOT));
    assert_eq!(send(packet, 2, 185), SHOT, "who was denied is nobody's latest flow");
    // Who may send fragments to one port has not therefore those of another passed.
    assert_eq!(send(allowed, 3, 0), REDIRECT);
    assert_eq!((send(packet, 4, 0), send(packet, 4, 185)), (SHOT, SHOT));
    assert_eq!(datapath.counted(denied), 4);
    assert_eq!(unknown(&datapath), 1);
    // A denial reaches the pieces of a datagram that is on its way.
    let datagram = udp((POD, 7), (REMOTE, 53));
    assert_eq!(datapath.run(Program::FromPod, &piece(datagram, 5, 0, true)).action, REDIRECT);
    judge_by(&datapath, &[(EGRESS, 0, None, DENY)]);
    assert_eq!(datapath.run(Program::FromPod, &piece(datagram, 5, 185, false)).action, SHOT);
}

#[test]
fn root_nobody_sends_fragments_as_another_nor_writes_over_a_header() {
    let Some(mut datapath) = loaded() else { return };
    let theirs = udp((NEIGHBOUR, 7), (REMOTE, 53));
    assert_eq!(datapath.run(Program::FromPod, &piece(theirs, 1, 0, true)).action, SHOT);
    assert!(datapath.entries(&FRAGMENTS4).is_empty(), "and nothing is remembered of it");
    // The neighbour's own is there, sent while the interface of test runs was its own: the later ones are no pod's else.
    stand(&datapath, NEIGHBOUR, NEIGHBOUR_CLASS, IFINDEX);
    assert_eq!(datapath.run(Program::FromPod, &piece(theirs, 1, 0, true)).action, REDIRECT);
    stand(&datapath, NEIGHBOUR, NEIGHBOUR_CLASS, 72);
    stand(&datapath, POD, POD_CLASS, IFINDEX);
    judge_by(&datapath, &[(EGRESS, 0, None, 0)]);
    let spoofed = DropReason::InvalidSourceIp.number();
    let before = datapath.counted(spoofed);
    assert_eq!(datapath.run(Program::FromPod, &piece(theirs, 1, 185, false)).action, SHOT);
    assert_eq!(datapath.counted(spoofed), before + 1);
    let invalid = DropReason::InvalidPacket.number();
    let before = datapath.counted(invalid);
    let first = tcp((POD, 7), (REMOTE, 80), SYN);
    assert_eq!(datapath.run(Program::FromPod, &piece(first, 2, 0, true)).action, REDIRECT);
    assert_eq!(datapath.run(Program::FromPod, &piece(first, 2, 1, false)).action, SHOT);
    assert_eq!(datapath.counted(invalid), before + 1);
}

#[test]
fn root_what_is_for_no_pod_passes_and_is_not_remembered() {
    let Some(mut datapath) = loaded() else { return };
    let packet = udp((REMOTE, 7), (NODE, 53));
    for offset in [0, 1, 185] {
        let ran = datapath.run(Program::FromNet, &piece(packet, 1, offset, offset == 0));
        assert_eq!(ran.action, OK, "at {offset}");
    }
    assert!(datapath.entries(&FRAGMENTS4).is_empty());
}

#[test]
fn root_first_fragments_are_forgotten_after_their_time_and_crowd_out_only_each_other() {
    if !is_root() {
        return;
    }
    let mut datapath = Datapath::load_with(&[(&FRAGMENTS4, 64)]);
    world(&datapath);
    let packet = udp((POD, 7), (REMOTE, 53));
    assert_eq!(datapath.run(Program::FromPod, &piece(packet, 1, 0, true)).action, REDIRECT);
    let entries = datapath.entries(&FRAGMENTS4);
    assert_eq!(entries.len(), 2, "the datagram, and the latest");
    for entry in entries {
        let known = Fragmented::from_bytes(&entry.value).unwrap();
        assert!(known.seen.abs_diff(clock::seconds()) <= 2, "seconds of the same clock");
    }
    age(&datapath);
    assert_eq!(datapath.run(Program::FromPod, &piece(packet, 1, 185, false)).action, SHOT);
    // Many more than there is room for: the last one is there, the table is as large as it was.
    for id in 2..1_000 {
        assert_eq!(datapath.run(Program::FromPod, &piece(packet, id, 0, true)).action, REDIRECT);
    }
    assert_eq!(datapath.run(Program::FromPod, &piece(packet, 999, 185, false)).action, REDIRECT);
    let entries = datapath.entries(&FRAGMENTS4);
    assert!(entries.len() <= 64, "{}", entries.len());
    let keys = entries.iter().map(|entry| FragmentKey4::from_bytes(&entry.key).unwrap());
    assert!(keys.into_iter().all(|key| key.source.octets() == POD));
    assert_eq!(datapath.entries(&PENDING4).len(), 1, "flows are elsewhere");
}
