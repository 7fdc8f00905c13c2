//! Agents of real operators are told what they have to know, wherever they are connected.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

mod support;

use std::net::Ipv4Addr;
use support::{Running, World, block_on, node, pod};
use weft_operator::config::Config;
use weft_types::{
    NamespacedName, Object, Policy, Revision, Selector, Source,
    policy::{Isolation, Peer, Peers, PolicyId, PolicyKind, Ports, Rule},
    selector::Requirement,
};
use weft_wire::ToOperator;

/// Pods of one app.
fn app(app: &str) -> Selector {
    let (source, key, values) = (Source::K8s, "app".to_owned(), vec![app.to_owned()]);
    Selector::new(vec![Requirement::In { source, key, values }])
}

/// Lets one app's pods be reached by another's.
fn policy(name: &str, subject: &str, from: &str) -> Object {
    let peers = Peers::Only(vec![Peer::Pods(app(from))]);
    let name = NamespacedName::new("shop", name);
    Object::Policy(Policy {
        id: PolicyId { kind: PolicyKind::NetworkPolicy, name },
        subject: app(subject),
        ingress: Isolation::Isolated(vec![Rule { peers, ports: Ports::All }]),
        egress: Isolation::Open,
    })
}

fn at(node: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, node, host)
}

fn start(world: &World) -> Running {
    let mut config: Config = world.config();
    config.sessions.push_everything = false;
    Running::start(config).unwrap()
}

#[test]
fn an_agent_is_told_whom_its_pods_may_meet_and_whom_it_asks_for_and_goes_on_so() {
    let world = World::new();
    let operator = start(&world);
    operator.apply(vec![
        node(1),
        node(2),
        pod("web", "web", 1),
        pod("shop", "shop", 2),
        pod("other", "other", 2),
        policy("web", "web", "shop"),
    ]);
    block_on(async {
        let mut second = world.agent(operator.address, "node2", None).await;
        second.reach(operator.revision()).await;
        second.plug("shop", at(2, 1)).await;
        second.plug("other", at(2, 2)).await;
        while second.endpoints().len() < 2 {
            second.reach(Revision(second.revision.0 + 1)).await;
        }
        let newest = second.revision;
        let mut first = world.agent(operator.address, "node1", None).await;
        first.reach(newest).await;
        assert_eq!(first.endpoints(), [at(2, 1)]);
        assert_eq!(first.identities().len(), 2);
        assert_eq!(second.identities().len(), 2, "nobody of node2 has to know web by name");
        // What it asks for comes though nothing is newer; nobody is nobody.
        first.say(ToOperator::Who { addresses: vec![at(2, 9), at(2, 2)] }).await;
        first.more().await;
        assert_eq!((first.revision, first.endpoints()), (newest, vec![at(2, 1), at(2, 2)]));
        // A policy less is a peer less.
        let policies = vec![policy("web", "web", "shop")];
        let (revision, _) = operator.delete(policies.clone());
        first.reach(revision).await;
        assert_eq!(first.endpoints(), [at(2, 2)]);
        // It comes back with what it holds, and is told what changed: not more, not less.
        let held = (first.revision, first.holds.clone());
        drop(first);
        let (revision, _) = operator.apply(policies);
        let mut back = world.agent_again(operator.address, "node1", held.0, &held.1).await;
        back.reach(revision).await;
        assert_eq!((back.snapshots, back.pushes), (0, 1));
        assert_eq!(back.endpoints(), [at(2, 1)], "what it does not ask for any more is gone");
    });
}

#[test]
fn a_node_hears_when_those_that_have_to_know_its_pod_do_and_who_does_not() {
    let world = World::new();
    let operator = start(&world);
    operator.apply(vec![
        node(1),
        node(2),
        node(3),
        pod("web", "web", 1),
        pod("shop", "shop", 2),
        pod("shop-1", "shop", 2),
        pod("shop-2", "shop", 2),
        pod("other", "other", 2),
        policy("web", "web", "shop"),
    ]);
    block_on(async {
        let newest = operator.revision();
        let mut first = world.agent(operator.address, "node1", None).await;
        let mut second = world.agent(operator.address, "node2", None).await;
        let mut third = world.agent(operator.address, "node3", None).await;
        for agent in [&mut first, &mut second, &mut third] {
            agent.reach(newest).await;
            agent.acknowledge().await;
        }
        // Of whom nobody else has to know, it hears at once; the third, which says nothing more, is not waited for.
        second.plug("other", at(2, 1)).await;
        assert_eq!(second.spread(at(2, 1)).await, [""; 0]);
        // Its kernel does not have it in time.
        second.plug("shop", at(2, 2)).await;
        assert_eq!(second.spread(at(2, 2)).await, ["node1"]);
        let (told, ()) = tokio::join!(
            async {
                second.plug("shop-1", at(2, 3)).await;
                second.spread(at(2, 3)).await
            },
            async {
                while !first.endpoints().contains(&at(2, 3)) {
                    first.reach(Revision(first.revision.0 + 1)).await;
                    first.acknowledge().await;
                }
            }
        );
        assert_eq!(told, [""; 0]);
        // One that is away is not waited for, and named.
        drop(first);
        while operator.wait(Some("node1"), 0).behind.iter().any(|node| node.connected) {}
        second.plug("shop-2", at(2, 4)).await;
        assert_eq!(second.spread(at(2, 4)).await, ["node1"]);
    });
}
