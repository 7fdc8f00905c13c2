//! Every program says what it is and how it is configured, and refuses what it does not know by name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use std::{fs, process::Command};
use weft_tests::lab::program;

/// Exit code, and both outputs.
fn run(name: &str, words: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(program(name));
    command.args(words).env_remove("CNI_COMMAND");
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn every_program_says_its_version() {
    for (name, parts) in [
        ("weft", &["(commit ", "ABI ", "wire ", "local API "][..]),
        ("weft-agent", &["(commit ", "ABI ", "wire ", "local API "]),
        ("weft-operator", &["(commit ", "ABI ", "wire ", "local API "]),
        ("weft-cni", &["(commit ", "local API ", "CNI ", "1.1.0"]),
    ] {
        let (code, said) = run(name, &["--version"]);
        assert_eq!(code, Some(0), "{name}: {said}");
        assert!(said.starts_with(&format!("{name} ")), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    }
}

#[test]
fn help_says_what_is_so_where_nothing_is_said() {
    let agent = ["/run/weft", "/var/lib/weft/agent", "/sys/fs/bpf/weft", "10s", "6s", "30s", "256"];
    let operator = ["/var/lib/weft/operator", "/run/weft/operator.sock", "16MiB", "4MiB", "512"];
    for (name, defaults) in [("weft-agent", &agent[..]), ("weft-operator", &operator)] {
        let (code, help) = run(name, &["--help"]);
        assert_eq!(code, Some(0));
        for default in defaults {
            assert!(help.contains(&format!("[default: {default}]")), "{default} is not in {help}");
        }
        let prefix = name.to_uppercase().replace('-', "_");
        assert!(help.contains(&format!("[env: {prefix}_STATE_DIR=")), "{help}");
        // One name is the flag and the variable; RUST_LOG is every Rust program's own.
        let mut flag = "";
        for line in help.lines().map(str::trim) {
            if let Some((_, rest)) = line.split_once("--") {
                flag = rest.split([' ', '=']).next().unwrap();
            }
            if let Some((_, variable)) = line.split_once("[env: ") {
                let variable = variable.split('=').next().unwrap();
                let named = format!("{prefix}_{}", flag.to_uppercase().replace('-', "_"));
                assert!([&*named, "RUST_LOG"].contains(&variable), "--{flag} is {variable}");
            }
        }
        // A line of help for each flag.
        let mut lines = help.lines().skip_while(|line| !line.starts_with("Options:")).peekable();
        while let Some(line) = lines.next() {
            if line.trim_start().starts_with("--") {
                assert!(lines.peek().is_some_and(|next| !next.trim().is_empty()), "{line}");
            }
        }
    }
}

#[test]
fn an_unknown_key_is_refused_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weft.yaml");
    for (name, text, part) in [
        ("weft-agent", "node: a\nmap-sweeep: 5s\n", "unknown key \"map-sweeep\""),
        ("weft-agent", "map-sweep: often\n", "--map-sweep"),
        ("weft-agent", "mailbox: 0\n", "--mailbox"),
        ("weft-agent", "allow-faults: true\n", "unknown key \"allow-faults\""),
        ("weft-operator", "history: 1\n", "unknown key \"history\""),
        ("weft-operator", "history-size: large\n", "--history-size"),
        ("weft-operator", "log-format: yaml\n", "--log-format"),
        ("weft-operator", "cluster: [\n", "weft.yaml"),
    ] {
        fs::write(&file, text).unwrap();
        let (code, said) = run(name, &["--config", file.to_str().unwrap()]);
        assert_eq!(code, Some(2), "{name} of {text}: {said}");
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}
