//! The agent's actors crash one after another, and the agent itself is killed: pods keep what they had, nobody gets more.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use std::{
    thread::sleep,
    time::{Duration, Instant},
};
use weft_api::{
    agent::{Answer, Request, Status},
    transport::{Client, Options},
};
use weft_tests::lab::{Lab, example, is_root};

const PATIENCE: Duration = Duration::from_secs(30);

/// A lab, and what its agents say.
struct Agents(Lab);

impl Agents {
    fn ask(&self, node: &str, request: Request) -> Result<Answer, String> {
        let socket = self.0.dir().join(node).join("agent.sock");
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

#[test]
fn root_every_actor_crashes_in_turn_and_comes_back() {
    if !is_root() {
        return;
    }
    let lab = Agents(Lab::up("crash", &[&example("shop.yaml")]));
    let before = lab.0.probe(&[]);
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
        assert_eq!(lab.0.probe(&[]), before, "after {} crashed", actor.name);
    }
    let unknown = lab.ask("node1", Request::Crash { actor: "nobody".to_owned() });
    assert!(unknown.unwrap_err().contains("nobody"));
}

#[test]
fn root_a_killed_agent_is_missed_by_nobody_and_finds_its_pods_again() {
    if !is_root() {
        return;
    }
    let lab = Agents(Lab::up("recover", &[&example("shop.yaml")]));
    let before = lab.0.probe(&[]);
    for round in 0..3 {
        lab.0.does(&["agent", "kill", "--node", "node1"]);
        assert_eq!(lab.0.probe(&[]), before, "while the agent is away, round {round}");
        lab.0.does(&["agent", "start", "--node", "node1"]);
        lab.await_health("node1", |status| status.realised == status.received);
        assert_eq!(lab.0.probe(&[]), before, "after it came back, round {round}");
        let Answer::Endpoints(rows) = lab.ask("node1", Request::Endpoints).unwrap() else {
            panic!("no endpoints")
        };
        assert!(rows.len() == 3 && rows.iter().all(|row| row.state == "ready"), "{rows:?}");
    }
}
