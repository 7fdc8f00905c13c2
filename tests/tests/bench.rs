//! The benchmark runs: every row is measured, works, and nothing is left of it; its figures mean nothing here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};
use weft_tests::lab::is_root;

const BENCH: &str = env!("CARGO_BIN_EXE_weft-bench");

fn bench(arguments: &[&str]) -> Output {
    Command::new(BENCH).args(arguments).output().expect("run weft-bench")
}

/// Namespaces and labs are named after the process that made them.
#[track_caller]
fn nothing_is_left_of(pid: u32) {
    let name = format!("bench-{pid}");
    assert!(!Path::new("/run/weft/labs").join(&name).exists(), "{name} is left");
    let namespaces = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let left: Vec<_> = namespaces
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|netns| netns.starts_with(&format!("weft-{name}-")))
        .collect();
    assert!(left.is_empty(), "{left:?} are left");
}

#[test]
fn root_every_row_is_measured_and_works() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("bench.json");
    let child = Command::new(BENCH)
        .args(["--quick", "--json", json.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let (table, said) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{table}\n{said}");
    nothing_is_left_of(pid);

    let report: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!((&report["schema"], &report["trial"]), (&1.into(), &true.into()));
    let rows = report["rows"].as_array().unwrap();
    assert!(rows.len() >= 20, "{table}");
    for row in rows {
        let name = row["name"].as_str().unwrap();
        assert_eq!(row["function"]["ok"], true, "{name}: {row}");
        assert!(row["result"]["value"].is_f64(), "{name}: {row}");
        assert!(matches!(row["verdict"].as_str(), Some("measured" | "unjudged")), "{name}: {row}");
        assert_ne!(row["baseline"].is_null(), row["relation"] != "alone", "{name}: {row}");
        assert!(table.contains(row["title"].as_str().unwrap()), "{name}: {table}");
    }
}

#[test]
fn root_an_interrupted_run_takes_its_lab_down() {
    if !is_root() {
        return;
    }
    let mut child = Command::new(BENCH)
        .args(["--quick", "--only", "rr", "--rounds", "1000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let begun = lines.by_ref().map(Result::unwrap).find(|line| line.contains("1000 rounds"));
    assert!(begun.is_some(), "it ended before it measured");
    let lab = Path::new("/run/weft/labs").join(format!("bench-{pid}"));
    assert!(lab.exists(), "it measures without a lab");
    let signalled = Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap();
    assert!(signalled.success());
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(3), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("interrupted")), "{rest:?}");
    nothing_is_left_of(pid);
}

#[test]
fn wrong_usage_says_what_there_is() {
    let output = bench(&["--only", "nonsense"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    for name in ["rr", "packets", "cni", "agent", "maps"] {
        assert!(said.contains(name), "{name} is not offered: {said}");
    }
    let help = String::from_utf8_lossy(&bench(&["--help"]).stdout).into_owned();
    assert!(help.contains("interleaved") && help.contains("Exit codes"), "{help}");
}
