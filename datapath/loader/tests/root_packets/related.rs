//! ICMP errors: each goes where its flow's packets go, whoever reports it; what belongs to no flow is dropped.

use crate::{
    support::{
        Datapath, IFINDEX, OK, Packet, Program, REDIRECT, SHOT, SYN, checksum, echo, tcp, udp,
    },
    world::{
        NEIGHBOUR, NEIGHBOUR_CLASS, NODE, POD, POD_CLASS, REMOTE, WORLD, judge_by, loaded, stand,
    },
};
use weft_abi::{
    conntrack::{FLOWS4, PENDING4},
    drop::DropReason,
    policy::{DENY, EGRESS, INGRESS},
};
use weft_verdict::related::{PARAMETER_PROBLEM, TIME_EXCEEDED, UNREACHABLE};

/// A router that no policy knows.
const ROUTER: [u8; 4] = [203, 0, 113, 9];
/// Where the quoted packet begins.
const QUOTED: usize = 14 + 20 + 8;

/// An error between two, of a type, about a packet: its IPv4 header and eight bytes more.
pub(crate) fn error((from, to): ([u8; 4], [u8; 4]), kind: u8, about: &[u8]) -> Vec<u8> {
    let outer = Packet { flags: kind, ..echo(from, to, 0, 0) };
    let mut bytes = outer.bytes();
    bytes.truncate(QUOTED);
    let quoted = usize::from(about[14] & 0x0f) * 4 + 8;
    bytes.extend(&about[14..14 + quoted]);
    bytes
}

/// "Fragmentation needed", and the MTU of the next hop (RFC 1191).
fn too_long(ends: ([u8; 4], [u8; 4]), mtu: u16, about: &[u8]) -> Vec<u8> {
    let mut bytes = error(ends, UNREACHABLE, about);
    bytes[35] = 4;
    bytes[40..42].copy_from_slice(&mtu.to_be_bytes());
    bytes
}

/// The pod lets nobody in, and sends to all.
fn closed(datapath: &Datapath) {
    judge_by(datapath, &[(EGRESS, 0, None, 0), (INGRESS, 0, None, DENY)]);
}

fn counted(datapath: &Datapath, reason: DropReason) -> u64 {
    datapath.counted(reason.number())
}

#[test]
fn root_whoever_forwards_a_packet_may_report_it_to_a_pod_that_lets_nobody_in() {
    let Some(mut datapath) = loaded() else { return };
    closed(&datapath);
    for sent in
        [udp((POD, 7), (REMOTE, 53)), tcp((POD, 7), (WORLD, 80), SYN), echo(POD, REMOTE, 8, 9)]
    {
        let about = sent.bytes();
        datapath.run(Program::FromPod, &about);
        let flows = datapath.entries(&PENDING4);
        let reports = |from: [u8; 4]| {
            let ends = (from, POD);
            [
                error(ends, UNREACHABLE, &about),
                error(ends, TIME_EXCEEDED, &about),
                error(ends, PARAMETER_PROBLEM, &about),
                too_long(ends, 1_300, &about),
            ]
        };
        for report in [sent.to, ROUTER].into_iter().flat_map(reports) {
            let ran = datapath.run(Program::FromNet, &report);
            let kind = &report[34..36];
            assert_eq!((ran.action, ran.packet[22]), (REDIRECT, 63), "{kind:?} about {sent:?}");
            assert_eq!(checksum(&ran.packet[14..34]), 0);
            assert_eq!(ran.packet[34..], report[34..], "what it says, and what it quotes");
        }
        for report in reports(NODE) {
            let kind = &report[34..36];
            assert_eq!(datapath.run(Program::ToPod, &report).action, OK, "{kind:?}: {sent:?}");
        }
        assert_eq!(datapath.entries(&PENDING4), flows, "an error changes no flow");
    }
    // Nothing else comes from the router.
    assert_eq!(datapath.run(Program::FromNet, &udp((ROUTER, 53), (POD, 7)).bytes()).action, SHOT);
}

#[test]
fn root_a_pod_reports_what_was_sent_to_it_and_nothing_else() {
    let Some(mut datapath) = loaded() else { return };
    // From another node, from this node's stack, and from the neighbour: each is told.
    let called = udp((REMOTE, 7), (POD, 53));
    assert_eq!(datapath.run(Program::FromNet, &called.bytes()).action, REDIRECT);
    let report = error((POD, REMOTE), UNREACHABLE, &called.bytes());
    assert_eq!(datapath.run(Program::FromPod, &report).action, REDIRECT);
    let probed = udp((NODE, 7), (POD, 53));
    assert_eq!(datapath.run(Program::ToPod, &probed.bytes()).action, OK);
    let report = error((POD, NODE), UNREACHABLE, &probed.bytes());
    assert_eq!(datapath.run(Program::FromPod, &report).action, OK);

    let sent = udp((POD, 7), (NEIGHBOUR, 53));
    assert_eq!(datapath.run(Program::FromPod, &sent.bytes()).action, REDIRECT);
    stand(&datapath, NEIGHBOUR, NEIGHBOUR_CLASS, IFINDEX);
    stand(&datapath, POD, POD_CLASS, 72);
    let report = error((NEIGHBOUR, POD), UNREACHABLE, &sent.bytes());
    assert_eq!(datapath.run(Program::FromPod, &report).action, REDIRECT);
    // The pod's own exchange with the remote is none of the neighbour's business.
    let of_others = error((NEIGHBOUR, REMOTE), UNREACHABLE, &called.bytes());
    assert_eq!(datapath.run(Program::FromPod, &of_others).action, SHOT);
    assert_eq!(counted(&datapath, DropReason::InvalidPacket), 1);
    let as_another = error((POD, REMOTE), UNREACHABLE, &called.bytes());
    assert_eq!(datapath.run(Program::FromPod, &as_another).action, SHOT);
    assert_eq!(counted(&datapath, DropReason::InvalidSourceIp), 1);
}

