//! The push: what an agent holds in the end is what there is, whatever it does in between.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

mod support;

use support::{World, block_on, node, pod};
use weft_api::{
    operator::{Answer, Request},
    transport::{Client, Options},
};
use weft_types::{Revision, TraceContext};
use weft_wire::ToOperator;

/// A pod with a label as long as this.
fn long(number: usize) -> weft_types::Object {
    pod("web-0", &format!("{number:0>60000}"), 1)
}

#[test]
fn an_agent_that_does_not_read_costs_nobody_anything_and_gets_there() {
    let world = World::new();
    let operator = world.start();
    operator.apply(vec![node(1), node(2)]);
    block_on(async {
        let mut slow = world.agent(operator.address, "node1", None).await;
        let mut quick = world.agent(operator.address, "node2", None).await;
        // 24 MB of changes, which no socket and no history holds.
        for number in 0..400 {
            let (revision, _) = operator.apply(vec![long(number)]);
            quick.reach(revision).await;
        }
        assert_eq!((quick.pushes, quick.snapshots), (400, 1));
        slow.reach(operator.revision()).await;
        assert_eq!(slow.identities(), quick.identities());
        assert!(slow.pushes < 300, "{}", slow.pushes);
        // Now both get one and the same.
        let (revision, _) = operator.apply(vec![long(401)]);
        slow.reach(revision).await;
        quick.reach(revision).await;
        assert_eq!(slow.identities(), quick.identities());
    });
}

#[test]
fn a_long_snapshot_comes_in_parts() {
    let world = World::new();
    let operator = world.start();
    let pods = (0..100).map(|number| pod(&format!("p-{number}"), &format!("{number:0>60000}"), 1));
    operator.apply(vec![node(1)]);
    for pod in pods {
        operator.apply(vec![pod]);
    }
    block_on(async {
        // Six megabytes; the agent takes no frame above one.
        let mut agent = world.agent(operator.address, "node1", None).await;
        agent.reach(operator.revision()).await;
        assert_eq!((agent.snapshots, agent.identities().len()), (1, 100));
    });
}

#[test]
fn an_agent_that_comes_back_gets_what_it_missed_also_of_another_process() {
    let world = World::new();
    let operator = world.start();
    let (held, _) = operator.apply(vec![node(1), pod("web-0", "web", 1)]);
    block_on(async {
        let mut agent = world.agent(operator.address, "node1", None).await;
        agent.reach(held).await;
        drop(agent.stream);
        operator.apply(vec![pod("web-1", "web", 1)]);
        operator.delete(vec![pod("web-0", "web", 1)]);
        operator.apply(vec![pod("web-2", "db", 1)]);
        let newest = operator.revision();
        let mut whole = world.agent(operator.address, "node1", None).await;
        whole.reach(newest).await;
        for restarted in [false, true] {
            let restarted = restarted.then(|| operator_again(&world));
            let address = restarted.as_ref().map_or(operator.address, |operator| operator.address);
            let mut back = world.agent_again(address, "node1", held, &agent.holds).await;
            back.reach(newest).await;
            assert_eq!((back.snapshots, back.pushes), (0, 1), "coalesced into one");
            assert_eq!(back.holds, whole.holds);
        }
    });
}

/// A second operator over a copy of the first one's files.
fn operator_again(world: &World) -> support::Running {
    let dir = world.dir.path().join("copy");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::copy(world.store(), dir.join("store.redb")).unwrap();
    std::fs::copy(world.log(), dir.join("raft.redb")).unwrap();
    let admin_socket = world.dir.path().join("copy.sock");
    let config = weft_operator::config::Config { state_dir: dir, admin_socket, ..world.config() };
    support::Running::start(config).unwrap()
}

#[test]
fn the_trace_of_a_call_goes_with_the_push() {
    let world = World::new();
    let operator = world.start();
    operator.apply(vec![node(1)]);
    let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace: TraceContext = text.parse().unwrap();
    block_on(async {
        let mut agent = world.agent(operator.address, "node1", None).await;
        agent.reach(operator.revision()).await;
        let mut client = Client::connect(&operator.socket, support::PATIENCE).unwrap();
        let options =
            Options { deadline: Some(support::PATIENCE), traceparent: Some(trace), caller: None };
        let objects = vec![pod("web-0", "web", 1)];
        let answer = client.call(Request::Apply { objects }, options).unwrap();
        assert!(matches!(answer, Answer::Accepted { changed: 1, .. }));
        agent.reach(operator.revision()).await;
        assert_eq!(agent.trace, Some(trace));
        operator.apply(vec![pod("web-1", "web", 1)]);
        agent.reach(operator.revision()).await;
        assert_eq!(agent.trace, None);
        // A call that took a pod away is as much a cause as one that brought it.
        let address = [10, 244, 1, 7].into();
        agent.plug("web-0", address).await;
        agent.reach(Revision(operator.revision().0.max(agent.revision.0 + 1))).await;
        assert_eq!((agent.endpoints().len(), agent.trace), (1, None));
        let plugged = agent.revision;
        agent.say(ToOperator::EndpointUnplugged { address, trace: Some(trace) }).await;
        agent.reach(Revision(plugged.0 + 1)).await;
        assert_eq!((agent.endpoints().len(), agent.trace), (0, Some(trace)));
    });
}

#[test]
fn many_agents_plug_at_once_and_all_of_it_is_there() {
    let world = World::new();
    let operator = world.start();
    let nodes: Vec<_> = (1..=20).map(node).collect();
    operator.apply(nodes);
    let mut pods = Vec::new();
    for number in 1..=20 {
        pods.extend((0..5).map(|pod| support::pod(&format!("n{number}-{pod}"), "web", number)));
    }
    operator.apply(pods);
    let begun = operator.metric("weft_operator_store_seconds_count{operation=\"log_append\"} ");
    block_on(async {
        let start = operator.revision();
        let mut agents = Vec::new();
        for number in 1..=20 {
            let mut agent = world.agent(operator.address, &format!("node{number}"), None).await;
            agent.reach(start).await;
            agents.push(agent);
        }
        for (number, agent) in (1..).zip(&mut agents) {
            for pod in 0..5 {
                agent.plug(&format!("n{number}-{pod}"), [10, 244, number, 10 + pod].into()).await;
            }
        }
        let all = Revision(start.0 + 100);
        for agent in &mut agents {
            agent.reach(all).await;
            assert_eq!(agent.endpoints().len(), 100);
        }
        assert_eq!(operator.revision(), all);
    });
    let appends = operator.metric("weft_operator_store_seconds_count{operation=\"log_append\"} ");
    assert!(appends - begun <= 100.0, "{appends}");
}
