//! What is broken on purpose is noticed: an invariant that no run can break says nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use std::collections::BTreeSet;
use weft_sim::{Invariant, Sabotage, Scenario, run};

/// What the first seeds of a scenario break when something is broken; and when nothing is, nothing.
fn broken(scenario: &Scenario, sabotage: Sabotage) -> BTreeSet<Invariant> {
    let seen = |sabotage| -> BTreeSet<Invariant> {
        let reports = (1..=6).map(|seed| run(scenario, seed, sabotage));
        reports.flat_map(|report| report.violations).map(|violation| violation.invariant).collect()
    };
    assert_eq!(seen(Sabotage::None), BTreeSet::new());
    seen(sabotage)
}

#[test]
fn a_fence_that_is_not_compared_is_noticed() {
    let broken = broken(&Scenario::find("leader-pause").unwrap(), Sabotage::FenceNotCompared);
    assert!(broken.contains(&Invariant::NoStaleWrite), "{broken:?}");
}

#[test]
fn a_word_given_before_it_is_durable_is_noticed() {
    // With disks so slow that the power fails in the midst of a sync.
    let text = "{ name: slow-power, about: a power failure over slow disks, agents: 2, clients: 6, seconds: 12,
        disk: [150, 400], faults: [{ kind: kill, whom: all, every: 4000, lasts: 500 }],
        minimum: { faults: 3, answers: 5 } }";
    let scenario = Scenario::parse("slow-power", text).unwrap();
    let broken = broken(&scenario, Sabotage::AnswerBeforeDurability);
    // What was answered is not lost even so: it is in the store, and adopted from there.
    assert!(broken.contains(&Invariant::OneLog), "{broken:?}");
}

#[test]
fn a_record_that_is_not_adopted_is_noticed() {
    let broken = broken(&Scenario::find("store-outage").unwrap(), Sabotage::RecordNotAdopted);
    assert!(broken.contains(&Invariant::Converges), "{broken:?}");
}

#[test]
fn an_old_snapshot_is_noticed() {
    let broken = broken(&Scenario::find("reconnect-storm").unwrap(), Sabotage::OldSnapshotGiven);
    assert!(broken.contains(&Invariant::NeverBack), "{broken:?}");
}

#[test]
fn a_number_that_is_given_again_is_noticed() {
    // With pods that go, so that label sets are nobody's.
    let broken = broken(&Scenario::find("identity-churn").unwrap(), Sabotage::NumberReused);
    // No state takes a number that it has for another set; and operators count it.
    let seen = [Invariant::StoreFirst, Invariant::OneNumber];
    assert!(seen.iter().all(|invariant| broken.contains(invariant)), "{broken:?}");
}

/// A hundred numbers that go round in seconds, while operators with their agents, or nodes alone, are cut off for longer. Pods
/// that are wanted no more are there for so many milliseconds.
fn few_numbers(fault: &str, lingers: u64) -> Scenario {
    let text = format!(
        "{{ name: few-numbers, about: numbers go round, agents: 6, clients: 4, seconds: 24, pause: [5, 40],
        habits: {{ only: 100, pods: 4, lingers: {lingers} }}, grace: 200, numbers: {{ bits: 17, cluster: 2 }},
        faults: [{{ {fault}, every: 9000, lasts: 6000 }}], minimum: {{ faults: 1, answers: 50, reused: 20 }} }}"
    );
    Scenario::parse("few-numbers", &text).unwrap()
}

#[test]
fn a_number_that_is_freed_though_a_connected_node_may_have_it_is_noticed() {
    let broken = broken(&few_numbers("kind: cut-off, whom: follower", 0), Sabotage::VetoIgnored);
    assert!(broken.contains(&Invariant::NoReuse), "{broken:?}");
}

#[test]
fn a_number_that_is_freed_though_a_lost_node_may_have_it_is_noticed() {
    let fault = "kind: cut-off, whom: { agents: 30 }";
    let broken = broken(&few_numbers(fault, 0), Sabotage::QuarantineSkipped);
    assert!(broken.contains(&Invariant::NoReuse), "{broken:?}");
}

#[test]
fn an_identity_that_a_node_keeps_and_need_not_know_is_noticed() {
    let broken = broken(&Scenario::find("reconnect-storm").unwrap(), Sabotage::ToldForgotten);
    assert!(broken.contains(&Invariant::OneState), "{broken:?}");
}

#[test]
fn a_leader_that_leads_on_without_the_store_is_noticed() {
    let scenario = Scenario::find("store-cut").unwrap();
    let void =
        |sabotage| (1..=6).filter_map(move |seed| run(&scenario, seed, sabotage).void).count();
    assert_eq!(void(Sabotage::LeadsOn), 6, "too little is answered");
}

#[test]
fn an_older_copy_of_the_store_that_nobody_knows_by_its_fence_is_noticed() {
    let broken = broken(&Scenario::find("store-restore").unwrap(), Sabotage::FenceStays);
    assert!(broken.contains(&Invariant::Converges), "{broken:?}");
}

#[test]
fn what_older_members_do_not_know_and_is_written_is_noticed() {
    let broken = broken(&Scenario::find("mixed-versions").unwrap(), Sabotage::RaisedEarly);
    assert!(broken.contains(&Invariant::NobodyFails), "{broken:?}");
}

#[test]
fn a_look_at_an_old_copy_is_noticed() {
    let broken = broken(&Scenario::find("partition").unwrap(), Sabotage::CopyRead);
    assert!(broken.contains(&Invariant::Linearizable), "{broken:?}");
}

#[test]
fn a_reference_that_is_lost_is_noticed() {
    let broken = broken(&Scenario::find("leader-kill").unwrap(), Sabotage::ReferenceLost);
    assert!(broken.contains(&Invariant::OneState), "{broken:?}");
}

#[test]
fn a_number_whose_last_reference_is_lost_is_not_anothers_unnoticed() {
    let scenario = few_numbers("kind: cut-off, whom: follower", 3000);
    let broken = broken(&scenario, Sabotage::PlugForgotten);
    assert!(broken.contains(&Invariant::NoReuse), "{broken:?}");
}

/// What is noticed of agents that break a rule of writing.
fn written(sabotage: Sabotage) -> BTreeSet<Invariant> {
    broken(&Scenario::find("policy-churn").unwrap(), sabotage)
}

#[test]
fn an_acknowledgement_before_the_kernel_has_it_is_noticed() {
    let broken = written(Sabotage::AcknowledgedEarly);
    assert!(broken.contains(&Invariant::AsAcknowledged), "{broken:?}");
}

#[test]
fn a_write_that_was_refused_and_counts_as_done_is_noticed() {
    let broken = written(Sabotage::RefusalIgnored);
    assert!(broken.contains(&Invariant::AsAcknowledged), "{broken:?}");
}

#[test]
fn a_class_that_is_empty_for_a_moment_is_noticed() {
    let broken = written(Sabotage::ClassEmptied);
    assert!(broken.contains(&Invariant::AsAcknowledged), "{broken:?}");
}

#[test]
fn rules_that_go_with_another_policy_are_noticed() {
    let broken = written(Sabotage::NeighbourForgotten);
    assert!(broken.contains(&Invariant::AsAcknowledged), "{broken:?}");
}

#[test]
fn an_agent_that_does_not_read_its_maps_is_noticed() {
    let broken = written(Sabotage::MapsForgotten);
    assert!(broken.contains(&Invariant::AsAcknowledged), "{broken:?}");
}
