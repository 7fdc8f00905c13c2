//! A group of members: what is committed is committed everywhere and for ever, and every proposal has one end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

mod network;

use network::{Network, id};
use std::{cell::Cell, rc::Rc};
use weft_raft::{
    Change, Config, Disk, Entry, Input, Kind, MemberId, MemberRole, MemoryDisk, Node, NodeError,
    PeerMessage, Proposal, Refusal, Role, Saved,
};

#[test]
fn a_member_alone_leads_and_orders() {
    let mut one = Network::of(1);
    assert_eq!(one.elect(), id(1));
    one.peer(id(1)).stuck_disk = true;
    let many = (0..100).map(|n| Proposal {
        ticket: n,
        command: n.to_string().into_bytes(),
        only_in: None,
    });
    one.step(id(1), Input::Propose(many.collect()));
    assert_eq!(one.peer(id(1)).disk.unsynced(), 1, "a hundred proposals share one write");
    assert!(one.peer(id(1)).committed.is_empty(), "committed before it is durable");
    one.sync(id(1));
    assert_eq!(one.peer(id(1)).committed.len(), 100);
    assert_eq!(one.peer(id(1)).applied[99], "99");
}

#[test]
fn whoever_is_asked_the_order_is_one() {
    let mut three = Network::of(3);
    three.elect();
    for member in 1..=3 {
        three.propose(id(member), 7, &format!("of {member}"));
    }
    three.run(10);
    for member in 1..=3 {
        assert!(three.peer(id(member)).committed.contains(&7), "its own, at member {member}");
        assert_eq!(three.peer(id(member)).committed.len(), 1);
    }
    let order = three.peer(id(1)).applied.clone();
    assert_eq!(order.len(), 3);
    let order: Vec<&str> = order.iter().map(String::as_str).collect();
    three.all_applied(&order);
}

#[test]
fn nobody_vouches_for_what_is_not_on_its_disk() {
    let mut three = Network::of(3);
    let leader = three.elect();
    let followers: Vec<MemberId> = (1..=3).map(id).filter(|m| *m != leader).collect();
    for follower in &followers {
        three.peer(*follower).stuck_disk = true;
    }
    three.propose(leader, 1, "a");
    three.deliver();
    assert!(three.peer(leader).committed.is_empty(), "no follower has it on its disk");
    three.sync(followers[0]);
    three.deliver();
    assert!(three.peer(leader).committed.contains(&1), "two of three have it");
    // The other one loses it, and gets it again.
    three.restart(followers[1]);
    assert!(three.peer(followers[1]).applied.is_empty());
    three.peer(followers[0]).stuck_disk = false;
    three.run(5);
    three.all_applied(&["a"]);
}

#[test]
fn a_vote_is_not_given_twice_by_who_forgot_it() {
    let mut three = Network::of(3);
    let asked = Rc::new(Cell::new(0));
    let answers = Rc::clone(&asked);
    three.loses = Box::new(move |envelope| {
        if let PeerMessage::Raft(message) = &envelope.message
            && message.kind == Kind::RequestVoteResponse
        {
            answers.set(answers.get() + 1);
        }
        false
    });
    for member in 1..=3 {
        three.peer(id(member)).stuck_disk = true;
    }
    three.run(60);
    assert_eq!(asked.get(), 0, "a vote left before it was durable");
}

#[test]
fn what_was_committed_outlives_a_power_failure_of_all() {
    let mut three = Network::of(3);
    let leader = three.elect();
    three.propose(leader, 1, "a");
    three.run(5);
    three.all_applied(&["a"]);
    for member in 1..=3 {
        three.restart(id(member));
    }
    let leader = three.elect();
    three.propose(leader, 2, "b");
    three.run(5);
    three.all_applied(&["a", "b"]);
}

#[test]
fn a_deposed_leader_orders_nothing_and_its_proposers_are_told() {
    let mut three = Network::of(3);
    let old = three.elect();
    let term = three.peer(old).role.1;
    let others: Vec<MemberId> = (1..=3).map(id).filter(|m| *m != old).collect();
    three.cut_off(&[old]);
    three.propose(old, 1, "lost");
    let new = three.elect_among(&others);
    three.propose(new, 2, "kept");
    three.run(5);
    three.heal();
    three.run(30);
    three.all_applied(&["kept"]);
    assert_eq!(three.peer(old).refused[&1], Refusal::LeaderChanged);
    // What it wanted as the leader of that term is not ordered in another, whoever leads.
    three.propose_in(old, 3, "stale", Some(term));
    three.propose_in(new, 3, "stale", Some(term));
    three.run(5);
    assert_eq!(three.peer(old).refused[&3], Refusal::NotLeading);
    assert_eq!(three.peer(new).refused[&3], Refusal::NotLeading);
    three.all_applied(&["kept"]);
}

