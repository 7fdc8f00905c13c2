//! Numbers of identities: whose they are, and when they are free again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

mod support;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use support::{Agent, PATIENCE, Running, World, block_on, node, pod};
use weft_api::operator::{Answer, Request};
use weft_store::{FileStore, Store};
use weft_types::{Identity, IdentitySpace};
use weft_wire::ToOperator;

/// Long for a machine, short for a person.
const GRACE: Duration = Duration::from_millis(300);

fn start(world: &World) -> Running {
    let mut config = world.config();
    config.identities.identity_grace = GRACE;
    Running::start(config).unwrap()
}

fn numbers(operator: &Running) -> BTreeSet<u32> {
    match operator.ask(Request::Identities) {
        Ok(Answer::Identities(rows)) => rows.into_iter().map(|row| row.identity).collect(),
        other => panic!("{other:?}"),
    }
}

/// An agent that has said what it has.
async fn agent(world: &World, operator: &Running, node: &str) -> Agent {
    let mut agent = world.agent(operator.address, node, None).await;
    agent.say(ToOperator::EndpointsAre { endpoints: Vec::new() }).await;
    agent.reach(operator.revision()).await;
    agent
}

/// Agents take and acknowledge whatever comes, until the cluster has these numbers.
async fn until(operator: &Running, agents: &mut [&mut Agent], wanted: &[u32]) {
    let begun = Instant::now();
    while numbers(operator) != wanted.iter().copied().collect() {
        assert!(begun.elapsed() < PATIENCE, "{:?}", numbers(operator));
        for agent in &mut *agents {
            agent.reach(operator.revision()).await;
            agent.acknowledge().await;
        }
        tokio::time::sleep(GRACE / 10).await;
    }
}

#[test]
fn a_number_is_free_when_nothing_refers_to_it_and_every_node_says_so() {
    let world = World::new();
    let operator = start(&world);
    operator.apply(vec![node(1), node(2), pod("web-0", "web", 1), pod("db-0", "db", 1)]);
    block_on(async {
        let mut one = agent(&world, &operator, "node1").await;
        let mut two = agent(&world, &operator, "node2").await;
        one.plug("web-0", [10, 244, 1, 7].into()).await;
        let (revision, _) = operator.delete(vec![pod("web-0", "web", 1)]);
        one.reach(revision).await;
        // While it is plugged it is not free, however long.
        tokio::time::sleep(4 * GRACE).await;
        until(&operator, &mut [&mut one, &mut two], &[256, 257]).await;
        one.say(ToOperator::EndpointUnplugged { address: [10, 244, 1, 7].into(), trace: None })
            .await;
        // One that is lost holds it back.
        drop(two);
        tokio::time::sleep(6 * GRACE).await;
        until(&operator, &mut [&mut one], &[256, 257]).await;
        let mut two = agent(&world, &operator, "node2").await;
        until(&operator, &mut [&mut one, &mut two], &[256]).await;
        assert_eq!(one.identities().keys().copied().collect::<Vec<_>>(), [256]);
    });
    operator.stop();
    let store = FileStore::open(&world.store()).unwrap();
    let left: Vec<Identity> = store.identities().unwrap().into_iter().map(|(n, _)| n).collect();
    assert_eq!((left, store.given().unwrap()), (vec![Identity(256)], Some(Identity(257))));
    drop(store);
    // Not before all others, also when the log is lost and all that there is comes from the store.
    for lost in [false, true] {
        if lost {
            std::fs::remove_file(world.log()).unwrap();
        }
        let operator = start(&world);
        operator.apply(vec![pod(&format!("web-{lost}"), &format!("web-{lost}"), 2)]);
        assert_eq!(
            numbers(&operator),
            if lost { [256, 258, 259].into() } else { [256, 258].into() }
        );
        operator.stop();
    }
}

#[test]
fn a_cluster_keeps_the_numbers_that_it_was_founded_with() {
    let world = World::new();
    let mut config = world.config();
    (config.identities.cluster_bits, config.identities.cluster_number) = (8, 3);
    let operator = Running::start(config.clone()).unwrap();
    operator.apply(vec![pod("web-0", "web", 1)]);
    let first = *IdentitySpace::new(8, 3).unwrap().numbers().start();
    assert_eq!(numbers(&operator), [first].into());
    operator.stop();
    let refused = Running::start(world.config()).err().unwrap().to_string();
    assert!(refused.contains("--cluster-number 3 --cluster-bits 8"), "{refused}");
    config.identities.cluster_number = 300;
    let refused = Running::start(config).err().unwrap().to_string();
    assert!(refused.contains("8 bits have 0 to 255"), "{refused}");
}