#[test]
fn root_an_error_about_no_flow_or_to_another_than_the_sender_is_dropped() {
    let Some(mut datapath) = loaded() else { return };
    let sent = udp((POD, 7), (REMOTE, 53));
    let other = udp((POD, 8), (REMOTE, 53));
    assert_eq!(datapath.run(Program::FromPod, &sent.bytes()).action, REDIRECT);
    let with = |change: fn(&mut Vec<u8>)| {
        let mut bytes = error((ROUTER, POD), TIME_EXCEEDED, &sent.bytes());
        change(&mut bytes);
        bytes
    };
    use DropReason::{InvalidPacket, InvalidSourceIp, Truncated, UnknownFlow};
    use Program::{FromNet, FromPod, ToPod};
    let about_other = error((ROUTER, POD), UNREACHABLE, &other.bytes());
    for (name, program, bytes, reason) in [
        ("of another port", FromNet, about_other, UnknownFlow),
        ("the same, from the node", ToPod, error((NODE, POD), 3, &other.bytes()), UnknownFlow),
        ("of a pod", FromPod, error((POD, REMOTE), 3, &other.reply(0).bytes()), UnknownFlow),
        (
            "to another than the sender",
            FromNet,
            error((ROUTER, NEIGHBOUR), 3, &sent.bytes()),
            InvalidPacket,
        ),
        ("of ours, from elsewhere", FromNet, error((NODE, POD), 3, &sent.bytes()), InvalidSourceIp),
        ("about a later fragment", FromNet, with(|b| b[QUOTED + 7] = 1), UnknownFlow),
        ("about GRE", FromNet, with(|b| b[QUOTED + 9] = 47), UnknownFlow),
        ("about IP version 6", FromNet, with(|b| b[QUOTED] = 0x65), InvalidPacket),
        ("about a header of 16 bytes", FromNet, with(|b| b[QUOTED] = 0x44), InvalidPacket),
        ("that quotes no ports", FromNet, with(|b| b.truncate(QUOTED + 22)), Truncated),
        ("that quotes nothing", FromNet, with(|b| b.truncate(QUOTED)), Truncated),
    ] {
        let before = counted(&datapath, reason);
        assert_eq!(datapath.run(program, &bytes).action, SHOT, "{name}");
        assert_eq!(counted(&datapath, reason), before + 1, "{name}: {reason:?}");
    }
    // To the node itself it is none of ours.
    let to_node = error((ROUTER, NODE), 3, &udp((NODE, 7), (REMOTE, 53)).bytes());
    assert_eq!(datapath.run(FromNet, &to_node).action, OK);
    assert_eq!(datapath.entries(&PENDING4).len(), 1, "none of them opened a flow");
}

#[test]
fn root_an_error_is_judged_as_its_flow_is_now() {
    let Some(mut datapath) = loaded() else { return };
    let sent = tcp((POD, 7), (REMOTE, 80), SYN);
    assert_eq!(datapath.run(Program::FromPod, &sent.bytes()).action, REDIRECT);
    let answer = sent.reply(SYN | 16);
    assert_eq!(datapath.run(Program::FromNet, &answer.bytes()).action, REDIRECT);
    let report = error((ROUTER, POD), UNREACHABLE, &sent.bytes());
    // Of another epoch it is judged again; refused, both it and the flow stay so.
    closed(&datapath);
    assert_eq!(datapath.run(Program::FromNet, &report).action, REDIRECT);
    judge_by(&datapath, &[(EGRESS, 0, Some(80), DENY), (EGRESS, 0, None, 0)]);
    let denied = DropReason::PolicyDeny;
    for times in 1..3 {
        assert_eq!(datapath.run(Program::FromNet, &report).action, SHOT);
        assert_eq!(counted(&datapath, denied), times);
    }
    assert_eq!(datapath.run(Program::FromNet, &answer.bytes()).action, SHOT);
    closed(&datapath);
    assert_eq!(datapath.run(Program::FromNet, &report).action, REDIRECT);
    assert_eq!((datapath.entries(&FLOWS4).len() + datapath.entries(&PENDING4).len()), 1);
}

#[test]
fn root_options_in_either_header_hide_no_flow() {
    let Some(mut datapath) = loaded() else { return };
    let sent = udp((POD, 7), (REMOTE, 53));
    assert_eq!(datapath.run(Program::FromPod, &sent.bytes()).action, REDIRECT);
    let mut quoted = sent.bytes();
    quoted.splice(34..34, [1; 4]);
    quoted[14] = 0x46;
    let mut report = error((ROUTER, POD), UNREACHABLE, &quoted);
    assert_eq!(datapath.run(Program::FromNet, &report).action, REDIRECT);
    report.splice(34..34, [1; 8]);
    report[14] = 0x47;
    assert_eq!(datapath.run(Program::FromNet, &report).action, REDIRECT);
}
