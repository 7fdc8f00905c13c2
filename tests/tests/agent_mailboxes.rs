//! Mailboxes of an agent that have room for one message: whoever has to be heard waits, what may be told again is shed and
//! counted, and told again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

mod agents;

use agents::{PATIENCE, ask, is_well, status};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};
use weft_api::agent::{Answer, Request};
use weft_tests::lab::{Lab, is_root, weft};

const PODS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: client, namespace: full}, spec: {nodeName: node1, containers: [{name: c, image: x}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: server, namespace: full, labels: {app: server}},
 spec: {nodeName: node1, containers: [{name: c, image: x, ports: [{containerPort: 80}]}]}}
";

/// For how long an actor does nothing: less than after what it would be replaced.
const ASLEEP: Duration = Duration::from_secs(3);
/// Changes meanwhile: more than one is told to the sleeper and one waits to be.
const CHANGES: usize = 4;

/// The server takes nobody in.
fn closed(name: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {name}, namespace: full}}, \
         spec: {{podSelector: {{matchLabels: {{app: server}}}}, policyTypes: [Ingress]}}}}"
    )
}

/// What an actor of node1 could not take.
fn shed(lab: &Lab, actor: &str) -> u64 {
    let actors = status(lab, "node1").unwrap().actors;
    actors.iter().find(|row| row.name == actor).unwrap().shed
}

#[test]
fn root_what_a_full_mailbox_does_not_take_is_counted_and_told_again() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let pods = folder.path().join("pods.yaml");
    std::fs::write(&pods, PODS).unwrap();
    let lab =
        Lab::up_with("mailboxes", &[&pods.display().to_string()], &[("WEFT_AGENT_MAILBOX", "1")]);
    assert!(lab.probe(&[]).values().all(|allowed| *allowed));
    let begun = Instant::now();
    let mut names = Vec::new();
    while shed(&lab, "observer") == 0 {
        assert!(begun.elapsed() < PATIENCE, "nothing was shed: {names:?}");
        let ms = u64::try_from(ASLEEP.as_millis()).unwrap();
        let stall = Request::Stall { actor: "observer".to_owned(), ms };
        assert_eq!(ask(&lab, "node1", stall), Ok(Answer::Done));
        for _ in 0..CHANGES {
            // Those that judge are told all the same: each change is in force when this returns.
            names.push(format!("closed-{}", names.len()));
            lab.change("apply", &closed(names.last().unwrap()));
        }
        sleep(ASLEEP);
    }
    eprintln!("{} policies, {} messages shed", names.len(), shed(&lab, "observer"));
    let life = status(&lab, "node1").unwrap();
    assert!(
        life.actors.iter().all(|actor| actor.incarnation == 1),
        "nobody was replaced: {life:?}"
    );
    assert!(lab.probe(&[]).iter().all(|(_, allowed)| !allowed));
    is_well(&lab, "node1");

    // With no further change the newest is known by name to who was asleep when it came.
    let newest = names.last().unwrap();
    let begun = Instant::now();
    loop {
        assert!(lab.probe(&[]).values().all(|allowed| !allowed));
        let last =
            ["flows", "--lab", &lab.name, "--verdict", "DROPPED", "--last", "1", "-o", "json"];
        let text = String::from_utf8(weft(&last).stdout).unwrap();
        if text.contains(&format!("\"{newest}\"")) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{newest} is not said: {text}");
    }
}
