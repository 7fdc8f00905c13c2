//! The world's faults on real processes: what `weft-sim live` does, and what it leaves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};
use weft_tests::lab::{is_root, program};

/// A lab whose operators are elected anew all the time wants the machine for itself.
fn alone() -> MutexGuard<'static, ()> {
    static LAB: Mutex<()> = Mutex::new(());
    LAB.lock().unwrap_or_else(PoisonError::into_inner)
}

fn live(words: &[&str]) -> Command {
    let mut command = Command::new(program("weft-sim"));
    // Beside it lies `weft`.
    command.arg("live").args(words);
    command
}

/// Runs it; what it says, which has to be that everything held.
fn held(mut command: Command) -> Value {
    let _alone = alone();
    let output = command.args(["-o", "json"]).stderr(Stdio::inherit()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(told["holds"] == true && told["linearizable"] == true, "{told}");
    assert_eq!(told["streams"].as_array().unwrap().len(), 3);
    told
}

/// What was done, round by round.
fn done(told: &Value) -> Vec<&str> {
    told["rounds"].as_array().unwrap().iter().map(|row| row["what"].as_str().unwrap()).collect()
}

/// Leaders killed so many times, whose history is looked at once more from its file.
fn leaders_killed(rounds: usize, lasts: &str, more: &[&str]) {
    let history = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("live-{rounds}.jsonl"));
    let (file, count) = (history.to_str().unwrap(), rounds.to_string());
    let told = held(live(
        &[&["leader-kill", "--rounds", &count, "--lasts", lasts, "--history", file], more].concat(),
    ));
    assert_eq!(done(&told).len(), rounds, "{told}");
    assert!(told["answered"].as_u64() > Some(25 * rounds as u64), "{told}");
    let checked = Command::new(program("weft-sim")).arg("check").arg(&history).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn root_a_leader_that_is_killed_live_breaks_nothing_off_and_loses_nothing() {
    if !is_root() {
        return;
    }
    leaders_killed(2, "1500", &["--seed", "7"]);
}

#[test]
#[ignore = "some five minutes: `make test-long` runs it"]
fn root_fifty_leaders_that_are_killed_live_leave_a_linearizable_history() {
    if !is_root() {
        return;
    }
    leaders_killed(50, "1500", &["--gap", "4"]);
}

#[test]
fn root_whoever_is_cut_off_or_away_breaks_nothing_off_and_all_is_well_soon_after() {
    if !is_root() {
        return;
    }
    let faults = ["leader-pause", "partition", "store-cut", "store-member", "group-loss"];
    let mut command = live(&[&faults[..], &["--rounds", "1", "--lasts", "1500"]].concat());
    // Who waits for a pod that nobody knows is told to try again soon.
    command.env("WEFT_AGENT_CNI_PATIENCE", "3s");
    let told = held(command);
    let does = [
        " led and stood still",
        " led and was cut off",
        "the store was cut off",
        " was killed",
        "2 operators were killed",
        "3 operators were killed",
        "the store was killed",
    ];
    let done = done(&told);
    assert_eq!(done.len(), does.len(), "{told}");
    assert!(done.iter().zip(does).all(|(done, does)| done.ends_with(does)), "{told}");
    let of = |key: &str| {
        told["rounds"].as_array().unwrap().iter().map(|row| row[key].as_u64()).collect::<Vec<_>>()
    };
    // While the store was away, or everybody, nothing was answered: what was to be cut off was.
    let gaps = of("gap_ms");
    assert!([2, 5, 6].iter().all(|at| gaps[*at] >= Some(1500)), "{told}");
    let started = [None, None, None, None, Some(1), Some(1), Some(1)];
    assert_eq!(
        (of("known_pods_started"), of("unknown_pods_told_again")),
        (started.to_vec(), started.to_vec())
    );
    // Nobody was there: every agent tried.
    assert!(of("connections_begun")[5] >= Some(3), "{told}");
}

#[test]
#[ignore = "some four minutes: `make test-long` runs it"]
fn root_a_group_that_is_away_for_minutes_costs_no_connection_and_raises_no_storm() {
    if !is_root() {
        return;
    }
    let told = held(live(&["group-loss", "--rounds", "1", "--lasts", "60000"]));
    let gone = ["2 operators were killed", "3 operators were killed", "the store was killed"];
    assert_eq!(done(&told), gone, "{told}");
}

#[test]
fn root_a_live_run_that_is_interrupted_takes_its_lab_down() {
    if !is_root() {
        return;
    }
    let _alone = alone();
    let root = tempfile::tempdir().unwrap();
    let mut command = live(&["leader-pause", "--rounds", "100"]);
    command.env("WEFT_LAB_ROOT", root.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // In the midst of it.
    assert!(lines.any(|line| line.unwrap().contains("round 1 of 100")));
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGINT).unwrap();
    drop(lines.by_ref().last());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("interrupted"));
    assert!(!root.path().join(format!("live{pid}")).exists());
}
