//! A policy that needs more of a kernel's map than there is: refused, with the rule's name; what was in force stays so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

mod agents;

use agents::{PATIENCE, ask, comes_to};
use std::{fmt::Write, time::Instant};
use weft_api::{
    agent::{Answer, Request, Status},
    operator,
    transport::{Client, Options},
};
use weft_tests::lab::{Lab, is_root, weft};
use weft_types::{Node, NodeName, Object};

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: room, labels: {app: client}}
spec: {containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: room, labels: {app: server}}
spec: {containers: [{name: c, image: x, ports: [{containerPort: 80}, {containerPort: 81}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: one-port, namespace: room}
spec: {podSelector: {matchLabels: {app: server}}, ingress: [{ports: [{port: 80}]}]}
";

#[test]
fn root_a_policy_without_room_is_refused_by_name_and_changes_nothing() {
    if !is_root() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("weft-room-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let lab =
        Lab::up_with("room", &[&file("pods.yaml", PODS)], &[("WEFT_AGENT_CLASS_ENTRIES", "8")]);
    let before = lab.probe(&[]);
    assert!(before.values().any(|allowed| *allowed) && before.values().any(|allowed| !allowed));

    let mut ports = String::new();
    (0..20).for_each(|n| write!(ports, "{{port: {}}},", 1000 + 2 * n).unwrap());
    let policy = format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: too-much, namespace: room}}, \
         spec: {{podSelector: {{matchLabels: {{app: server}}}}, ingress: [{{}}, {{ports: [{ports}]}}]}}}}"
    );
    let path = file("policy.yaml", &policy);
    let begun = Instant::now();
    let refused = lab.run(&["apply", "-f", &path]);
    let took = begun.elapsed();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("may have 8: 20 of them come from room/too-much ingress[0]"), "{said}");
    // Who waits for a kernel that is slow waits for a minute.
    assert!(took < PATIENCE, "it was said after {took:?}: {said}");
    let status = weft(&["status", "--lab", &lab.name]);
    let table = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(status.status.code(), Some(1), "{table}");
    assert!(table.contains("come from room/too-much ingress[0]"), "{table}");
    let waited = weft(&["policy", "wait", "--timeout", "1s", "--lab", &lab.name]);
    let table = String::from_utf8_lossy(&waited.stdout).into_owned();
    assert_eq!(waited.status.code(), Some(1), "{table}");
    assert!(table.contains("come from room/too-much ingress[0]"), "{table}");
    // Its first rule would let anyone in.
    assert_eq!(lab.probe(&[]), before, "what was in force stays so");
    // Nor do actors that are made anew lose it.
    for actor in ["map-classes", "ipcache", "policy"] {
        let lives = |status: &Status| {
            let row = status.actors.iter().find(|row| row.name == actor).unwrap();
            (row.incarnation, row.state == "running")
        };
        let (life, _) = lives(&agents::status(&lab, "node1").unwrap());
        let crash = Request::Crash { actor: actor.to_owned() };
        assert_eq!(ask(&lab, "node1", crash), Ok(Answer::Done));
        comes_to(&lab, "node1", |status| lives(status) == (life + 1, true));
        assert_eq!(lab.probe(&[]), before, "after {actor} was made anew");
    }

    // Without it the kernel follows again.
    lab.does(&["delete", "networkpolicy", "room/too-much"]);
    assert_eq!(weft(&["status", "--lab", &lab.name]).status.code(), Some(0));
    assert_eq!(lab.probe(&[]), before);
    assert_eq!(weft(&["policy", "wait", "--lab", &lab.name]).status.code(), Some(0));

    // What was said at `lab up` is said to agents that are started later, too.
    for node in ["node1", "node2"] {
        lab.does(&["agent", "kill", "--node", node]);
        lab.does(&["agent", "start", "--node", node]);
    }
    let refused = lab.run(&["apply", "-f", &path]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("come from room/too-much ingress[0]"), "{said}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn root_an_address_and_a_prefix_without_room_are_refused_by_name() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    // Two nodes and two pods.
    let sizes = [("WEFT_AGENT_ADDRESS_ENTRIES", "4"), ("WEFT_AGENT_POLICY_PREFIXES", "2")];
    let lab = Lab::up_with("crowded", &[&file("pods.yaml", PODS)], &sizes);
    let before = lab.probe(&[]);
    let far = Object::Node(Node {
        name: NodeName("far".to_owned()),
        address: [192, 0, 2, 77].into(),
        pod_cidrs: vec!["10.99.0.0/24".parse().unwrap()],
    });
    let desire = |request: operator::Request| {
        let socket = lab.dir().join("operator.sock");
        let mut client = Client::connect(&socket, PATIENCE).unwrap();
        client.call(request, Options::within(PATIENCE)).unwrap()
    };
    desire(operator::Request::Apply { objects: vec![far.clone()] });
    let waited = weft(&["policy", "wait", "--timeout", "1s", "--lab", &lab.name]);
    for told in [waited, weft(&["status", "--lab", &lab.name])] {
        let table = String::from_utf8_lossy(&told.stdout).into_owned();
        assert_eq!(told.status.code(), Some(1), "{table}");
        let wanted = "would have 5 addresses and may have 4: node far (192.0.2.77) finds no room";
        assert!(table.contains(wanted) && table.contains("--address-entries"), "{table}");
    }
    desire(operator::Request::Delete { objects: vec![far] });
    assert_eq!(lab.probe(&[]), before);

    let blocks = ["0.0.0.0/0", "192.0.2.0/24", "198.51.100.0/24"];
    let blocks = blocks.map(|cidr| format!("{{ipBlock: {{cidr: {cidr}}}}}")).join(", ");
    let policy = format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: blocks, namespace: room}}, \
         spec: {{podSelector: {{matchLabels: {{app: server}}}}, ingress: [{{from: [{blocks}]}}]}}}}"
    );
    let refused = lab.run(&["apply", "-f", &file("policy.yaml", &policy)]);
    let waited = weft(&["policy", "wait", "--timeout", "1s", "--lab", &lab.name]);
    let status = weft(&["status", "--lab", &lab.name]);
    for (told, code) in [(refused, 3), (waited, 1), (status, 1)] {
        let text = String::from_utf8([told.stdout, told.stderr].concat()).unwrap();
        assert_eq!(told.status.code(), Some(code), "{text}");
        let wanted = "would name 3 prefixes and may name 2: room/blocks names 3 of them";
        assert!(text.contains(wanted) && text.contains("--policy-prefixes"), "{text}");
    }
    // The whole world would reach every port.
    assert_eq!(lab.probe(&[]), before);
    lab.does(&["delete", "networkpolicy", "room/blocks"]);
    assert_eq!(lab.probe(&[]), before);
    assert_eq!(weft(&["status", "--lab", &lab.name]).status.code(), Some(0));
}
