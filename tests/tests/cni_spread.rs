//! A pod starts when those that may meet it know its address, or soon after.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

#[path = "cni/node.rs"]
mod node;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use node::{Node, PEER};
use std::{
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};
use weft_api::agent;
use weft_tests::lab::is_root;

/// Whether node2's kernel has an address.
fn knows(node: &Node, address: Ipv4Addr) -> bool {
    node.known_at("node2").contains(&address)
}

/// ADDs of node1 that returned before nodes knew their pods.
fn early(node: &Node) -> u64 {
    let scrape = ["node", "exec", "node1", "--", "curl", "-s", "127.0.0.1:9962/metrics"];
    let series = "weft_adds_early_total{reason=\"behind\"} ";
    let page = node.lab.does(&scrape);
    page.lines().find_map(|line| line.strip_prefix(series)?.parse().ok()).expect(&page)
}

/// What `weft status` tells of node1 beside problems.
fn notices(node: &Node) -> Vec<String> {
    match node.ask(agent::Request::Status).unwrap() {
        agent::Answer::Status(status) => status.notices,
        other => panic!("{other:?}"),
    }
}

#[test]
fn root_an_add_returns_when_those_that_may_meet_the_pod_know_it_or_soon_after() {
    if !is_root() {
        return;
    }
    let node = Node::up("spread");
    node.lab.change("apply", PEER);
    let names: Vec<String> = (0..20).map(|number| format!("p{number}")).collect();
    let pods: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "web")).collect();
    node.schedule(&pods);
    node.schedule(&[("late", "web"), ("stranger", "other"), ("alone", "web")]);
    let log = || fs::read_to_string(node.lab.dir().join("node1.log")).unwrap();
    for name in &names {
        let (_sandbox, address) = node.plugged(name);
        let told = log().contains(&address.to_string());
        assert!(knows(&node, address) || told, "{name} at {address}");
    }
    assert!(log().matches("before these nodes know").count() < 5, "{}", log());

    // An agent that stands still keeps nobody from starting.
    let agent = node.lab.status()["processes"].as_array().unwrap().iter().find_map(|process| {
        (process["name"] == "node2").then(|| i32::try_from(process["pid"].as_i64().unwrap()))
    });
    let agent = Pid::from_raw(agent.unwrap().unwrap());
    kill(agent, Signal::SIGSTOP).unwrap();
    let (_late, late) = node.plugged("late");
    let said = log().lines().find(|line| line.contains(&late.to_string())).map(str::to_owned);
    assert!(said.as_ref().is_some_and(|line| line.contains("node2")), "{said:?}");
    let told = log().matches("before these nodes know").count() as u64;
    assert_eq!(early(&node), told);
    let notices = notices(&node);
    let of_late = |told: &String| told.contains("t/late") && told.contains("before node2 knew");
    assert!(notices.iter().any(of_late), "{notices:?}");
    // Of whom node2 has to know nothing, it is not asked.
    let (_stranger, stranger) = node.plugged("stranger");
    assert!(!log().contains(&stranger.to_string()), "{}", log());
    assert_eq!(early(&node), told);
    kill(agent, Signal::SIGCONT).unwrap();
    node.becomes("node2 knows it, too", |node| knows(node, late));

    // Nor do operators that are away, of a pod that is known.
    node.lab.does(&["operator", "kill"]);
    let begun = Instant::now();
    node.plugged("alone");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    node.lab.does(&["operator", "start"]);
}
