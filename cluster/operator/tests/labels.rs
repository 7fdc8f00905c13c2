//! Which labels make identities is configuration: told to the operator, held by the cluster.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

mod support;

use clap::{CommandFactory, Parser};
use std::collections::BTreeMap;
use support::{Running, World, block_on, node, pod};
use weft_operator::config::Config;
use weft_types::{Delta, Object};

fn started(world: &World, patterns: &str) -> Running {
    let mut config = world.config();
    config.labels.labels = patterns.parse().unwrap();
    Running::start(config).unwrap()
}

/// Two pods that differ in their team alone.
fn pods() -> Vec<Object> {
    ["a", "b"]
        .map(|team| {
            let Object::Pod(mut pod) = pod(&format!("web-{team}"), "web", 1) else { panic!() };
            pod.labels.insert("team".to_owned(), team.to_owned());
            Object::Pod(pod)
        })
        .to_vec()
}

/// The identities of the workloads that an agent is told of, by name.
fn workloads(world: &World, operator: &Running) -> BTreeMap<String, u32> {
    block_on(async {
        let mut agent = world.agent(operator.address, "node1", None).await;
        agent.reach(operator.revision()).await;
        let told = agent.holds.values().filter_map(|delta| match delta {
            Delta::WorkloadUpsert(workload) => {
                Some((workload.name.name.clone(), workload.identity.0))
            }
            _ => None,
        });
        told.collect()
    })
}

#[test]
fn labels_that_are_left_out_make_no_identity() {
    let world = World::new();
    let operator = started(&world, "");
    operator.apply([vec![node(1)], pods()].concat());
    let by_team = workloads(&world, &operator);
    assert_ne!(by_team["web-a"], by_team["web-b"]);
    let revision = operator.revision();
    operator.stop();

    // Left out, they are one; and that is one change, which agents are told like any other.
    let operator = started(&world, "k8s:!team");
    assert_eq!(
        operator.revision().index(),
        revision.index() + 2,
        "beside the leader's first entry"
    );
    let together = workloads(&world, &operator);
    assert_eq!(together["web-a"], together["web-b"]);
    assert!(
        !by_team.values().any(|number| *number == together["web-a"]),
        "another set, another number"
    );
    let Object::Pod(mut late) = pods().remove(0) else { panic!() };
    late.name.name = "late".to_owned();
    late.labels.insert("team".to_owned(), "c".to_owned());
    let (revision, _) = operator.apply(vec![Object::Pod(late)]);
    assert_eq!(workloads(&world, &operator)["late"], together["web-a"]);
    operator.stop();

    // The same again is no change; back again, everyone has the number that he had.
    let operator = started(&world, " k8s:!team ");
    assert_eq!(operator.revision().index(), revision.index() + 1);
    operator.stop();
    let operator = started(&world, "");
    let back = workloads(&world, &operator);
    assert_eq!((back["web-a"], back["web-b"]), (by_team["web-a"], by_team["web-b"]));
}

#[test]
fn the_filter_survives_a_lost_log() {
    let world = World::new();
    let operator = started(&world, "!team");
    operator.apply([vec![node(1)], pods()].concat());
    let before = workloads(&world, &operator);
    operator.stop();
    std::fs::remove_file(world.log()).unwrap();
    let operator = started(&world, "!team");
    assert_eq!(workloads(&world, &operator), before);
}

#[test]
fn patterns_that_cannot_be_used_are_refused_and_help_says_what_they_are() {
    let with = |patterns: &str| {
        let words =
            ["weft-operator", "--ca", "a", "--cert", "b", "--key", "c", "--labels", patterns];
        Config::try_parse_from(words)
    };
    assert_eq!(with("!team k8s:app").unwrap().labels.labels.added(), ["!team", "k8s:app"]);
    let refused = with("!team k8s:!").unwrap_err().to_string();
    assert!(refused.contains("--labels") && refused.contains("\"k8s:!\""), "{refused}");
    let help = Config::command().render_long_help().to_string();
    assert!(help.contains("--labels <PATTERNS>") && help.contains("[SOURCE:][!]REGEX"), "{help}");
}
