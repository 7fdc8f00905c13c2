//! `policy wait`: it says yes when every node's kernel holds the revision, and never otherwise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

mod support;

use std::thread;
use support::{World, block_on, node, pod, policy};
use weft_api::{FailureKind, operator::Request};
use weft_types::{Identity, Revision, policy::Isolation};
use weft_wire::ToOperator;

#[test]
fn an_agent_that_comes_back_with_the_newest_revision_has_acknowledged_it() {
    let world = World::new();
    let operator = world.start();
    operator.apply(vec![node(1)]);
    operator.stop();
    let operator = world.start();
    let revision = operator.revision();
    assert!(!operator.wait(None, 0).enforced, "it never joined");
    block_on(async {
        let mut agent = world.agent(operator.address, "node1", Some(revision)).await;
        agent.hear().await.unwrap();
        assert!(operator.wait(None, 30_000).enforced);
        // Built anew, it holds nothing; the old yes is void.
        let mut agent = world.agent(operator.address, "node1", None).await;
        agent.reach(revision).await;
        let waited = operator.wait(None, 0);
        assert!(!waited.enforced && waited.behind[0].acknowledged.is_none(), "{waited:?}");
        agent.acknowledge().await;
        assert!(operator.wait(None, 30_000).enforced);
    });
}

#[test]
fn the_time_of_one_wait_does_not_end_another() {
    let world = World::new();
    let operator = world.start();
    let (revision, _) = operator.apply(vec![node(1)]);
    thread::scope(|scope| {
        let long = scope.spawn(|| operator.wait(None, 60_000));
        assert!(!operator.wait(None, 50).enforced);
        assert!(!operator.wait(None, 50).enforced);
        block_on(async {
            let mut agent = world.agent(operator.address, "node1", None).await;
            agent.reach(revision).await;
            agent.acknowledge().await;
            assert!(operator.wait(None, 30_000).enforced);
        });
        assert!(long.join().unwrap().enforced);
    });
}

#[test]
fn a_superseded_session_has_no_say() {
    let world = World::new();
    let operator = world.start();
    let (revision, _) = operator.apply(vec![node(1), pod("web-0", "web", 1)]);
    block_on(async {
        let mut old = world.agent(operator.address, "node1", None).await;
        old.reach(revision).await;
        let mut new = world.agent(operator.address, "node1", None).await;
        new.reach(revision).await;
        // It may find its session closed already, or not yet.
        let late = ToOperator::Acknowledge { revision, trace: None };
        drop(weft_wire::frame::send(&mut old.stream, &late).await);
        assert!(!operator.wait(None, 300).enforced);
        new.acknowledge().await;
        assert!(operator.wait(None, 30_000).enforced);
        old.closed().await;
    });
}

#[test]
fn an_acknowledgement_of_the_future_counts_as_now() {
    let world = World::new();
    let operator = world.start();
    let (revision, _) = operator.apply(vec![node(1)]);
    block_on(async {
        let mut agent = world.agent(operator.address, "node1", None).await;
        agent.reach(revision).await;
        agent.say(ToOperator::Acknowledge { revision: Revision::new(9, 9), trace: None }).await;
        assert!(operator.wait(None, 30_000).enforced);
        operator.apply(vec![policy("p", Isolation::Open)]);
        assert!(!operator.wait(None, 0).enforced);
    });
}

#[test]
fn an_agent_that_holds_something_newer_is_refused() {
    let world = World::new();
    let operator = world.start();
    let (revision, _) = operator.apply(vec![node(1)]);
    block_on(async {
        for held in [Revision(revision.0 + 1), Revision::new(9, 1)] {
            let mut agent = world.agent(operator.address, "node1", Some(held)).await;
            let reason = agent.refused().await;
            assert!(reason.contains(&held.to_string()) && reason.contains("raft.redb"), "{reason}");
        }
    });
    assert!(!operator.wait(None, 0).behind[0].connected);
}

#[test]
fn one_node_can_be_waited_for() {
    let world = World::new();
    let operator = world.start();
    let (revision, _) = operator.apply(vec![node(1), node(2)]);
    block_on(async {
        let mut agent = world.agent(operator.address, "node2", None).await;
        agent.reach(revision).await;
        agent.acknowledge().await;
        assert!(operator.wait(Some("node2"), 30_000).enforced);
        let waited = operator.wait(Some("node1"), 0);
        assert_eq!(waited.behind.iter().map(|n| n.node.as_str()).collect::<Vec<_>>(), ["node1"]);
    });
    let request = Request::Wait { revision: None, timeout_ms: 0, node: Some("node9".to_owned()) };
    let refused = operator.ask(request).unwrap_err();
    assert_eq!(refused.kind, FailureKind::NotFound);
    assert!(refused.message.contains("node9") && refused.message.contains("node1"), "{refused}");
}

