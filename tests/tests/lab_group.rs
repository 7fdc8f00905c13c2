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
    process::{Command, Output},
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

/// `weft cluster …` of a lab.
fn asked(lab: &Lab, words: &[&str]) -> Output {
    weft(&[&["cluster"], words, &["--lab", &lab.name]].concat())
}

/// The same, of what is so unless somebody is being elected just now.
fn told(lab: &Lab, words: &[&str]) -> Output {
    let until = Instant::now() + PATIENCE;
    loop {
        let output = asked(lab, words);
        if output.status.success() {
            return output;
        }
        assert!(Instant::now() < until, "{output:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Who is of the group, and as what.
fn members(lab: &Lab) -> Vec<(u64, String, String)> {
    let output = told(lab, &["member", "list", "-o", "json"]);
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows.iter().filter(|row| row["leads"] == true).count(), 1, "{rows:?}");
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let of =
        |row: &Value| (row["member"].as_u64().unwrap(), text(row, "address"), text(row, "role"));
    rows.iter().map(of).collect()
}

/// What a command prints, line by line and word by word.
fn table(output: &Output) -> Vec<Vec<String>> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// The group as people see it, one that is well.
fn looks_well(lab: &Lab) {
    let output = told(lab, &["status"]);
    let lines = table(&output);
    let [headings, first, second, third, apart, of_nodes, one, two] = &lines[..] else {
        panic!("{output:?}")
    };
    assert_eq!(
        [&headings[..3], &headings[8..]].concat(),
        ["OPERATOR", "MEMBER", "ROLE", "AGENTS", "STORE"]
    );
    let mut roles = Vec::new();
    for (operator, number) in [first, second, third].into_iter().zip(1..) {
        assert_eq!(operator[..2], [format!("operator{number}"), number.to_string()]);
        roles.push(operator[2].as_str());
        assert_eq!(operator.last().unwrap(), "ok", "each sees the store: {output:?}");
    }
    roles.sort_unstable();
    assert_eq!(roles, ["follower", "follower", "leader"]);
    assert!(apart.is_empty());
    assert_eq!(of_nodes[..], ["NODE", "OPERATOR", "REVISION", "PROBLEM"]);
    for (node, name) in [one, two].into_iter().zip(["node1", "node2"]) {
        assert!(node[0] == name && matches!(node[1].as_str(), "1" | "2" | "3"), "{output:?}");
        assert!(node[2].contains('.'), "a revision: {output:?}");
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
    looks_well(&lab);
    members_come_and_go(&lab);
    // In order it is handed over at once: to somebody, or to whom one says.
    let moved = asked(&lab, &["transfer"]);
    assert!(moved.status.success(), "{moved:?}");
    let before = leader(&lab);
    let to = ["1", "2", "3"].into_iter().find(|to| !before.ends_with(to)).unwrap();
    let until = Instant::now() + PATIENCE;
    while leader(&lab) != format!("operator{to}") {
        assert!(Instant::now() < until, "{:?}", cluster(&lab));
        let moved = asked(&lab, &["transfer", "--to", to]);
        assert!(moved.status.success(), "{moved:?}");
        // Until it leads: an election's time, most likely less.
        thread::sleep(Duration::from_millis(500));
        let now = leader(&lab);
        assert!(now == before || now == format!("operator{to}"), "{now} leads, and was not named");
    }
}

/// A member is added that never runs, and removed: it is listed, said to be away, and does not vote.
fn members_come_and_go(lab: &Lab) {
    let three = members(lab);
    let numbers: Vec<u64> = three.iter().map(|(number, ..)| *number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(three.iter().all(|(.., role)| role == "voter"), "{three:?}");
    let address = "172.30.0.1:4999";
    let fourth = asked(lab, &["member", "add", "4", address]);
    assert!(fourth.status.success(), "{fourth:?}");
    let four = members(lab);
    assert_eq!(four[..3], three[..]);
    assert_eq!(four[3..], [(4, address.to_owned(), "learner".to_owned())]);
    let listed = table(&told(lab, &["member", "list"]));
    assert_eq!(listed[0], ["MEMBER", "ADDRESS", "ROLE", "LEADS", "LAG"]);
    assert_eq!(listed[4][..3], ["4", address, "learner"]);
    let seen = asked(lab, &["status"]);
    assert_eq!(seen.status.code(), Some(1), "one is away: {seen:?}");
    let away = table(&seen).into_iter().find(|words| words.first().is_some_and(|it| it == address));
    assert_eq!(away.unwrap()[1], "away");
    let refused = asked(lab, &["member", "promote", "4"]);
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains("member 4 is behind"), "{refused:?}");
    let removed = asked(lab, &["member", "remove", "4"]);
    assert!(removed.status.success(), "{removed:?}");
    assert_eq!(members(lab), three);
    told(lab, &["status"]);
    let refused = asked(lab, &["member", "remove", "4"]);
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains("there is no such member"), "{refused:?}");
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
