//! The agent is killed again and again under load: pods keep every connection, open new ones while it is away, and
//! nobody gets more.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

mod agents;

use agents::{endpoints, is_well};
use std::{
    io::{Read, Write},
    net::TcpStream,
    ops::Range,
    thread::sleep,
    time::{Duration, Instant},
};
use weft_tests::{
    lab::{Lab, is_root},
    load::{Load, bed},
    seed::Chance,
};

const NODES: [&str; 2] = ["node1", "node2"];

/// How often, how long it is away, and how long it may live before the next time, in milliseconds.
struct Trial {
    kills: u32,
    away: Range<u64>,
    lives: Range<u64>,
}

/// Kills agents under load. Some die long before they have recovered from the time before.
fn killed(lab: &Lab, chance: &mut Chance, trial: &Trial) {
    let load = Load::over(lab);
    sleep(Duration::from_millis(500));
    let begun = Instant::now();
    for number in 1..=trial.kills {
        let dead = chance.one_of::<[&str]>(&[&["node1"], &["node2"], &NODES]);
        let (away, lives) = (chance.time(&trial.away), chance.time(&trial.lives));
        eprintln!("kill {number}/{}: {dead:?}, away {away:?}, then {lives:?}", trial.kills);
        dead.iter().for_each(|node| drop(lab.does(&["agent", "kill", "--node", node])));
        load.away(true);
        sleep(away);
        load.away(false);
        dead.iter().for_each(|node| drop(lab.does(&["agent", "start", "--node", node])));
        sleep(lives);
        load.goes_on(&format!("by kill {number}"));
    }
    for node in NODES {
        eprintln!("{node}: well after {:?}", is_well(lab, node));
        let rows = endpoints(lab, node);
        assert!(rows.iter().all(|row| row.state == "ready"), "{rows:?}");
        assert_eq!(rows.len(), if node == "node1" { 4 } else { 3 }, "{rows:?}");
    }
    let took = begun.elapsed();
    let outcome = load.end();
    eprintln!("{} kills in {took:?}: {outcome:?}", trial.kills);
    NODES.iter().for_each(|node| eprintln!("{node}: {}", drops(lab, node).join(", ")));
    assert!(outcome.opened.1 > 0, "no connection was opened while an agent was away: {outcome:?}");
    // The same load for as long, left alone: what this machine loses by itself.
    let load = Load::over(lab);
    let unharmed = outcome.lost == 0 && outcome.slowest_ms < 1000;
    sleep(if unharmed { Duration::from_secs(2) } else { took });
    let alone = load.end();
    eprintln!("left alone: {alone:?}");
    assert!(outcome.lost <= alone.lost, "{outcome:?}; left alone {alone:?}");
    // Who loses the first packet of a connection waits a second.
    let waited = outcome.slowest_ms >= 1000 && alone.slowest_ms < 1000;
    assert!(!waited, "{outcome:?}; left alone {alone:?}");
}

/// What the programs of a node dropped, by reason and direction: the forbidden, and what should not have been.
fn drops(lab: &Lab, node: &str) -> Vec<String> {
    let text = lab.on_node(node, || {
        let mut stream = TcpStream::connect(("127.0.0.1", 9962)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let drops = text.lines().filter_map(|line| line.strip_prefix("weft_drop_count_total"));
    drops.map(str::to_owned).collect()
}

fn run(trial: &Trial) {
    if !is_root() {
        return;
    }
    let mut chance = Chance::of("agent_killed");
    let lab = bed("killed");
    let before = lab.probe(&[]);
    killed(&lab, &mut chance, trial);
    assert_eq!(lab.probe(&[]), before);
}

#[test]
fn root_agents_are_killed_at_random_and_missed_by_nobody() {
    run(&Trial { kills: 20, away: 0..800, lives: 0..600 });
}

/// Away for up to 5 s; `make test-long` runs it.
#[test]
#[ignore = "takes minutes"]
fn root_agents_are_killed_at_random_and_away_for_long() {
    run(&Trial { kills: 60, away: 0..5_000, lives: 0..2_000 });
}
