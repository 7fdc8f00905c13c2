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
};
use weft_tests::lab::{is_root, program};

fn live(words: &[&str]) -> Command {
    let mut command = Command::new(program("weft-sim"));
    // Beside it lies `weft`.
    command.arg("live").args(words);
    command
}

#[test]
fn root_a_leader_that_is_killed_live_breaks_nothing_off_and_loses_nothing() {
    if !is_root() {
        return;
    }
    let history = Path::new(env!("CARGO_TARGET_TMPDIR")).join("live.jsonl");
    let file = history.to_str().unwrap();
    let words =
        ["leader-kill", "--rounds", "2", "--lasts", "1500", "--history", file, "-o", "json"];
    let output = live(&words).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}\n{why}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["rounds"].as_array().unwrap().len(), 2, "{told}");
    assert!(told["answered"].as_u64() > Some(50), "{told}");
    assert_eq!(told["streams"].as_array().unwrap().len(), 3);
    let checked = Command::new(program("weft-sim")).arg("check").arg(&history).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn root_a_live_run_that_is_interrupted_takes_its_lab_down() {
    if !is_root() {
        return;
    }
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
