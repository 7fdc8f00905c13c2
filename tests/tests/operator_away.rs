//! Without an operator the fabric goes on and agents answer; who asks it gets a clear error, and a second try succeeds.
//! Strangers get no session.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

mod agents;

use agents::{PATIENCE, ask, comes_to, endpoints, is_well, status};
use nix::{sched::CloneFlags, sys::signal::Signal, unistd::Pid};
use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use weft_api::agent::Request;
use weft_tests::{
    lab::{Lab, example, is_root, program, weft},
    load::{Load, bed},
    seed::Chance,
};

const DENY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
     metadata: {name: from-clients, namespace: load}\n\
     spec: {podSelector: {matchLabels: {role: server}}, policyTypes: [Ingress]}\n";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn root_without_an_operator_the_fabric_goes_on_and_agents_answer() {
    if !is_root() {
        return;
    }
    let lab = bed("alone");
    let right = lab.probe(&[]);
    lab.does(&["operator", "kill"]);
    let load = Load::over(&lab);
    for restarted in [false, true] {
        if restarted {
            // Nobody tells it anything, so what its maps hold stands.
            lab.does(&["agent", "kill"]);
            lab.does(&["agent", "start"]);
        }
        for node in ["node1", "node2"] {
            comes_to(&lab, node, |status| {
                !status.healthy && status.problems.iter().any(|p| p.contains("operator"))
            });
            let rows = endpoints(&lab, node);
            assert!(!rows.is_empty() && rows.iter().all(|row| row.state == "ready"), "{rows:?}");
            for question in [Request::Identities, Request::Nodes, Request::Policies, Request::Maps]
            {
                assert!(ask(&lab, node, question.clone()).is_ok(), "{question:?}");
            }
        }
        let output = weft(&["status", "--lab", &lab.name]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stdout).contains("no session with an operator"), "{output:?}");
        assert_eq!(lab.probe(&[]), right, "restarted: {restarted}");
        load.goes_on(&format!("without an operator; restarted: {restarted}"));
    }
    // Who needs it says what was attempted, on whom, and what to do.
    for words in
        [&["lab", "apply", "-f", &example("deny.yaml"), "--name"][..], &["policy", "wait", "--lab"]]
    {
        let begun = Instant::now();
        let output = weft(&[words, &[&lab.name]].concat());
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let said = text(&output.stderr);
        assert!(said.contains("operator"), "{said}");
        assert!(begun.elapsed() < PATIENCE, "{words:?} took {:?}", begun.elapsed());
        eprintln!("{said}");
    }
    lab.does(&["operator", "start"]);
    for node in ["node1", "node2"] {
        is_well(&lab, node);
    }
    let outcome = load.end();
    assert_eq!(outcome.lost, 0, "{outcome:?}");
    assert_eq!(lab.probe(&[]), right);
}

