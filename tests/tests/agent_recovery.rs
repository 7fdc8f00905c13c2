//! The agent's actors crash one after another, and the agent itself is killed: pods keep what they had, nobody gets more.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use weft_api::{
    agent::{Answer, Request, Status},
    transport::{Client, Options},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A lab of this test's own; it goes when the test ends, however it ends.
struct Lab {
    name: String,
    /// An agent that this test started in place of the lab's.
    agent: Option<Child>,
}

impl Lab {
    fn weft(arguments: &[&str]) -> Output {
        // This test is target/debug/deps/agent_recovery-…; the programs lie one folder up.
        let program = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("weft");
        Command::new(program)
            .args(arguments)
            .output()
            .expect("run weft: `cargo build --workspace` first")
    }

    fn up(name: &str) -> Self {
        let lab = Self { name: format!("{name}{}", std::process::id()), agent: None };
        let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/shop.yaml");
        let shop = shop.display().to_string();
        let output = Self::weft(&["lab", "up", "--name", &lab.name, "-f", &shop]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        lab
    }

    fn probe(&self) -> Vec<Value> {
        let output = Self::weft(&["lab", "probe", "--name", &self.name, "-o", "json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["rows"].as_array().unwrap().clone()
    }

    fn ask(&self, node: &str, request: Request) -> Result<Answer, String> {
        let socket = PathBuf::from(format!("/run/weft/labs/{}/{node}/agent.sock", self.name));
        let mut client = Client::connect(&socket, PATIENCE).map_err(|e| e.to_string())?;
        client.call(request, Options::within(PATIENCE)).map_err(|e| e.to_string())
    }

    fn status(&self, node: &str) -> Result<Status, String> {
        match self.ask(node, Request::Status)? {
            Answer::Status(status) => Ok(status),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn await_health(&self, node: &str, wanted: impl Fn(&Status) -> bool) -> Duration {
        let begun = Instant::now();
        loop {
            let status = self.status(node);
            if status.as_ref().is_ok_and(|status| status.healthy && wanted(status)) {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < PATIENCE, "{node} did not recover: {status:?}");
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        Self::weft(&["lab", "down", "--name", &self.name]);
    }
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: a lab needs root");
    }
    root
}

#[test]
fn root_every_actor_crashes_in_turn_and_comes_back() {
    if !is_root() {
        return;
    }
    let lab = Lab::up("crash");
    let before = lab.probe();
    let actors = lab.status("node1").unwrap().actors;
    assert!(actors.len() >= 9, "{actors:?}");
    for actor in &actors {
        let crash = Request::Crash { actor: actor.name.clone() };
        assert_eq!(lab.ask("node1", crash), Ok(Answer::Done), "{}", actor.name);
        let took = lab.await_health("node1", |status| {
            let row = status.actors.iter().find(|row| row.name == actor.name).unwrap();
            row.incarnation > actor.incarnation
                && row.last_failure.as_deref().is_some_and(|why| why.contains("fault injection"))
        });
        eprintln!("{}: whole again after {took:?}", actor.name);
        assert_eq!(lab.probe(), before, "after {} crashed", actor.name);
    }
    let unknown = lab.ask("node1", Request::Crash { actor: "nobody".to_owned() });
    assert!(unknown.unwrap_err().contains("nobody"));
}

#[test]
fn root_a_killed_agent_is_missed_by_nobody_and_finds_its_pods_again() {
    if !is_root() {
        return;
    }
    let mut lab = Lab::up("kill");
    let before = lab.probe();
    for round in 0..3 {
        let process = agent_of(&lab.name, "node1");
        let arguments = std::fs::read(format!("/proc/{process}/cmdline")).unwrap();
        let arguments: Vec<String> = arguments
            .split(|byte| *byte == 0)
            .filter(|part| !part.is_empty())
            .map(|part| String::from_utf8(part.to_vec()).unwrap())
            .collect();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(process),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        if let Some(mut agent) = lab.agent.take() {
            agent.wait().unwrap();
        }
        assert_eq!(lab.probe(), before, "while the agent is away, round {round}");
        let child = Command::new("ip")
            .args(["netns", "exec", &format!("weft-{}-node1", lab.name)])
            .args(&arguments)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        lab.agent = Some(child);
        lab.await_health("node1", |status| status.realised == status.received);
        assert_eq!(lab.probe(), before, "after it came back, round {round}");
        let Answer::Endpoints(rows) = lab.ask("node1", Request::Endpoints).unwrap() else {
            panic!("no endpoints")
        };
        assert!(rows.len() == 3 && rows.iter().all(|row| row.state == "ready"), "{rows:?}");
    }
}

/// The process of a lab's agent, by its arguments.
fn agent_of(lab: &str, node: &str) -> i32 {
    let wanted = format!("/run/weft/labs/{lab}/{node}");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .find(|process| {
            let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.split('\0').next().is_some_and(|program| program.ends_with("weft-agent"))
                && line.split('\0').any(|part| part == wanted)
        })
        .expect("the lab's agent runs")
}
