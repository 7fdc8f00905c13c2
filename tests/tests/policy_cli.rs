//! `weft policy matrix` and `explain` as people and programs run them: no root, no agent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Command, Output, Stdio},
};
use weft_tests::oracle::{Endpoint, Oracle, Port};

/// Two nodes; a policy about each feature that the command line itself has: nodes, outsiders, ICMP.
const CLUSTER: &str = r"
{apiVersion: v1, kind: Namespace, metadata: {name: a}}
---
{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDR: 10.0.1.0/24}, status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}, spec: {podCIDR: 10.0.2.0/24}, status: {addresses: [{type: InternalIP, address: 192.168.0.2}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: a, labels: {app: web}}
spec: {nodeName: n1, containers: [{name: c, image: i, ports: [{name: http, containerPort: 80}, {name: dns, protocol: UDP, containerPort: 53}]}]}
status: {podIP: 10.0.1.5}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: a, labels: {app: db}}
spec: {nodeName: n2, containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]}
status: {podIP: 10.0.2.5}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db-in, namespace: a}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
    - from: [{podSelector: {matchLabels: {app: web}}}]
      ports: [{port: http}]
    - from: [{ipBlock: {cidr: 192.168.0.0/16, except: [192.168.0.2/32]}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web-out, namespace: a}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress:
    - to: [{ipBlock: {cidr: 0.0.0.0/0, except: [8.0.0.0/8, 10.0.2.64/26]}}]
";
const OUTSIDERS: [(&str, &str); 2] = [("dns", "8.8.8.8"), ("web", "1.1.1.1")];

fn program() -> PathBuf {
    // This test is target/debug/deps/policy_cli-…; the programs lie one folder up.
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("weft")
}

fn weft(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(program());
    command.args(arguments);
    fed(command, input)
}

fn fed(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run weft: `cargo build --workspace` first");
    // Who refuses its arguments reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn endpoint(name: &str) -> Endpoint {
    match name.split_once(':') {
        Some(("node", name)) => Endpoint::Node(name.to_owned()),
        Some(("ext", name)) => {
            let outsider = OUTSIDERS.iter().find(|(known, _)| *known == name).unwrap();
            Endpoint::External(outsider.1.parse().unwrap())
        }
        _ => Endpoint::Pod(name.to_owned()),
    }
}

type Key = (String, String, String, u64);

/// Runs `policy matrix` and holds every row against the oracle.
#[track_caller]
fn matrix(ports: &[&str]) -> BTreeMap<Key, Value> {
    let mut arguments = vec!["policy", "matrix", "-f", "-", "-o", "json"];
    let outsiders: Vec<String> = OUTSIDERS.iter().map(|(n, a)| format!("{n}={a}")).collect();
    outsiders.iter().for_each(|outsider| arguments.extend(["--external", outsider]));
    if !ports.is_empty() {
        arguments.push("--port");
        arguments.extend(ports);
    }
    let output = weft(&arguments, CLUSTER);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let oracle = Oracle::parse(CLUSTER).unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let mut rows = BTreeMap::new();
    for row in answer["rows"].as_array().unwrap() {
        let number = row["port"].as_u64().unwrap();
        let port = Port { protocol: text(row, "protocol"), number: u16::try_from(number).unwrap() };
        let (from, to) = (text(row, "from"), text(row, "to"));
        let expected = oracle.judge(&endpoint(&from), &endpoint(&to), &port).unwrap();
        let said = |side: &Value| side["verdict"] == "allowed";
        assert_eq!(said(&row["egress"]), expected.egress, "{row}");
        assert_eq!(said(&row["ingress"]), expected.ingress, "{row}");
        assert_eq!(said(row), expected.allowed(), "{row}");
        let twice = rows.insert((from, to, port.protocol, number), row.clone());
        assert_eq!(twice, None);
    }
    rows
}

fn key(from: &str, to: &str, protocol: &str, port: u64) -> Key {
    (from.to_owned(), to.to_owned(), protocol.to_owned(), port)
}

#[test]
fn the_matrix_is_the_oracles() {
    let rows = matrix(&["TCP/80", "TCP/8080", "UDP/53", "ICMP/8"]);
    // Two pods, two nodes, two outsiders: 30 ordered pairs, 4 ports.
    assert_eq!(rows.len(), 120);
    let row = &rows[&key("a/web", "a/db", "TCP", 8080)];
    assert_eq!(row["egress"]["rules"], serde_json::json!(["a/web-out egress[0]"]));
    assert_eq!(row["ingress"]["rules"], serde_json::json!(["a/db-in ingress[0]"]));
    let row = &rows[&key("node:n2", "a/db", "ICMP", 8)];
    assert_eq!(row["ingress"]["reason"], "own-node");
    let row = &rows[&key("a/web", "ext:dns", "ICMP", 8)];
    assert_eq!(row["egress"]["isolated_by"], serde_json::json!(["a/web-out"]));
}

#[test]
fn ports_are_the_declared_ones_by_default() {
    let rows = matrix(&[]);
    let ports = |to: &str| -> Vec<(String, u64)> {
        let to_it = rows.keys().filter(|row| row.0 == "a/web" && row.1 == to);
        to_it.map(|row| (row.2.clone(), row.3)).collect()
    };
    assert_eq!(ports("a/db"), [("TCP".to_owned(), 8080)]);
    assert_eq!(ports("ext:dns").len(), 3);
}

#[test]
fn explain_says_which_rule_decided_and_why() {
    let explain = |from: &str, to: &str, port: &str| {
        let arguments =
            ["policy", "explain", "-f", "-", "--from", from, "--to", to, "--port", port];
        let output = weft(&arguments, CLUSTER);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = explain("a/web", "a/db", "TCP/8080");
    assert!(text.starts_with("a/web (10.0.1.5) -> a/db (10.0.2.5), TCP/8080: allowed\n"), "{text}");
    assert!(text.contains("allowed by a/db-in ingress[0]\n"), "{text}");
    assert!(text.contains("TCP port named \"http\" from pods"), "{text}");

    let text = explain("a/web", "a/db", "TCP/80");
    assert!(text.contains("isolated by a/db-in, and no rule allows it"), "{text}");
    assert!(text.contains("but not this port"), "{text}");

    // A block is told apart where policies, pods and nodes do.
    let text = explain("a/web", "8.0.0.0/7", "TCP/53");
    assert!(text.contains("-> 8.0.0.0/7 (9.0.0.0), TCP/53: allowed"), "{text}");
    assert!(text.contains("-> 8.0.0.0/8 (8.0.0.0), TCP/53: denied"), "{text}");
    assert!(text.contains("but not this peer"), "{text}");
}

/// A label that makes no identity tells no pods apart: the policies that select by it select nobody.
#[test]
fn labels_are_filtered_as_the_cluster_filters_them() {
    let denied = |more: &[&str]| {
        let words =
            [&["policy", "matrix", "-f", "-", "-o", "json", "--port", "TCP/1"], more].concat();
        let output = weft(&words, CLUSTER);
        assert!(output.status.success(), "{output:?}");
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = rows["rows"].as_array().unwrap().iter();
        let denied = rows.filter(|row| row["verdict"] == "denied").count();
        (denied, String::from_utf8(output.stderr).unwrap())
    };
    assert!(denied(&[]).0 > 0);
    assert_eq!(denied(&[]), denied(&["--labels", "!tier"]));
    let (none, said) = denied(&["--labels", "!app"]);
    assert_eq!(none, 0);
    assert!(said.contains("the label filter drops it"), "{said}");
    let validated = weft(&["policy", "validate", "-f", "-", "--labels", "!app"], CLUSTER);
    assert_eq!(validated.status.code(), Some(0));
    assert!(String::from_utf8(validated.stderr).unwrap().contains("the label filter drops it"));
    assert_eq!(
        weft(&["policy", "matrix", "-f", "-", "--labels", "!"], CLUSTER).status.code(),
        Some(2)
    );
}

#[test]
fn an_address_that_no_cluster_gave_is_told_as_assumed() {
    let unplaced = CLUSTER.replace("status: {podIP: 10.0.2.5}", "");
    let ask =
        ["policy", "explain", "-f", "-", "--from", "a/web", "--to", "a/db", "--port", "TCP/8080"];
    let told = String::from_utf8(weft(&ask, &unplaced).stdout).unwrap();
    assert!(told.starts_with("a/web (10.0.1.5) -> a/db (10.0.2.2 assumed), TCP/8080: "), "{told}");
}

#[test]
fn wrong_questions_are_refused() {
    let code = |arguments: &[&str]| {
        let output = weft(arguments, CLUSTER);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (exit, said) =
        code(&["policy", "explain", "-f", "-", "--from", "a/x", "--to", "a/db", "--port", "TCP/1"]);
    assert_eq!(exit, Some(3));
    assert!(said.contains("a/x") && said.contains("a/web"), "{said}");
    let (exit, said) = code(&["policy", "matrix", "-f", "-", "--external", "x=10.0.1.5"]);
    assert_eq!(exit, Some(3));
    assert!(said.contains("a/web"), "{said}");
    for wrong in ["TCP", "GRE/1", "ICMP/256"] {
        assert_eq!(code(&["policy", "matrix", "-f", "-", "--port", wrong]).0, Some(2), "{wrong}");
    }
}

/// A copy of the program alone, run by nobody from nowhere with nothing in the environment.
#[test]
fn the_offline_commands_need_neither_root_nor_anything_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let alone = folder.path().join("weft");
    fs::copy(program(), &alone).unwrap();
    let explain = "policy explain -f - --from a/web --to a/db --port TCP/8080";
    for words in ["policy matrix -f -", "policy validate -f -", explain] {
        let mut command = Command::new(&alone);
        command.args(words.split(' ')).env_clear().current_dir("/");
        if nix::unistd::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        let output = fed(command, CLUSTER);
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        let said = [output.stdout, output.stderr].concat();
        assert!(!said.is_empty(), "{words}");
    }
}
