//! SCTP: its ports are judged, and its associations have the states of connections.

use crate::{
    support::{Packet, Program, REDIRECT, SHOT, tcp},
    world::{POD, REMOTE, judge_by, loaded},
};
use weft_abi::{
    conntrack::{FLOWS4, Flow, PENDING4},
    drop::DropReason,
    metrics::NOTICE_MID_STREAM,
    policy::{DENY, EGRESS},
};
use weft_verdict::{
    connection::{State, state},
    conntrack::SCTP,
    sctp::{ABORT, INIT, INIT_ACK, SHUTDOWN, SHUTDOWN_ACK},
};

/// A packet of the pod's association, whose first chunk is of this type.
fn chunk(kind: u8) -> Packet {
    Packet { protocol: SCTP, flags: kind, ..tcp((POD, 7_000), (REMOTE, 132), 0) }
}

#[test]
fn root_an_association_is_tracked_from_its_init_to_its_shutdown() {
    const COOKIE_ECHO: u8 = 10;
    let Some(mut datapath) = loaded() else { return };
    let (from_pod, from_net) = (Program::FromPod, Program::FromNet);
    for (program, packet, expected) in [
        (from_pod, chunk(INIT), State::Opening),
        (from_net, chunk(INIT).reply(INIT_ACK), State::Answered),
        (from_pod, chunk(COOKIE_ECHO), State::Established),
        (from_net, chunk(0).reply(SHUTDOWN), State::HalfClosed),
        (from_pod, chunk(SHUTDOWN_ACK), State::Closed),
        // And another one.
        (from_pod, chunk(INIT), State::Opening),
        (from_net, chunk(INIT).reply(ABORT), State::Reset),
    ] {
        assert_eq!(datapath.run(program, &packet.bytes()).action, REDIRECT, "{packet:?}");
        let entries = [datapath.entries(&PENDING4), datapath.entries(&FLOWS4)].concat();
        let [entry] = entries.as_slice() else { panic!("{entries:?}") };
        assert_eq!(state(&Flow::from_bytes(&entry.value).unwrap()), expected, "{packet:?}");
    }
    assert_eq!(datapath.counted(NOTICE_MID_STREAM), 0);
}

#[test]
fn root_an_association_is_judged_by_its_port_and_by_who_opens_it() {
    let Some(mut datapath) = loaded() else { return };
    // What denies a port of TCP's says nothing of SCTP's.
    judge_by(&datapath, &[(EGRESS, 0, None, 0), (EGRESS, 0, Some(132), DENY)]);
    assert_eq!(datapath.run(Program::FromPod, &chunk(INIT).bytes()).action, REDIRECT);
    judge_by(&datapath, &[(EGRESS, 0, None, DENY)]);
    assert_eq!(datapath.run(Program::FromPod, &chunk(INIT).bytes()).action, SHOT);
    assert_eq!(datapath.run(Program::FromNet, &chunk(0).reply(INIT_ACK).bytes()).action, SHOT);
    // Who was called opens an association of its own, which is judged: the pod lets it in.
    assert_eq!(datapath.run(Program::FromNet, &chunk(0).reply(INIT).bytes()).action, REDIRECT);
    assert_eq!(datapath.counted(DropReason::PolicyDeny.number()), 2);
    // From the middle of one that nobody remembers.
    judge_by(&datapath, &[(EGRESS, 0, None, 0)]);
    let data = Packet { ports: [7_001, 132], ..chunk(0) };
    assert_eq!(datapath.run(Program::FromPod, &data.bytes()).action, REDIRECT);
    assert_eq!(datapath.counted(NOTICE_MID_STREAM), 1);
    let short = &data.bytes()[..14 + 20 + 12];
    assert_eq!(datapath.run(Program::FromPod, short).action, SHOT, "no chunk in it");
}
