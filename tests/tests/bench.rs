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

/// Every row that there is, by name: one that comes or goes is written here, too.
const ROWS: [&str; 44] = [
    "agent-idle-cpu",
    "agent-rss",
    "change-bytes",
    "cni-add-p50",
    "cni-add-p99",
    "identity-lone-p50",
    "identity-lone-p99",
    "identity-rate",
    "lab-up",
    "map-sync",
    "new-pod-rate",
    "packet-answer",
    "packet-denied",
    "packet-denied-once",
    "packet-denied-rotating",
    "packet-first",
    "packet-in",
    "packet-node",
    "packet-node-64k",
    "packet-node-single",
    "packet-out",
    "policy-p50",
    "policy-p99",
    "push",
    "push-over-tls",
    "session-rss",
    "simulator-speed",
    "snapshot-bytes",
    "tcp-crr-across",
    "tcp-crr-across-redirects",
    "tcp-crr-node",
    "tcp-crr-node-redirects",
    "tcp-rr-across",
    "tcp-rr-across-redirects",
    "tcp-rr-node",
    "tcp-rr-node-redirects",
    "tcp-stream-across",
    "tcp-stream-across-redirects",
    "tcp-stream-node",
    "tcp-stream-node-redirects",
    "udp-rr-across",
    "udp-rr-across-redirects",
    "udp-rr-node",
    "udp-rr-node-redirects",
];

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
    let mut names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ROWS, "{table}");
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