/// `weft lab apply` of a text, begun.
fn begin(lab: &Lab, policy: &str) -> Child {
    use std::io::Write;
    let mut child = Command::new(program("weft"))
        .args(["lab", "apply", "--name", &lab.name, "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(policy.as_bytes()).unwrap();
    child
}

/// The process of an operator or agent.
fn pid(lab: &Lab, name: &str) -> i32 {
    let processes = lab.status()["processes"].clone();
    let process = processes.as_array().unwrap().iter().find(|p| p["name"] == name).unwrap().clone();
    i32::try_from(process["pid"].as_i64().unwrap()).unwrap()
}

/// Ends an operator or agent as a crash does.
fn crash(lab: &Lab, name: &str) {
    end(pid(lab, name));
}

/// Kills a process and waits until it is gone.
fn end(pid: i32) {
    let (pid, begun) = (Pid::from_raw(pid), Instant::now());
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
    let stat = Path::new("/proc").join(pid.to_string()).join("stat");
    // A zombie without other threads has ended; it is reaped if it is this test's. With one, whoever starts it anew takes it to run.
    let ended = |stat: String| {
        let (_, after) = stat.rsplit_once(") ").unwrap_or_default();
        after.starts_with('Z') && after.split(' ').nth(17).is_some_and(|threads| threads <= "1")
    };
    let lives = || std::fs::read_to_string(&stat).is_ok_and(|stat| !ended(stat));
    while lives() {
        assert!(begun.elapsed() < PATIENCE, "process {pid} survived SIGKILL");
        sleep(Duration::from_millis(2));
    }
    let _ = nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
}

#[test]
fn root_an_operator_that_is_killed_over_a_change_has_a_second_try_succeed() {
    if !is_root() {
        return;
    }
    let mut chance = Chance::of("operator_away");
    let lab = bed("torn");
    let right = lab.probe(&[]);
    let reach = |lab: &Lab| lab.reaches("load/client1", "load/server2", "TCP", 80);
    let allow = load_policy();
    let (mut failed, rounds) = (0, 8);
    for round in 0..rounds {
        let policy = if round % 2 == 0 { DENY } else { &allow };
        // Known before: asking takes longer than a change does on a quiet machine.
        let operator = pid(&lab, "operator1");
        let child = begin(&lab, policy);
        // The first is killed before it can have been asked, so that one change at least is interrupted.
        sleep(if round == 0 { Duration::ZERO } else { chance.time(&(0..60)) });
        end(operator);
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        let said = text(&stderr);
        if !status.success() {
            failed += 1;
            assert_eq!(status.code(), Some(3), "{said}");
            assert!(said.contains("operator"), "{said}");
        }
        lab.does(&["operator", "start"]);
        lab.change("apply", policy);
        assert_eq!(reach(&lab), Some(round % 2 == 1), "round {round}: {said}");
        eprintln!("round {round}: {status}, {}", said.trim());
    }
    assert!(failed > 0, "no change was interrupted");
    assert_eq!(lab.probe(&[]), right);
}

/// The policy that [`bed`] has in the place of [`DENY`].
fn load_policy() -> String {
    DENY.replace(
        "policyTypes: [Ingress]",
        "ingress: [{from: [{podSelector: {matchLabels: {role: client}}}]}]",
    )
}

/// The agent of a node is started with other words than the lab starts it with.
fn starts_with(lab: &Lab, node: &str, change: impl Fn(&str, String) -> String) {
    let processes = lab.status()["processes"].clone();
    let row = processes.as_array().unwrap().iter().find(|p| p["name"] == node).unwrap().clone();
    let line = std::fs::read(format!("/proc/{}/cmdline", row["pid"])).unwrap();
    let line = text(&line);
    let mut words: Vec<String> =
        line.trim_end_matches('\0').split('\0').map(str::to_owned).collect();
    crash(lab, node);
    for at in 1..words.len() {
        words[at] = change(&words[at - 1].clone(), words[at].clone());
    }
    let netns = File::open(Path::new("/run/netns").join(row["netns"].as_str().unwrap())).unwrap();
    let log = File::options().append(true).open(lab.dir().join(format!("{node}.log"))).unwrap();
    let thread = std::thread::spawn(move || {
        nix::sched::setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
        // `weft lab down` ends everything in the lab's namespaces.
        drop(
            Command::new(&words[0])
                .args(&words[1..])
                .stderr(log)
                .stdin(Stdio::null())
                .spawn()
                .unwrap(),
        );
    });
    thread.join().unwrap();
}

/// It gets no session, says so, and what it had in its kernel stands.
#[track_caller]
fn is_refused(lab: &Lab, node: &str, why: &[&str]) {
    let says = |text: &str| text.contains("session") && why.iter().all(|why| text.contains(why));
    comes_to(lab, node, |status| {
        let refused = status.problems.iter().any(|problem| says(problem));
        refused && !status.healthy && status.operator.is_none()
    });
    eprintln!("{:?}", status(lab, node).unwrap().problems);
    let log = std::fs::read_to_string(lab.dir().join(format!("{node}.log"))).unwrap();
    assert!(log.lines().any(says), "{log}");
}

#[test]
fn root_strangers_get_no_session() {
    if !is_root() {
        return;
    }
    let (lab, other) = (bed("own"), Lab::named("other"));
    other.does(&["up", "--nodes", "1"]);
    let right = lab.probe(&[]);
    let (own_keys, other_keys) = (lab.dir().join("keys"), other.dir().join("keys"));
    let key = |folder: &Path, name: &str| folder.join(name).display().to_string();

    // It believes another lab's authority, and does not believe this operator.
    starts_with(&lab, "node1", |flag, word| match flag {
        "--ca" => key(&other_keys, "ca.pem"),
        "--cert" => key(&other_keys, "node1.pem"),
        "--key" => key(&other_keys, "node1.key"),
        _ => word,
    });
    is_refused(&lab, "node1", &["the operator's certificate is not of this agent's authority"]);

    // It believes this operator, who does not believe it.
    starts_with_again(&lab, |flag, word| match flag {
        "--cert" => key(&other_keys, "node1.pem"),
        "--key" => key(&other_keys, "node1.key"),
        _ => word,
    });
    is_refused(&lab, "node1", &["the operator does not accept this agent's certificate"]);

    // Its certificate is another node's.
    starts_with_again(&lab, |flag, word| match flag {
        "--cert" => key(&own_keys, "node2.pem"),
        "--key" => key(&own_keys, "node2.key"),
        _ => word,
    });
    is_refused(&lab, "node1", &["refused", "node2", "not node1"]);
    assert_eq!(lab.probe(&[]), right, "what it had in its kernel stands");

    // Node 2 was not disturbed, and node 1 is well with what is its own.
    is_well(&lab, "node2");
    end_all(&lab, "node1");
    lab.does(&["agent", "start", "--node", "node1"]);
    is_well(&lab, "node1");
    assert_eq!(lab.probe(&[]), right);
}

/// Ends whatever agent runs on the node, starts the lab's own and then the changed one.
fn starts_with_again(lab: &Lab, change: impl Fn(&str, String) -> String) {
    end_all(lab, "node1");
    lab.does(&["agent", "start", "--node", "node1"]);
    starts_with(lab, "node1", change);
}

/// Ends the agents that run on a node, whoever started them.
fn end_all(lab: &Lab, node: &str) {
    let folder = lab.dir().join(node).display().to_string();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = text(&std::fs::read(process.path().join("cmdline")).unwrap_or_default());
        if line.contains("weft-agent\0") && line.contains(&format!("{folder}\0")) {
            end(pid);
        }
    }
}