#[test]
fn a_pod_that_is_deleted_and_applied_again_keeps_its_endpoint() {
    let world = World::new();
    let operator = world.start();
    let (revision, _) = operator.apply(vec![node(1), pod("web-0", "web", 1)]);
    block_on(async {
        let mut agent = world.agent(operator.address, "node1", None).await;
        agent.reach(revision).await;
        agent.plug("web-0", [10, 244, 1, 7].into()).await;
        agent.reach(Revision(revision.0 + 1)).await;
        assert_eq!(agent.endpoints().len(), 1);
        let (revision, _) = operator.delete(vec![pod("web-0", "web", 1)]);
        agent.reach(revision).await;
        assert_eq!(agent.endpoints().len(), 0);
        let (revision, _) = operator.apply(vec![pod("web-0", "web", 1)]);
        agent.reach(revision).await;
        assert_eq!(agent.endpoints().len(), 1);
    });
}

#[test]
fn what_an_agent_says_again_makes_no_revision() {
    let world = World::new();
    let operator = world.start();
    let (revision, _) = operator.apply(vec![node(1), pod("web-0", "web", 1)]);
    block_on(async {
        let mut agent = world.agent(operator.address, "node1", None).await;
        agent.reach(revision).await;
        agent.plug("web-0", [10, 244, 1, 7].into()).await;
        agent.reach(Revision(revision.0 + 1)).await;
        let revision = operator.revision();
        for _ in 0..3 {
            let endpoints = vec![([10, 244, 1, 7].into(), Identity(256))];
            agent.say(ToOperator::EndpointsAre { endpoints }).await;
            agent.plug("web-0", [10, 244, 1, 7].into()).await;
            let address = [10, 244, 1, 9].into();
            agent.say(ToOperator::EndpointUnplugged { address, trace: None }).await;
        }
        agent.acknowledge().await;
        assert!(operator.wait(None, 30_000).enforced);
        assert_eq!(operator.revision(), revision);
    });
}

#[test]
fn a_change_that_is_none_makes_no_revision_and_counts_nothing() {
    let world = World::new();
    let operator = world.start();
    let objects = vec![node(1), pod("web-0", "web", 1)];
    let (revision, changed) = operator.apply(objects.clone());
    assert_eq!(changed, 2);
    assert_eq!(operator.apply(objects), (revision, 0));
    assert_eq!(operator.delete(vec![node(7)]), (revision, 0));
    let (next, changed) = operator.apply(vec![node(1), pod("web-0", "db", 1)]);
    assert_eq!((next, changed), (Revision(revision.0 + 1), 1));
}

#[test]
fn nodes_that_share_addresses_are_refused() {
    let world = World::new();
    let operator = world.start();
    let (revision, _) = operator.apply(vec![node(1)]);
    let weft_types::Object::Node(mut twin) = node(1) else { panic!() };
    twin.name = weft_types::NodeName("twin".to_owned());
    let refused =
        operator.ask(Request::Apply { objects: vec![weft_types::Object::Node(twin)] }).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Invalid);
    assert!(refused.message.contains("twin") && refused.message.contains("node1"), "{refused}");
    assert_eq!(operator.revision(), revision);
}

#[test]
fn a_node_that_is_registered_late_is_asked_to_tell_all_again() {
    let world = World::new();
    let operator = world.start();
    operator.apply(vec![pod("web-0", "web", 1)]);
    block_on(async {
        let mut agent = world.agent(operator.address, "node1", None).await;
        agent.reach(operator.revision()).await;
        // It is nobody's prefix yet, so this is not taken.
        agent.plug("web-0", [10, 244, 1, 7].into()).await;
        operator.apply(vec![node(1)]);
        agent.closed().await;
        let mut agent = world.agent(operator.address, "node1", None).await;
        agent.reach(operator.revision()).await;
        agent.plug("web-0", [10, 244, 1, 7].into()).await;
        agent.reach(Revision(agent.revision.0 + 1)).await;
        assert_eq!(agent.endpoints().len(), 1);
    });
}