#[test]
fn a_leader_without_a_majority_stops_leading() {
    let mut three = Network::of(3);
    let leader = three.elect();
    three.cut_off(&[leader]);
    three.run(25);
    assert!(!matches!(three.peer(leader).role.0, Role::Leader | Role::Elected));
    three.propose(leader, 1, "a");
    assert_eq!(three.peer(leader).refused[&1], Refusal::NoLeader);
}

#[test]
fn a_forwarded_proposal_is_ordered_once_however_often_it_is_said() {
    let mut three = Network::of(3);
    let leader = three.elect();
    let follower = (1..=3).map(id).find(|m| *m != leader).unwrap();
    // The first saying of anything is lost.
    let lost = Rc::new(Cell::new(0));
    let counted = Rc::clone(&lost);
    three.loses = Box::new(move |envelope| {
        let proposes = matches!(envelope.message, PeerMessage::Propose { .. });
        let lose = proposes && counted.get() < 2;
        counted.set(counted.get() + u32::from(lose));
        lose
    });
    three.propose(follower, 1, "a");
    three.propose(follower, 2, "b");
    assert_eq!(lost.get(), 2);
    three.propose(follower, 3, "c");
    three.deliver();
    assert!(three.peer(follower).committed.is_empty(), "c is not ordered before a");
    three.heal();
    three.run(12);
    three.all_applied(&["a", "b", "c"]);
    // Said again by a wire that repeats itself.
    let said = PeerMessage::Propose {
        term: three.peer(leader).role.1,
        life: 1 << 20,
        first: 2,
        commands: vec![b"b".to_vec(), b"c".to_vec()],
    };
    let again = weft_raft::Envelope { from: follower, to: leader, message: said };
    three.step(leader, Input::Message(again));
    three.run(12);
    three.all_applied(&["a", "b", "c"]);
}

#[test]
fn who_gets_a_snapshot_is_not_waited_for_with_what_was_lost() {
    let mut three = Network::of(3);
    let leader = three.elect();
    let follower = (1..=3).map(id).find(|m| *m != leader).unwrap();
    three.cut_off(&[follower]);
    three.propose(follower, 1, "lost");
    for ticket in 0..20 {
        three.propose(leader, ticket, "other");
        three.deliver();
    }
    three.compact(leader);
    three.heal();
    three.run(4);
    assert_eq!(three.peer(follower).refused[&1], Refusal::Unknown, "a snapshot came");
    three.propose(follower, 2, "again");
    three.run(12);
    assert!(three.peer(follower).committed.contains(&2), "the leader waits for the lost one");
    assert_eq!(three.peer(leader).applied.last().unwrap(), "again");
}

#[test]
fn a_new_member_gets_a_snapshot_in_parts_and_then_votes() {
    let mut three = Network::of(3);
    let leader = three.elect();
    for ticket in 0..50 {
        three.propose(leader, ticket, &format!("command {ticket}"));
    }
    three.run(5);
    for member in 1..=3 {
        three.compact(id(member));
        assert!(three.peer(id(member)).disk.recover().unwrap().unwrap().entries.is_empty());
    }
    let parts = Rc::new(Cell::new(0));
    let counted = Rc::clone(&parts);
    // Every fifth part is lost.
    three.loses = Box::new(move |envelope| {
        let part = matches!(envelope.message, PeerMessage::Chunk(_));
        counted.set(counted.get() + u32::from(part));
        part && counted.get().is_multiple_of(5)
    });
    three.step(leader, Input::Change(100, Change::AddLearner(id(4), "10.0.0.4:4901".to_owned())));
    three.run(3);
    assert!(three.peer(leader).committed.contains(&100));
    three.step(leader, Input::Change(101, Change::Promote(id(4))));
    let behind = three.peer(leader).refused[&101].clone();
    assert!(behind.to_string().contains("is behind"), "{behind}");
    three.start(id(4), MemoryDisk::default(), 1);
    three.run(200);
    assert!(parts.get() > 20, "{}", parts.get());
    assert_eq!(three.peer(id(4)).applied.len(), 50);
    three.step(leader, Input::Change(102, Change::Promote(id(4))));
    three.run(5);
    let group = three.peer(id(4)).node.status().group;
    assert_eq!(group.members[&id(4)].role, MemberRole::Voter);
    assert_eq!(group.members[&id(4)].address, "10.0.0.4:4901");
    // With one of the first three gone for good the group goes on, and without it it is three again.
    let gone = (1..=3).map(id).find(|m| *m != leader).unwrap();
    three.step(leader, Input::Change(103, Change::Remove(gone)));
    three.run(5);
    three.peers.remove(&gone);
    three.propose(leader, 104, "after");
    three.run(5);
    for peer in three.peers.values() {
        assert_eq!(peer.applied.last().unwrap(), "after");
        assert_eq!(peer.node.status().group.members.len(), 3);
    }
    // Its group is on its disk.
    three.restart(id(4));
    three.run(5);
    assert_eq!(three.peer(id(4)).node.status().group.members.len(), 3);
}

