//! Flows as they live: what is passed, refused, counted and told, and what is left in the tables.

use crate::{
    support::{
        ACK, Datapath, FIN, IFINDEX, OK, Packet, Program, REDIRECT, RST, SHOT, SYN, echo, is_root,
        tcp, udp,
    },
    world::{
        DENIED_PORT, NEIGHBOUR, NEIGHBOUR_CLASS, NODE, POD, POD_CLASS, REMOTE, REMOTE_IDENTITY,
        WORLD, judge_by, loaded, stand, world,
    },
};
use weft_abi::{
    conntrack::{FLOWS4, Flow, PENDING4},
    drop::DropReason,
    endpoint::ENDPOINTS,
    event::{EVENT_ALLOWED, EVENT_DROP},
    ipcache::{ADDRESSES4, PREFIXES4},
    map::MapSpec,
    metrics::{NOTICE_FLOWS_FULL, NOTICE_MID_STREAM},
    policy::{DENY, EGRESS, INGRESS},
};
use weft_datapath::{
    kernel::{Maps, RawEntry},
    lru,
};
use weft_verdict::connection::{State, state};

#[test]
fn root_a_flow_lives_from_its_first_packet_to_its_refusal() {
    let Some(mut datapath) = loaded() else { return };
    let syn = tcp((POD, 40_000), (REMOTE, 80), SYN);
    datapath.events();
    assert_eq!(datapath.run(Program::FromPod, &syn.bytes()).action, REDIRECT);
    assert_eq!(datapath.entries(&PENDING4).len(), 1);
    assert_eq!(datapath.run(Program::FromNet, &syn.reply(SYN | ACK).bytes()).action, REDIRECT);
    let tables =
        |datapath: &Datapath| (datapath.entries(&PENDING4).len(), datapath.entries(&FLOWS4).len());
    assert_eq!(tables(&datapath), (1, 0), "whether the opener hears it is not known yet");
    let data = tcp((POD, 40_000), (REMOTE, 80), ACK);
    for _ in 0..3 {
        assert_eq!(datapath.run(Program::FromPod, &data.bytes()).action, REDIRECT);
        assert_eq!(tables(&datapath), (0, 1));
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
    let refused = (EVENT_DROP, DropReason::PolicyDeny.number(), EGRESS);
    assert_eq!(kinds, [refused; 2], "once a second for what either end sends");

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
    assert_eq!(tables(&datapath), (0, 1), "in the place of the one that ended");
    assert_eq!(state_of(&datapath, &FLOWS4), [State::Opening]);
}

#[test]
fn root_a_refused_flow_remembers_whose_policy_refused_it() {
    let Some(mut datapath) = loaded() else { return };
    let syn = tcp((REMOTE, 40_000), (POD, 80), SYN);
    datapath.run(Program::FromNet, &syn.bytes());
    datapath.run(Program::FromPod, &syn.reply(SYN | ACK).bytes());
    datapath.events();
    judge_by(&datapath, &[(EGRESS, 0, None, 0), (INGRESS, REMOTE_IDENTITY, Some(80), DENY)]);
    // The first is judged; what the other end sends finds what was said of it.
    assert_eq!(datapath.run(Program::FromNet, &Packet { flags: ACK, ..syn }.bytes()).action, SHOT);
    assert_eq!(datapath.run(Program::FromPod, &syn.reply(ACK).bytes()).action, SHOT);
    let refused = (EVENT_DROP, DropReason::PolicyDeny.number(), INGRESS);
    assert_eq!(datapath.events(), [refused; 2]);
}

#[test]
fn root_an_established_packet_asks_nobody_but_its_flow() {
    let Some(mut datapath) = loaded() else { return };
    let (syn, data) =
        (tcp((POD, 40_000), (REMOTE, 80), SYN), tcp((POD, 40_000), (REMOTE, 80), ACK));
    let both = |datapath: &mut Datapath, packet: Packet, answer: u8| {
        let there = datapath.run(Program::FromPod, &packet.bytes()).action;
        (there, datapath.run(Program::FromNet, &packet.reply(answer).bytes()).action)
    };
    assert_eq!(both(&mut datapath, syn, SYN | ACK), (REDIRECT, REDIRECT));
    // Whoever else it could ask is gone, and nobody has said that anything changed.
    for map in [&ENDPOINTS, &ADDRESSES4, &PREFIXES4] {
        let keys: Vec<_> = datapath.entries(map).into_iter().map(|entry| entry.key).collect();
        datapath.maps.delete(map, &keys.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        assert_eq!(datapath.entries(map).len(), 0, "{}", map.name);
    }
    datapath.maps.class_remove(&[POD_CLASS, NEIGHBOUR_CLASS]).unwrap();
    assert_eq!(both(&mut datapath, data, ACK), (REDIRECT, REDIRECT));
    datapath.maps.bump_epoch().unwrap();
    // Now everyone is asked again: nobody is behind that interface, and the address is no pod's of this node.
    assert_eq!(both(&mut datapath, data, ACK), (SHOT, OK));
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
        if answer & RST == 0 {
            datapath.run(Program::FromPod, &Packet { flags: ACK, ..syn }.bytes());
        }
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
fn root_a_full_table_of_the_unanswered_refuses_nobody_and_leaves_the_answered_alone() {
    const ROOM: u32 = 1024;
    if !is_root() {
        return;
    }
    let mut datapath = Datapath::load_with(&[(&PENDING4, ROOM)]);
    world(&datapath);
    let syn = |port: u16| tcp((POD, port), (REMOTE, 80), SYN);
    let (first, ack) = (syn(1), tcp((POD, 1), (REMOTE, 80), ACK));
    datapath.run(Program::FromPod, &first.bytes());
    datapath.run(Program::FromNet, &first.reply(SYN | ACK).bytes());
    datapath.run(Program::FromPod, &ack.bytes());
    for port in 2..5_000 {
        assert_eq!(datapath.run(Program::FromPod, &syn(port).bytes()).action, REDIRECT, "{port}");
    }
    let entries = datapath.entries(&PENDING4).len();
    assert!(entries <= ROOM as usize && lru::is_full(entries, ROOM), "{entries}");
    // The answer to one that was pushed out is a packet that nobody expects, judged by itself.
    assert_eq!(datapath.counted(NOTICE_MID_STREAM), 0);
    assert_eq!(datapath.run(Program::FromNet, &syn(2).reply(SYN | ACK).bytes()).action, REDIRECT);
    assert_eq!(datapath.counted(NOTICE_MID_STREAM), 1);
    // To who was answered before it is as if nothing had been.
    assert_eq!(datapath.run(Program::FromNet, &first.reply(ACK).bytes()).action, REDIRECT);
    assert_eq!(datapath.counted(NOTICE_MID_STREAM), 1);
    assert_eq!(datapath.entries(&FLOWS4).len(), 1);
}

#[test]
fn root_a_packet_from_the_middle_of_a_connection_is_judged_and_counted() {
    let Some(mut datapath) = loaded() else { return };
    let data = tcp((POD, 40_000), (REMOTE, 80), ACK);
    assert_eq!(datapath.run(Program::FromPod, &data.bytes()).action, REDIRECT);
    assert_eq!(datapath.counted(NOTICE_MID_STREAM), 1);
    assert_eq!(datapath.run(Program::FromPod, &data.bytes()).action, REDIRECT);
    assert_eq!(datapath.counted(NOTICE_MID_STREAM), 1, "it has a flow now");
    // A reset of what nobody remembers is judged, and leaves nothing.
    let reset = tcp((POD, 40_001), (REMOTE, 80), RST);
    assert_eq!(datapath.run(Program::FromPod, &reset.bytes()).action, REDIRECT);
    let denied = tcp((POD, 40_001), (REMOTE, DENIED_PORT), RST);
    assert_eq!(datapath.run(Program::FromPod, &denied.bytes()).action, SHOT);
    assert_eq!(datapath.counted(NOTICE_MID_STREAM), 3);
    assert_eq!(datapath.entries(&PENDING4).len(), 1);
}

/// Who calls from addresses that are not its own never hears an answer.
#[test]
fn root_a_flood_of_openings_that_are_answered_takes_no_room_from_what_lives() {
    let Some(mut datapath) = loaded() else { return };
    for number in 0..200_u16 {
        let address = [198, 51, 100, u8::try_from(number % 200).unwrap()];
        let syn = tcp((address, 40_000), (POD, 80), SYN);
        assert_eq!(datapath.run(Program::FromNet, &syn.bytes()).action, REDIRECT);
        assert_eq!(datapath.run(Program::FromPod, &syn.reply(SYN | ACK).bytes()).action, OK);
    }
    assert_eq!((datapath.entries(&FLOWS4).len(), datapath.entries(&PENDING4).len()), (0, 200));
}

/// What an entry says its connection's state is.
fn state_of(datapath: &Datapath, map: &MapSpec) -> Vec<State> {
    let read = |entry: RawEntry| state(&Flow::from_bytes(&entry.value).unwrap());
    datapath.entries(map).into_iter().map(read).collect()
}

#[test]
fn root_a_reset_that_its_sender_outlives_ends_nothing() {
    let Some(mut datapath) = loaded() else { return };
    let syn = tcp((POD, 40_000), (REMOTE, 80), SYN);
    let with = |flags: u8| Packet { flags, ..syn };
    let (from_pod, from_net) = (Program::FromPod, Program::FromNet);
    for (program, packet, state) in [
        (from_pod, syn, (vec![State::Opening], vec![])),
        (from_net, syn.reply(SYN | ACK), (vec![State::Answered], vec![])),
        (from_pod, with(ACK), (vec![], vec![State::Established])),
        (from_net, syn.reply(RST), (vec![], vec![State::Reset])),
        (from_pod, with(ACK), (vec![], vec![State::Reset])),
        (from_net, syn.reply(ACK), (vec![], vec![State::Established])),
        (from_net, syn.reply(FIN | ACK), (vec![], vec![State::HalfClosed])),
        (from_pod, with(FIN | ACK), (vec![], vec![State::Closed])),
        (from_net, syn.reply(ACK), (vec![], vec![State::Closed])),
    ] {
        assert_eq!(datapath.run(program, &packet.bytes()).action, REDIRECT, "{packet:?}");
        let states = (state_of(&datapath, &PENDING4), state_of(&datapath, &FLOWS4));
        assert_eq!(states, state, "after {packet:?}");
    }
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
