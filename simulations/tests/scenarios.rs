//! Every scenario under twenty seeds, each at most a minute of simulated time; more seeds and agents where that is asked for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use std::{num::NonZeroUsize, process::Command};
use weft_sim::{Report, Sabotage, Scenario, Summary, run, run_each};

/// Seeds of each scenario; `WEFT_SEEDS` has more of them run.
const SEEDS: u64 = 20;

fn asked_for(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().expect("a number"))
}

fn seeds() -> u64 {
    asked_for("WEFT_SEEDS").unwrap_or(SEEDS)
}

/// One that comes with the program, with as many agents as `WEFT_AGENTS` has it.
fn scenario(name: &str) -> Scenario {
    let scenario = Scenario::find(name).unwrap();
    match asked_for("WEFT_AGENTS") {
        Some(agents) => scenario.with_agents(agents.try_into().unwrap()),
        None => scenario,
    }
}

#[track_caller]
fn holds(name: &str) {
    let scenario = scenario(name);
    assert!(scenario.whole() <= 60);
    let failed: Vec<String> = (1..=seeds())
        .map(|seed| run(&scenario, seed, Sabotage::None))
        .filter(|report| !report.holds())
        .map(|report| report.to_string())
        .collect();
    assert!(failed.is_empty(), "{} of {} seeds:\n{}", failed.len(), seeds(), failed.join("\n"));
}

#[test]
fn leader_kill() {
    holds("leader-kill");
}

#[test]
fn leader_pause() {
    holds("leader-pause");
}

#[test]
fn partition() {
    holds("partition");
}

#[test]
fn policy_churn() {
    holds("policy-churn");
}

#[test]
fn power_failure() {
    holds("power-failure");
}

#[test]
fn store_cut() {
    holds("store-cut");
}

#[test]
fn store_restore() {
    holds("store-restore");
}

#[test]
fn lost_generation() {
    holds("lost-generation");
}

#[test]
fn store_outage() {
    holds("store-outage");
}

#[test]
fn lost_disk() {
    holds("lost-disk");
}

#[test]
fn rolling_restart() {
    holds("rolling-restart");
}

#[test]
fn reconnect_storm() {
    holds("reconnect-storm");
}

#[test]
fn node_failures() {
    holds("node-failures");
}

#[test]
fn namespace_relabel() {
    holds("namespace-relabel");
}

#[test]
fn mixed_versions() {
    holds("mixed-versions");
}

#[test]
fn clock_jump() {
    holds("clock-jump");
}

#[test]
fn disk_trouble() {
    holds("disk-trouble");
}

#[test]
fn group_loss() {
    holds("group-loss");
}

#[test]
fn identity_churn() {
    holds("identity-churn");
}

#[test]
fn after_a_thousand_killed_leaders_allocations_go_on_within_two_election_timeouts() {
    let scenario = scenario("leader-kill");
    let mut summary = Summary::of(&scenario);
    for seed in 1..=200 {
        if summary.leaders_killed() >= 1000 {
            break;
        }
        summary.add(&run(&scenario, seed, Sabotage::None));
    }
    println!("{summary}");
    assert!(summary.leaders_killed() >= 1000, "{summary}");
    assert!(summary.holds(), "{summary}");
}

#[test]
#[ignore = "half an hour of simulated time and a thousand agents: make test-long"]
fn every_scenario_holds_in_full() {
    let in_full = |name| run(&Scenario::find(name).unwrap().in_full(), 1, Sabotage::None);
    let reports = Scenario::names().map(in_full).inspect(|report| println!("{report}"));
    let failed: Vec<String> =
        reports.filter(|report| !report.holds()).map(|report| report.to_string()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_scenario_has_a_test() {
    let here = include_str!("scenarios.rs");
    for name in Scenario::names() {
        assert!(here.contains(&format!("holds(\"{name}\")")), "{name}");
    }
}

#[test]
fn a_seed_gives_one_trace() {
    for name in Scenario::names() {
        let scenario = Scenario::find(name).unwrap().with_seconds(5);
        let first = run(&scenario, 3, Sabotage::None);
        assert!(first == run(&scenario, 3, Sabotage::None), "{first}");
        assert_ne!(first.trace, run(&scenario, 4, Sabotage::None).trace, "{name}");
    }
}

/// What differs from process to process is where things lie in memory, and how a map hashes.
#[test]
fn a_seed_gives_one_trace_in_every_process() {
    let scenario = Scenario::find("identity-churn").unwrap().with_seconds(5);
    let here = format!("{:016x}", run(&scenario, 3, Sabotage::None).trace);
    for _ in 0..2 {
        let arguments = ["run", "identity-churn", "--seed", "3", "--seconds", "5"];
        let run = Command::new(env!("CARGO_BIN_EXE_weft-sim")).args(arguments).output().unwrap();
        let said = String::from_utf8(run.stdout).unwrap();
        assert_eq!(said.lines().last(), Some(here.as_str()), "{said}");
    }
}

#[test]
fn a_run_without_its_faults_is_void() {
    let text = "{ name: calm, about: nothing, agents: 1, clients: 1, seconds: 2,
        faults: [{ kind: kill, every: 100000, lasts: 1 }], minimum: { faults: 1, answers: 1 } }";
    let report = run(&Scenario::parse("calm", text).unwrap(), 1, Sabotage::None);
    assert_eq!(report.void.as_deref(), Some("0 faults hit, of at least 1"));
    assert!(!report.holds());
    assert!(report.to_string().contains("weft-sim run calm --seed 1"));
}

#[test]
fn what_fails_of_a_file_of_ones_own_says_a_command_that_runs_it_again() {
    let path = std::env::temp_dir().join(format!("weft-{}-mine.yaml", std::process::id()));
    let text = "{ name: calm, about: nothing, agents: 1, clients: 1, seconds: 2, faults: [],
        minimum: { faults: 0, answers: 100000 } }";
    std::fs::write(&path, text).unwrap();
    let mine = Scenario::find(path.to_str().unwrap()).unwrap();
    let report = run(&mine, 7, Sabotage::None);
    assert_eq!((report.scenario.as_str(), report.holds()), ("calm", false));
    let replay = report.replay();
    let arguments = replay.split_whitespace().skip(1);
    let again = Command::new(env!("CARGO_BIN_EXE_weft-sim")).args(arguments).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    let said = String::from_utf8(again.stdout).unwrap();
    assert_eq!(again.status.code(), Some(1), "{replay}: {said}");
    assert_eq!(said.lines().last(), Some(format!("{:016x}", report.trace).as_str()));
}