#[test]
fn changes_of_the_group_that_cannot_be_are_refused() {
    let mut three = Network::of(3);
    let leader = three.elect();
    let follower = (1..=3).map(id).find(|m| *m != leader).unwrap();
    let cases = [
        (leader, Change::AddLearner(follower, String::new()), "a member already"),
        (leader, Change::AddLearner(id(0), String::new()), "no member's number"),
        (leader, Change::Promote(id(9)), "no such member"),
        (leader, Change::Remove(id(9)), "no such member"),
        (leader, Change::Remove(leader), "it leads"),
        (follower, Change::Remove(leader), "does not lead"),
    ];
    for (ticket, (at, change, why)) in (1..).zip(cases) {
        three.step(at, Input::Change(ticket, change));
        let refusal = three.peer(at).refused[&ticket].to_string();
        assert!(refusal.contains(why), "{refusal}");
    }
    let mut one = Network::of(1);
    one.elect();
    one.step(id(1), Input::Change(1, Change::Remove(id(1))));
    assert!(one.peer(id(1)).refused.contains_key(&1));
}

#[test]
fn a_read_sees_what_was_committed_before_it() {
    let mut three = Network::of(3);
    let leader = three.elect();
    let follower = (1..=3).map(id).find(|m| *m != leader).unwrap();
    // The follower learns late what is committed.
    three.propose(leader, 1, "a");
    three.step(follower, Input::Read(5));
    three.deliver();
    three.run(3);
    assert!(three.peer(follower).reads.contains(&5));
    assert_eq!(three.peer(follower).applied, ["a"]);
    // A leader that may have been replaced answers none.
    three.cut_off(&[leader]);
    three.step(leader, Input::Read(6));
    three.run(60);
    assert!(three.peer(leader).reads.is_empty());
    three.heal();
    three.run(40);
    assert!(three.peer(leader).reads.contains(&6), "it is asked again");
}

/// It goes by what it knew before the entry, and may be cut off so for as long as it likes.
#[test]
fn who_has_an_entry_and_not_the_word_that_it_is_committed_is_waited_for() {
    let mut three = Network::of(3);
    let leader = three.elect();
    three.run(5);
    let follower = (1..=3).map(id).find(|m| *m != leader).unwrap();
    let entry = three.peer(leader).node.status().last + 1;
    three.loses = Box::new(move |envelope| match &envelope.message {
        PeerMessage::Raft(message) => envelope.to == follower && message.commit >= entry,
        PeerMessage::Propose { .. } | PeerMessage::Chunk(_) | PeerMessage::ChunkTaken { .. } => {
            false
        }
    });
    three.propose(leader, 1, "a");
    three.deliver();
    let status = three.peer(leader).node.status();
    assert!(status.committed >= entry && status.matched[&follower] >= entry, "{status:?}");
    assert!(status.everywhere() < entry, "{status:?}");
    three.heal();
    three.run(5);
    assert!(three.peer(leader).node.status().everywhere() >= entry);
    assert_eq!(three.peer(follower).node.status().everywhere(), 0, "it does not lead");
}

#[test]
fn leadership_is_handed_over() {
    let mut three = Network::of(3);
    let leader = three.elect();
    let next = (1..=3).map(id).rfind(|m| *m != leader).unwrap();
    three.step(leader, Input::Transfer(Some(next)));
    three.deliver();
    assert_eq!(three.peer(next).role.0, Role::Leader, "at once, without a time-out");
    three.step(next, Input::Transfer(None));
    three.deliver();
    assert_ne!(three.elect(), next);
}

