//! Plugin and agent killed in the midst of ADD and DEL, and namespaces that vanish under them: every retry ends well, and
//! nothing is left over.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

#[path = "cni/node.rs"]
mod node;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use node::{Node, PATIENCE, PEER, Sandbox};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    ops::Range,
    thread,
    time::{Duration, Instant},
};
use weft_tests::{lab::is_root, seed::Chance};

const PODS: usize = 8;
/// When something is killed, in milliseconds: a call takes some 10, with others beside it more.
const MOMENT: Range<u64> = 0..60;

/// What becomes of a pod in a round.
#[derive(Clone, Copy, Debug)]
enum Mishap {
    /// Its plugin is killed.
    Plugin(&'static str, Duration),
    /// Its namespace goes.
    Namespace(&'static str, Duration),
    /// None: it is only there when the agent is killed.
    None(&'static str),
}

impl Mishap {
    fn by(chance: &mut Chance) -> Self {
        let command = if chance.number().is_multiple_of(2) { "ADD" } else { "DEL" };
        let after = chance.time(&MOMENT);
        match chance.number() % 4 {
            0 | 1 => Self::Plugin(command, after),
            2 => Self::Namespace(command, after),
            _ => Self::None(command),
        }
    }

    fn comes_to(self, node: &Node, pod: &Sandbox) {
        let (network, runtime) = (&node.network, &node.runtime);
        match self {
            Self::Plugin(command, after) => runtime.kills(command, network, &pod.container, after),
            Self::Namespace(command, after) => {
                thread::scope(|scope| {
                    scope.spawn(|| call(node, command, pod));
                    thread::sleep(after);
                    pod.netns.remove();
                });
                // The next sandbox has the same path, as those of some runtimes do.
                pod.netns.make();
            }
            Self::None(command) => call(node, command, pod),
        }
    }
}

/// A call whose end nobody waits for.
fn call(node: &Node, command: &str, pod: &Sandbox) {
    let done = match command {
        "ADD" => node.add(pod).map(drop),
        _ => node.runtime.delete(&node.network, &pod.container),
    };
    if let Err(failure) = done {
        assert!([5, 8, 11, 100].contains(&failure.code), "{command}: {failure:?}");
    }
}

/// The same call until it succeeds, as a runtime repeats it.
#[track_caller]
fn retried<T>(what: &str, attempt: impl Fn() -> Result<T, weft_tests::cni::Failure>) -> T {
    let begun = Instant::now();
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(failure) => assert!(begun.elapsed() < PATIENCE, "{what}: {failure:?}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The agent's row of `weft lab status`.
fn agent_of(node: &Node) -> Value {
    let status = node.lab.status();
    let mut processes = status["processes"].as_array().unwrap().iter();
    processes.find(|process| process["name"] == "node1").expect("node1 has an agent").clone()
}

fn pid_of(node: &Node) -> Pid {
    Pid::from_raw(agent_of(node)["pid"].as_i64().unwrap().try_into().unwrap())
}

/// Who is there and who is not, as the runtime wants it; the node agrees.
fn settles(node: &Node, pods: &[Sandbox], chance: &mut Chance) {
    let mut expected = BTreeSet::new();
    for pod in pods {
        let stays = chance.number().is_multiple_of(2);
        if stays {
            let address: Ipv4Addr = retried("ADD", || node.add(pod));
            assert!(expected.insert(address), "{address} twice");
            node.runtime.check(&node.network, &pod.container).unwrap();
        } else {
            retried("DEL", || node.runtime.delete(&node.network, &pod.container));
        }
    }
    // A DEL whose plugin was killed may be in the queue of one that is gone by now.
    node.becomes("the queue is empty", |node| {
        node.queued().iter().all(|file| file.extension().is_some_and(|end| end == "new"))
    });
    let there: BTreeSet<Ipv4Addr> = node.endpoints().iter().map(|row| row.address).collect();
    assert_eq!(there, expected);
    assert_eq!(node.links().len(), expected.len());
    node.becomes("nothing is left over", |node| node.problems().is_empty());
    node.becomes("node2 knows these and nobody else", |node| node.known_at("node2") == expected);
}

fn trial(test: &str, rounds: usize) {
    let mut chance = Chance::of(test);
    let node = Node::up(test);
    node.lab.change("apply", PEER);
    let names: Vec<String> = (0..PODS).map(|number| format!("p{number}")).collect();
    node.schedule(&names.iter().map(|name| (name.as_str(), "web")).collect::<Vec<_>>());
    let pods: Vec<Sandbox> = names.iter().map(|name| node.sandbox(name)).collect();
    let begun = Instant::now();
    for round in 1..=rounds {
        let mishaps: Vec<Mishap> = (0..PODS).map(|_| Mishap::by(&mut chance)).collect();
        let (agent, after) = (chance.number().is_multiple_of(2), chance.time(&MOMENT));
        let pid = agent.then(|| pid_of(&node));
        thread::scope(|scope| {
            for (pod, mishap) in pods.iter().zip(mishaps) {
                let node = &node;
                scope.spawn(move || mishap.comes_to(node, pod));
            }
            thread::sleep(after);
            if let Some(pid) = pid {
                kill(pid, Signal::SIGKILL).unwrap();
            }
        });
        if agent {
            // A signal is sent before it is felt, and who still runs is not started.
            node.becomes("the agent has ended", |node| agent_of(node)["state"] != "runs");
            node.start_agent();
        }
        settles(&node, &pods, &mut chance);
        if rounds > 20 && round.is_multiple_of(20) {
            eprintln!("{test}: {round} of {rounds} rounds, {:?}", begun.elapsed());
        }
    }
    for pod in &pods {
        retried("DEL", || node.runtime.delete(&node.network, &pod.container));
    }
    // What a plugin left half written is removed when it is a minute old.
    for file in node.queued() {
        std::fs::remove_file(file).unwrap();
    }
    node.has_nothing();
}

#[test]
fn root_kills_in_the_midst_of_calls_leave_nothing_behind() {
    if is_root() {
        trial("midst", 6);
    }
}

#[test]
#[ignore = "long: for `make test-long`"]
fn root_kills_in_the_midst_of_many_calls_leave_nothing_behind() {
    if is_root() {
        trial("midsts", 200);
    }
}