#[test]
fn how_many_identities_there_are_at_the_end_does_not_grow_with_the_run() {
    let text = "{ name: calm, about: nothing, agents: 1, clients: 1, seconds: 2, faults: [],
        habits: { only: 100, pods: 4 }, minimum: { faults: 0, answers: 1, identities: 4, given: 8 } }";
    let calm = Scenario::parse("calm", text).unwrap().with_seconds(20);
    let report = run(&calm, 1, Sabotage::None);
    assert!(report.holds() && report.counts.given >= 80, "{report}");
}

#[test]
fn a_longer_run_needs_as_much_by_the_second() {
    let text = "{ name: calm, about: nothing, agents: 1, clients: 1, seconds: 2, faults: [],
        minimum: { faults: 0, answers: 1 } }";
    let calm = Scenario::parse("calm", text).unwrap();
    assert!(run(&calm, 1, Sabotage::None).holds());
    let demanding = Scenario::parse("calm", &text.replace("answers: 1 ", "answers: 100 ")).unwrap();
    let report = run(&demanding.with_seconds(4), 1, Sabotage::None);
    assert!(report.void.unwrap().contains("of at least 200"));
}

#[test]
fn in_full_faults_may_be_rarer_and_the_command_says_so() {
    let text = "{ name: calm, about: nothing, agents: 1, clients: 1, seconds: 2, full: { agents: 2, seconds: 8, rarer: 4 },
        faults: [{ kind: kill, every: 1000, lasts: 1 }], minimum: { faults: 1, answers: 100000 } }";
    let report = run(&Scenario::parse("calm", text).unwrap().in_full(), 1, Sabotage::None);
    assert!((1..=3).contains(&report.counts.faults), "{report}");
    assert_eq!(report.replay(), "weft-sim run calm --full --seed 1 --nodes 2 --seconds 8");
    assert!(report.void.unwrap().contains("answered"), "one fault is enough");
}

#[test]
fn a_small_world_has_the_same_faults_and_the_command_says_so() {
    let scenario = Scenario::find("policy-churn").unwrap();
    let usual = run(&scenario, 2, Sabotage::None);
    let small = run(&scenario.in_small(), 2, Sabotage::None);
    assert!(small.holds(), "{small}");
    assert!(small.counts.entries < usual.counts.entries, "{small}\n{usual}");
    assert!(small.counts.faults >= usual.counts.faults / 2, "{small}\n{usual}");
    let seconds = small.seconds;
    let command =
        format!("weft-sim run policy-churn --small --seed 2 --nodes 5 --seconds {seconds}");
    assert_eq!(small.replay(), command);
}

#[test]
fn runs_side_by_side_are_those_of_one_after_another() {
    let calm = Scenario::find("leader-kill").unwrap().in_small().with_seconds(4);
    let runs = |jobs| {
        let mut traces = Vec::new();
        let take = |report: Report| {
            traces.push((report.seed, report.trace));
            Ok::<(), ()>(())
        };
        run_each(&calm, 3..10, NonZeroUsize::new(jobs).unwrap(), take).unwrap();
        traces
    };
    let one = runs(1);
    assert_eq!(one.iter().map(|(seed, _)| *seed).collect::<Vec<_>>(), Vec::from_iter(3..10));
    assert_eq!(runs(3), one);
    // After an error no other begins.
    let mut taken = 0;
    let stop = |_| {
        taken += 1;
        if taken == 2 { Err("enough") } else { Ok(()) }
    };
    assert_eq!(run_each(&calm, 3..1_000_000, NonZeroUsize::MIN, stop), Err("enough"));
    assert_eq!(taken, 2);
}

#[test]
fn a_scenario_that_is_none_is_an_error() {
    for (text, says) in [
        ("{ name: x }", "missing field"),
        (
            "{ name: x, about: x, agents: 0, clients: 1, seconds: 1, faults: [], minimum: { faults: 0, answers: 0 } }",
            "at least one",
        ),
        (
            "{ name: x, about: x, agents: 1, clients: 1, seconds: 1, faults: [], minimum: { faults: 1, answers: 0 } }",
            "no faults",
        ),
        (
            "{ name: x, about: x, agents: 1, clients: 1, seconds: 1, faults: [], minimum: { faults: 0, answers: 0 }, size: 1 }",
            "unknown field",
        ),
        (
            "{ name: x, about: x, agents: 1, clients: 1, seconds: 1, minimum: { faults: 0, answers: 0 },
                faults: [{ kind: pause, whom: { agents: 10 }, every: 1, lasts: 1 }] }",
            "Pause does not hit Agents(10)",
        ),
        (
            "{ name: x, about: x, agents: 1, clients: 1, seconds: 1, minimum: { faults: 0, answers: 0 },
                faults: [{ kind: pause, lasts: 1 }] }",
            "`at` a time or `every`",
        ),
    ] {
        let error = Scenario::parse("x", text).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(Scenario::find("nothing").unwrap_err().to_string().contains("leader-kill"));
}