#[test]
fn a_log_that_is_not_what_it_was_is_noticed() {
    let mut three = Network::of(3);
    let leader = three.elect();
    three.propose(leader, 1, "a");
    three.run(5);
    let follower = (1..=3).map(id).find(|m| *m != leader).unwrap();
    // Its disk is that of the first day.
    let group = three.peer(leader).node.status().group;
    let mut disk = MemoryDisk::default();
    disk.write(&[Saved::founding(group, [].into()).as_write()]).unwrap();
    three.start(follower, disk, 2);
    let noticed = (0..10).find_map(|_| {
        three.step(leader, Input::Tick);
        let to_it: Vec<_> = three.wire.drain(..).filter(|e| e.to == follower).collect();
        to_it.into_iter().find_map(|e| three.peer(follower).node.step(Input::Message(e)).err())
    });
    assert!(matches!(noticed, Some(NodeError::LostLog { .. })), "{noticed:?}");
    // One with a hole does not even begin.
    let body = weft_raft::Body::Noop;
    let saved = Saved { entries: vec![Entry { index: 9, term: 1, body }], ..Saved::default() };
    let begun = Node::new(Config::new(id(1), 1, 1), saved);
    assert!(matches!(begun.err(), Some(NodeError::Gap { .. })));
}

#[test]
fn who_still_writes_a_snapshot_does_not_stand() {
    let mut three = Network::of(3);
    let leader = three.elect();
    let behind = (1..=3).map(id).find(|m| *m != leader).unwrap();
    three.cut_off(&[behind]);
    three.propose(leader, 1, "a");
    three.run(2);
    three.compact(leader);
    three.heal();
    three.peer(behind).stuck_disk = true;
    three.run(5);
    assert_eq!(three.peer(behind).applied, ["a"], "it has the snapshot, and not on its disk");
    three.cut_off(&[behind]);
    three.run(60);
    assert!(matches!(three.peer(behind).role.0, Role::Follower(_)));
    three.heal();
    three.peer(behind).stuck_disk = false;
    three.sync(behind);
    three.elect();
    three.propose(behind, 2, "b");
    three.run(10);
    three.all_applied(&["a", "b"]);
}

#[test]
fn who_is_left_elects_one_at_the_first_attempt_and_soon() {
    for count in [3, 5] {
        let mut group = Network::of(count);
        let mut leader = group.elect();
        for round in 0..40 {
            let before = group.peer(leader).role.1;
            let left: Vec<MemberId> = (1..=count).map(id).filter(|m| *m != leader).collect();
            group.cut_off(&[leader]);
            // Ten ticks without a leader, and the turn of the one after who is gone.
            group.run(10 + 10 / usize::try_from(count).unwrap() + 1);
            let next = left.iter().find(|m| group.peers[*m].role == (Role::Leader, before + 1));
            let next = *next.unwrap_or_else(|| panic!("round {round} of {count}: nobody leads"));
            group.heal();
            leader = group.elect();
            assert_eq!(leader, next, "who was away comes back quietly");
        }
    }
}

/// Clocks tick at different moments, so of two that heard a leader last at one time one counts a tick less.
#[test]
fn who_stands_first_is_not_refused_by_whose_clock_ticks_later() {
    let mut three = Network::of(3);
    let mut leader = three.elect();
    for round in 0..40 {
        let before = three.peer(leader).role.1;
        let mut left: Vec<MemberId> = (1..=3).map(id).filter(|m| *m != leader).collect();
        left.rotate_left(round % 2);
        // The sign of life that both hear.
        three.run(2);
        three.cut_off(&[leader]);
        // Ten ticks without a leader, and the turn of the one after who is gone.
        for _ in 0..14 {
            for member in &left {
                three.step(*member, Input::Tick);
                three.deliver();
            }
        }
        let next = left.iter().find(|m| three.peers[*m].role == (Role::Leader, before + 1));
        let next = *next.unwrap_or_else(|| panic!("round {round}: nobody leads"));
        three.heal();
        leader = three.elect();
        assert_eq!(leader, next, "who was away comes back quietly");
    }
}

#[test]
fn the_same_inputs_give_the_same_messages() {
    let run = || {
        let mut five = Network::of(5);
        let mut trace = Vec::new();
        for round in 0..6 {
            let leader = five.elect_among(&(1..=5).map(id).collect::<Vec<_>>());
            trace.push((leader, five.peer(leader).role, five.sent));
            five.propose(leader, round, "x");
            five.cut_off(&[leader]);
            five.run(60);
            five.heal();
        }
        trace
    };
    assert_eq!(run(), run());
}
