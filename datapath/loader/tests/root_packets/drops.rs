//! Each drop reason by a packet that has it; no packet is lost between passed and dropped.

use crate::{
    forwarding::arp,
    related::error,
    support::{Datapath, OK, Program, REDIRECT, SHOT, SYN, tcp, udp},
    world::{BARE, DENIED_PORT, EARLY, NEIGHBOUR, NOBODY, NODE, POD, REMOTE, WORLD, loaded, with},
};
use weft_abi::{
    drop::DropReason,
    event::{EVENT_DROP, MUTED4},
};
use weft_datapath::kernel::Maps;
use weft_verdict::related::TIME_EXCEEDED;

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
        (
            "a fragment over TCP's flags",
            FromPod,
            with(out(WORLD), |b| b[21] = 1),
            DropReason::InvalidPacket,
        ),
        (
            "a last fragment of nothing",
            FromNet,
            with(in_from(WORLD), |b| b[21] = 9),
            DropReason::FirstFragmentUnknown,
        ),
        (
            "an error about nothing",
            FromNet,
            error((WORLD, POD), TIME_EXCEEDED, &udp((POD, 7), (WORLD, 53)).bytes()),
            DropReason::UnknownFlow,
        ),
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
    // `PROPTEST_CASES` may ask for more draws.
    let mut runner = TestRunner::new(Config { cases: 1, ..Config::default() });
    for _ in 0..Config::default().cases.max(2_000) {
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
