//! Three operators over an etcd of three members: whoever leads may be killed at any moment.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use serde_json::Value;
use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};
use weft_tests::lab::{Lab, example, is_root, program, weft};

/// Two elections, on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(30);

/// `weft cluster status`: every operator, and whether all is well.
fn cluster(lab: &Lab) -> (Vec<Value>, bool) {
    let output = weft(&["cluster", "status", "--lab", &lab.name, "-o", "json"]);
    (serde_json::from_slice(&output.stdout).unwrap(), output.status.success())
}

/// Who leads and takes changes.
fn leader(lab: &Lab) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let leads = |row: &&Value| row["serving"] == true;
        if let Some(row) = cluster(lab).0.iter().find(leads) {
            return row["operator"].as_str().unwrap().to_owned();
        }
        assert!(Instant::now() < until, "nobody leads");
        thread::sleep(Duration::from_millis(50));
    }
}

/// How many agents are connected, as each operator says.
fn agents(lab: &Lab) -> Vec<usize> {
    let connected = |row: &Value| {
        let agents = row["agents"].as_array().unwrap();
        agents.iter().filter(|agent| agent["connected"] == true).count()
    };
    cluster(lab).0.iter().map(connected).collect()
}

/// Which operator each node's agent is connected to.
fn whereabouts(lab: &Lab) -> Vec<(String, Option<u64>)> {
    let (operators, _) = cluster(lab);
    let agents = operators.first().and_then(|row| row["agents"].as_array()).cloned();
    let of = |agent: &Value| (agent["node"].to_string(), agent["operator"].as_u64());
    agents.unwrap_or_default().iter().map(of).collect()
}

fn pod(number: u32, node: u32) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: late-{number}, namespace: extra, labels: {{late: \"{number}\"}}}}\n\
         spec:\n  nodeName: node{node}\n  containers: [{{name: c, image: i, ports: [{{containerPort: 8080}}]}}]\n"
    )
}

#[test]
fn root_each_leader_of_three_operators_is_killed_and_changes_go_on() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("group");
    let up = ["lab", "up", "--name", &lab.name, "-f", &example("shop.yaml")];
    let up = Command::new(program("weft"))
        .args([&up[..], &["--operators", "3", "--store", "etcd"]].concat())
        .env("WEFT_AGENT_SESSION_AWAY", "3s")
        .output()
        .unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let (operators, well) = cluster(&lab);
    assert!(well, "{operators:?}");
    assert_eq!(operators.len(), 3);
    let members = operators[0]["members"].as_array().unwrap();
    assert!(members.len() == 3 && members.iter().all(|m| m["voter"] == true), "{members:?}");
    let before = lab.probe(&[]);
    let spread = whereabouts(&lab);
    for round in 0..3 {
        let killed = leader(&lab);
        lab.does(&["operator", "kill", "--operator", &killed]);
        // Its successor allocates the number of a new label set, and agents are told by whoever is left.
        lab.change("apply", &pod(round, 1 + round % 2));
        assert_ne!(leader(&lab), killed);
        assert!(!cluster(&lab).1, "one is away, and that is said");
        lab.does(&["operator", "start", "--operator", &killed]);
    }
    let after = lab.probe(&[]);
    let kept = after.iter().filter(|(pair, _)| before.contains_key(*pair)).count();
    assert_eq!(kept, before.len());
    assert!(before.iter().all(|(pair, allowed)| after[pair] == *allowed));
    assert_eq!(lab.status()["pods"].as_array().unwrap().len(), 9);
    // Agents may be with different operators: each knows of all.
    lab.does(&["agent", "kill", "--node", "node1"]);
    lab.does(&["agent", "start", "--node", "node1"]);
    let until = Instant::now() + PATIENCE;
    while agents(&lab) != [2, 2, 2] {
        assert!(Instant::now() < until, "{:?}", cluster(&lab));
        thread::sleep(Duration::from_millis(50));
    }
    let waited = weft(&["policy", "wait", "--lab", &lab.name]);
    assert!(waited.status.success(), "{waited:?}");
    // Whose operator was away goes back to it.
    while whereabouts(&lab) != spread {
        assert!(Instant::now() < until, "{:?}, and not {spread:?}", whereabouts(&lab));
        thread::sleep(Duration::from_millis(50));
    }
    // In order it is handed over at once.
    let moved = weft(&["cluster", "transfer", "--lab", &lab.name]);
    assert!(moved.status.success(), "{moved:?}");
}

#[test]
fn root_several_operators_need_a_store_that_they_share() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("group");
    let refused = lab.run(&["up", "-f", &example("shop.yaml"), "--operators", "3"]);
    assert_eq!(refused.status.code(), Some(2));
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(why.contains("add --store etcd"), "{why}");
}
