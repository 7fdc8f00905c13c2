//! The store and the log: what they are founded with, and what becomes of a change when one of them fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

mod support;

use std::{collections::BTreeMap, time::Duration};
use support::{
    PATIENCE, Running, World, ask_within, block_on,
    faults::{Call, Fault, Faults},
    node, pod,
};
use weft_api::{
    Failure, FailureKind,
    operator::{Answer, Request},
    transport::{Client, Options},
};
use weft_raft::Disk;
use weft_store::{Batch, FileDisk, FileStore, Store};
use weft_types::{Identity, LabelSet, Object, Revision};

fn identities(operator: &Running) -> BTreeMap<u32, Vec<String>> {
    match operator.ask(Request::Identities) {
        Ok(Answer::Identities(rows)) => {
            let numbers: BTreeMap<u32, Vec<String>> =
                rows.into_iter().map(|row| (row.identity, row.labels)).collect();
            let mut sets: Vec<&Vec<String>> = numbers.values().collect();
            sets.sort();
            sets.dedup();
            assert_eq!(sets.len(), numbers.len(), "a label set has two numbers");
            numbers
        }
        other => panic!("{other:?}"),
    }
}

fn objects(operator: &Running) -> Vec<Object> {
    match operator.ask(Request::Objects) {
        Ok(Answer::Objects(objects)) => objects,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cluster_is_what_it_was_after_a_restart() {
    let world = World::new();
    let operator = world.start();
    operator.apply(vec![node(1), pod("web-0", "web", 1)]);
    let (revision, _) = operator.delete(vec![node(1)]);
    let before = (identities(&operator), objects(&operator));
    operator.stop();
    let operator = world.start();
    assert_eq!(operator.revision(), Revision(revision.0 + 1), "its first entry as a leader");
    assert_eq!((identities(&operator), objects(&operator)), before);
}

#[test]
fn a_lost_log_founds_the_next_generation_from_the_store() {
    let world = World::new();
    let operator = world.start();
    let (old, _) = operator.apply(vec![node(1), pod("web-0", "web", 1), pod("db-0", "db", 1)]);
    operator.delete(vec![pod("db-0", "db", 1)]);
    let before = (identities(&operator), objects(&operator));
    operator.stop();
    std::fs::remove_file(world.log()).unwrap();
    let operator = world.start();
    assert_eq!(operator.revision().generation(), 2);
    assert_eq!((identities(&operator), objects(&operator)), before, "no number changes");
    block_on(async {
        // An agent of the generation before follows.
        let mut agent = world.agent(operator.address, "node1", Some(old)).await;
        agent.reach(operator.revision()).await;
        assert_eq!((agent.snapshots, agent.identities().len()), (1, 2));
    });
    // Numbers go on after those that there were.
    operator.apply(vec![pod("new-0", "new", 1)]);
    assert_eq!(identities(&operator).len(), 3);
    operator.stop();
    let operator = world.start();
    // The founding, a leader's first, the pod, a leader's first.
    assert_eq!(operator.revision(), Revision::new(2, 4));
}

#[test]
fn another_clusters_store_is_refused() {
    let world = World::new();
    world.start().stop();
    let config = weft_operator::config::Config { cluster: "green".to_owned(), ..world.config() };
    let refused = Running::start(config).err().unwrap().to_string();
    assert!(refused.contains("green") && refused.contains("blue"), "{refused}");
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let world = World::new();
    world.start().stop();
    let old_log = std::fs::read(world.log()).unwrap();
    // The store is of the next generation, the log of the first.
    std::fs::remove_file(world.log()).unwrap();
    world.start().stop();
    std::fs::write(world.log(), &old_log).unwrap();
    let refused = Running::start(world.config()).err().unwrap().to_string();
    assert!(refused.contains("generation 1") && refused.contains("generation 2"), "{refused}");
    // The log is of the same generation, from before the last start: what came after it would be ordered anew.
    std::fs::remove_file(world.log()).unwrap();
    world.start().stop();
    let old_log = std::fs::read(world.log()).unwrap();
    world.start().stop();
    std::fs::write(world.log(), &old_log).unwrap();
    for _ in 0..3 {
        let refused = Running::start(world.config()).err().unwrap().to_string();
        assert!(refused.contains("raft.redb is an older copy"), "{refused}");
    }
    // A log without a store.
    std::fs::remove_file(world.store()).unwrap();
    let refused = Running::start(world.config()).err().unwrap().to_string();
    assert!(refused.contains("raft.redb"), "{refused}");
    // A store that is older than the log, by a number or by an object alone.
    std::fs::remove_file(world.log()).unwrap();
    world.start().stop();
    for change in [pod("web-0", "web", 1), pod("web-1", "web", 1)] {
        let old_store = std::fs::read(world.store()).unwrap();
        let operator = world.start();
        operator.apply(vec![change]);
        let before = objects(&operator);
        operator.stop();
        let store = std::fs::read(world.store()).unwrap();
        std::fs::write(world.store(), &old_store).unwrap();
        for _ in 0..2 {
            let refused = Running::start(world.config()).err().unwrap().to_string();
            assert!(refused.contains("the store is an older copy"), "{refused}");
        }
        std::fs::write(world.store(), &store).unwrap();
        let operator = world.start();
        assert_eq!(objects(&operator), before);
        operator.stop();
    }
}

#[test]
fn the_log_of_an_older_release_is_not_passed_over() {
    let world = World::new();
    world.start().stop();
    let old = world.dir.path().join("state/log.redb");
    std::fs::rename(world.log(), &old).unwrap();
    let refused = Running::start(world.config()).err().unwrap().to_string();
    assert!(refused.contains("log.redb") && refused.contains("Remove it"), "{refused}");
    std::fs::remove_file(old).unwrap();
    assert_eq!(world.start().revision().generation(), 2);
}

#[test]
fn a_record_without_a_log_entry_is_adopted() {
    let world = World::new();
    let operator = world.start();
    operator.apply(vec![node(1)]);
    operator.stop();
    let mut store = FileStore::open(&world.store()).unwrap();
    let (_, fence) = store.founded().unwrap().unwrap();
    let record = Batch {
        identities: vec![(Identity(300), LabelSet::new())],
        put: vec![pod("web-0", "web", 1)],
        ..Batch::default()
    };
    store.write(fence, &record).unwrap();
    drop(store);
    let operator = world.start();
    assert!(identities(&operator).contains_key(&300));
    assert!(objects(&operator).contains(&pod("web-0", "web", 1)));
    // The pod's own label set had no number; the next change gives it one.
    operator.apply(vec![node(2)]);
    assert!(identities(&operator).contains_key(&301));
}

#[test]
fn a_store_that_does_not_answer_once_is_asked_again() {
    let world = World::new();
    let faults = Faults::default();
    faults.plan(Call::StoreRead, 0, Fault::Fail);
    let operator = Running::start_with(world.config(), faults.clone()).unwrap();
    operator.apply(vec![node(1)]);
    operator.stop();
    faults.plan(Call::StoreRead, 0, Fault::FailForGood);
    let refused = Running::start_with(world.config(), faults).err().unwrap().to_string();
    assert!(refused.contains("do what a test forbids: a test"), "{refused}");
}

#[test]
fn the_log_is_compacted_and_nothing_is_missed() {
    let world = World::new();
    let operator = world.start();
    // Each is 60 KB; a snapshot replaces them at 4 MiB.
    for number in 0..150 {
        operator.apply(vec![pod("web-0", &format!("{number:0>60000}"), 1)]);
    }
    let (revision, before) = (operator.revision(), identities(&operator));
    operator.stop();
    let log = FileDisk::open(&world.log()).unwrap().recover().unwrap().unwrap();
    let (snapshot, after) = (log.snapshot.index, log.entries.len());
    assert!(snapshot > 10 && after < 140, "{snapshot} {after}");
    let operator = world.start();
    assert_eq!((operator.revision(), identities(&operator)), (Revision(revision.0 + 1), before));
}

/// Applies a pod while something fails; what came of it.
fn apply_under(call: Call, fault: Fault, time: Duration) -> (World, Running, Faults, Answered) {
    let world = World::new();
    let faults = Faults::default();
    let operator = Running::start_with(world.config(), faults.clone()).unwrap();
    operator.apply(vec![node(1)]);
    faults.plan(call, 0, fault);
    let request = Request::Apply { objects: vec![pod("web-0", "web", 1)] };
    let answer = ask_within(&operator.socket, request, time);
    (world, operator, faults, answer)
}

type Answered = Result<Answer, Failure>;

/// The operator goes on; after a restart the store and the state are the same.
fn whole(world: &World, operator: Running) {
    operator.apply(vec![pod("db-0", "db", 1)]);
    operator.apply(vec![pod("web-0", "web", 1)]);
    let before = (operator.revision(), identities(&operator), objects(&operator));
    assert_eq!((before.1.len(), before.2.len()), (2, 3));
    operator.stop();
    let store = FileStore::open(&world.store()).unwrap();
    assert_eq!(store.identities().unwrap().len(), 2);
    assert_eq!(store.objects().unwrap().len(), 3);
    drop(store);
    let operator = world.start();
    let revision = Revision(before.0.0 + 1);
    assert_eq!((operator.revision(), identities(&operator), objects(&operator)), {
        (revision, before.1, before.2)
    });
}

#[test]
fn whatever_became_of_a_write_the_change_is_done_once() {
    for call in [Call::StoreWrite, Call::DiskWrite] {
        for fault in [Fault::Fail, Fault::AmbiguousDone, Fault::AmbiguousNot] {
            let (world, operator, _, answer) = apply_under(call, fault, PATIENCE);
            let done = matches!(answer, Ok(Answer::Accepted { changed: 1, .. }));
            assert!(done, "{call:?} {fault:?} {answer:?}");
            whole(&world, operator);
        }
    }
}

#[test]
fn while_the_store_takes_nothing_nothing_is_accepted_and_the_caller_is_told_why() {
    let little = Duration::from_millis(900);
    let (world, operator, faults, answer) =
        apply_under(Call::StoreWrite, Fault::FailForGood, little);
    let failure = answer.unwrap_err();
    assert_eq!(failure.kind, FailureKind::TryAgain);
    let why = "not done in time: do what a test forbids: a test; it may still be done";
    assert!(failure.message.contains(why), "{failure}");
    assert!(identities(&operator).is_empty() && objects(&operator).len() == 1);
    faults.heal();
    // What waited is done when the store is back, and what is asked again comes after it.
    whole(&world, operator);
}

#[test]
fn a_log_that_takes_nothing_ends_the_operator_and_the_store_has_the_change() {
    let world = World::new();
    let faults = Faults::default();
    let operator = Running::start_with(world.config(), faults.clone()).unwrap();
    let (revision, _) = operator.apply(vec![node(1)]);
    faults.plan(Call::DiskWrite, 0, Fault::FailForGood);
    let mut client = Client::connect(&operator.socket, PATIENCE).unwrap();
    let request = Request::Apply { objects: vec![pod("web-0", "web", 1)] };
    let answer = client.call(request, Options::within(PATIENCE));
    assert!(!matches!(answer, Ok(Answer::Accepted { .. })), "{answer:?}");
    assert!(operator.ended().contains("the log ended"));
    let operator = world.start();
    // Its first entry as a leader, and what it adopted.
    assert_eq!(operator.revision(), Revision(revision.0 + 2));
    assert_eq!((objects(&operator).len(), identities(&operator).len()), (2, 1));
    whole(&world, operator);
}
