//! What must hold is a series each, 0 while it does; one that does not is counted, also by the lives after.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

mod support;

use std::{collections::BTreeMap, thread::yield_now, time::Instant};
use support::{PATIENCE, Running, World, block_on, get, node, pod};
use weft_store::{Batch, FileStore, Store};
use weft_types::{Identity, Invariant, LabelSet, Revision, Source};
use weft_wire::ToOperator;

/// Every id that is served, and how often it was violated.
fn served(operator: &Running) -> BTreeMap<String, u64> {
    let text = get(operator.metrics.unwrap(), "/metrics");
    let series = text.lines().filter_map(|line| {
        let line = line.strip_prefix("weft_operator_invariant_violations_total{invariant=\"")?;
        let (id, count) = line.split_once("\"} ")?;
        Some((id.to_owned(), count.parse().unwrap()))
    });
    series.collect()
}

/// What is counted, once anything is.
fn counted(operator: &Running) -> BTreeMap<String, u64> {
    let begun = Instant::now();
    loop {
        let counted: BTreeMap<_, _> =
            served(operator).into_iter().filter(|(_, count)| *count > 0).collect();
        if !counted.is_empty() {
            return counted;
        }
        assert!(begun.elapsed() < PATIENCE, "nothing is counted");
        yield_now();
    }
}

fn times(invariant: Invariant, count: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([(invariant.to_string(), count)])
}

#[test]
fn every_id_that_an_operator_sees_is_served_from_the_beginning() {
    let world = World::new();
    let operator = world.start();
    // What is well, and what is refused as it should be, is no violation.
    let (revision, _) = operator.apply(vec![node(1), pod("web-0", "web", 1)]);
    block_on(async {
        let mut agent = world.agent(operator.address, "node1", None).await;
        agent.reach(revision).await;
        agent.acknowledge().await;
        assert!(operator.wait(Some("node1"), 30_000).enforced);
        let mut again = world.agent(operator.address, "node1", Some(revision)).await;
        again.reach(revision).await;
    });
    let ids = [
        Invariant::OneNumber,
        Invariant::NoReuse,
        Invariant::OneLeader,
        Invariant::StoreFirst,
        Invariant::NothingLost,
        Invariant::NeverBack,
        Invariant::NobodyFails,
    ];
    assert_eq!(served(&operator), ids.map(|id| (id.to_string(), 0)).into());
}

#[test]
fn an_agent_that_is_ahead_has_what_was_lost() {
    let world = World::new();
    let operator = world.start();
    let ahead = Some(Revision::new(operator.revision().generation(), 900));
    block_on(async {
        drop(world.agent(operator.address, "node1", ahead).await.refused().await);
        drop(world.agent(operator.address, "node1", ahead).await.refused().await);
    });
    assert_eq!(counted(&operator), times(Invariant::NothingLost, 2));
}

#[test]
fn an_agent_whose_kernel_goes_back_is_counted_whenever_it_says_so() {
    let world = World::new();
    let operator = world.start();
    let (old, _) = operator.apply(vec![node(1)]);
    let (new, _) = operator.apply(vec![pod("web-0", "web", 1)]);
    block_on(async {
        let mut agent = world.agent(operator.address, "node1", None).await;
        agent.reach(new).await;
        agent.acknowledge().await;
        assert!(operator.wait(Some("node1"), 30_000).enforced);
        agent.say(ToOperator::Acknowledge { revision: old, trace: None }).await;
        assert_eq!(counted(&operator), times(Invariant::NeverBack, 1));
        // One that holds nothing says nothing of before; then it takes back what it said.
        let mut agent = world.agent(operator.address, "node1", None).await;
        agent.reach(new).await;
        agent.acknowledge().await;
        assert!(operator.wait(Some("node1"), 30_000).enforced);
        world.agent(operator.address, "node1", Some(old)).await.reach(new).await;
        assert_eq!(counted(&operator), times(Invariant::NeverBack, 2));
    });
}

#[test]
fn a_store_that_is_an_older_copy_is_counted_when_there_is_the_right_one_again() {
    let world = World::new();
    world.start().stop();
    let old = std::fs::read(world.store()).unwrap();
    let operator = world.start();
    operator.apply(vec![pod("web-0", "web", 1)]);
    operator.stop();
    let right = std::fs::read(world.store()).unwrap();
    std::fs::write(world.store(), old).unwrap();
    for _ in 0..3 {
        assert!(Running::start(world.config()).err().unwrap().to_string().contains("older copy"));
    }
    std::fs::write(world.store(), right).unwrap();
    assert_eq!(counted(&world.start()), times(Invariant::StoreFirst, 3));
}

#[test]
fn a_log_that_is_an_older_copy_is_counted_when_there_is_the_right_one_again() {
    let world = World::new();
    world.start().stop();
    let old = std::fs::read(world.log()).unwrap();
    world.start().stop();
    let right = std::fs::read(world.log()).unwrap();
    std::fs::write(world.log(), old).unwrap();
    assert!(Running::start(world.config()).err().unwrap().to_string().contains("older copy"));
    std::fs::write(world.log(), right).unwrap();
    assert_eq!(counted(&world.start()), times(Invariant::NobodyFails, 1));
}

#[test]
fn a_store_in_which_somebody_else_wrote_numbers_is_not_adopted_without_a_word() {
    let world = World::new();
    let operator = world.start();
    operator.apply(vec![node(1)]);
    block_on(async {
        let revision = operator.revision();
        let mut agent = world.agent(operator.address, "node1", None).await;
        // Of a life of the cluster that nobody here remembers.
        let endpoints = vec![([10, 244, 1, 7].into(), Identity(300))];
        agent.say(ToOperator::EndpointsAre { endpoints }).await;
        agent.reach(Revision(revision.0 + 1)).await;
    });
    operator.stop();
    let labels = |app: &str| {
        let mut labels = LabelSet::new();
        labels.insert(Source::K8s, "app", app);
        labels
    };
    let mut store = FileStore::open(&world.store()).unwrap();
    let (_, fence) = store.founded().unwrap().unwrap();
    let given = [(300, "web"), (301, "db"), (302, "db")];
    let identities = given.map(|(number, app)| (Identity(number), labels(app))).into();
    store.write(fence, &Batch { identities, ..Batch::default() }).unwrap();
    drop(store);
    let seen = [Invariant::NoReuse, Invariant::OneNumber].map(|id| (id.to_string(), 1));
    assert_eq!(counted(&world.start()), seen.into());
}
