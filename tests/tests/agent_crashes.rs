//! Every actor of an agent crashes in turn under load: it is back within a second, the others work on, and no packet
//! is lost or wrongly passed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

mod agents;

use agents::{ask, comes_to, is_well, status};
use std::{
    collections::BTreeMap,
    net::TcpStream,
    thread::{self, sleep},
    time::{Duration, Instant},
};
use weft_api::agent::{Answer, Request, Status};
use weft_tests::{
    lab::{Lab, is_root, weft_reads},
    load::{Load, bed},
};

/// What is promised: the median of an actor's lives is back in less. It takes 12-50 ms where nothing else runs.
const BACK: Duration = Duration::from_secs(1);
/// Once in a while the machine does something else for so long; no life and no answer takes longer.
const ONCE: Duration = Duration::from_secs(3);
/// A packet that passes is back within microseconds; on a busy machine this is a long time all the same.
const SILENCE: Duration = Duration::from_millis(60);
const PATIENCE: Duration = Duration::from_secs(20);
/// How often each crashes; an agent whose actor crashes 12 times a minute gives up.
const ROUNDS: usize = 3;

/// Strangers may reach the mute while this stands.
const STRANGERS: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
     metadata: {name: from-strangers, namespace: load}\n\
     spec: {podSelector: {matchLabels: {app: mute}}, \
     ingress: [{from: [{podSelector: {matchLabels: {role: stranger}}}]}]}\n";
/// Nobody may reach the mute, unless another policy says so.
const LONELY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
     metadata: {name: lonely, namespace: load}\n\
     spec: {podSelector: {matchLabels: {app: mute}}, policyTypes: [Ingress]}\n";

/// Whether a connection from a stranger on another node to the mute opens.
fn opens(lab: &Lab, patience: Duration) -> bool {
    let address = lab.pod("load/mute")["address"].as_str().unwrap().to_owned();
    let to = format!("{address}:80").parse().unwrap();
    lab.inside("load/stranger2", move || TcpStream::connect_timeout(&to, patience).is_ok())
}

/// What everyone can be asked, whoever is down.
fn all_answer(lab: &Lab, down: &str) {
    let questions = [
        Request::Status,
        Request::Endpoints,
        Request::Identities,
        Request::Nodes,
        Request::Policies,
        Request::Maps,
        Request::MapDump { name: "addresses4".to_owned() },
        Request::CniStatus,
    ];
    for question in questions {
        let begun = Instant::now();
        // Who dies over a question has its caller ask again.
        let mut answer = ask(lab, "node1", question.clone());
        for _ in 0..2 {
            answer = answer.or_else(|_| ask(lab, "node1", question.clone()));
        }
        let took = begun.elapsed();
        assert!(answer.is_ok(), "{question:?} while {down} is down: {answer:?}");
        assert!(took < ONCE, "{question:?} took {took:?} while {down} is down");
    }
}

/// Whether an actor lives after the fault that ended this life of it.
fn is_anew(status: &Status, actor: &str, before: u64) -> bool {
    let row = status.actors.iter().find(|row| row.name == actor).unwrap();
    let why = row.last_failure.as_deref().unwrap_or_default();
    row.incarnation > before && row.state == "running" && why.contains("fault injection")
}

fn incarnation(lab: &Lab, actor: &str) -> u64 {
    let actors = status(lab, "node1").unwrap().actors;
    actors.iter().find(|row| row.name == actor).unwrap().incarnation
}

#[test]
fn root_every_actor_crashes_in_turn_under_load() {
    if !is_root() {
        return;
    }
    let lab = bed("crashes");
    lab.change("apply", LONELY);
    let actors = status(&lab, "node1").unwrap().actors;
    assert!(actors.len() >= 9, "{actors:?}");
    for name in ["conntrack", "observer", "uplink", "map-classes"] {
        assert!(actors.iter().any(|actor| actor.name == name), "no {name} among {actors:?}");
    }
    let load = Load::over(&lab);
    sleep(Duration::from_millis(500));
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for (number, actor) in (0..ROUNDS).flat_map(|_| &actors).enumerate() {
        let before = incarnation(&lab, &actor.name);
        let begun = Instant::now();
        let crash = Request::Crash { actor: actor.name.clone() };
        assert_eq!(ask(&lab, "node1", crash), Ok(Answer::Done), "{}", actor.name);
        let back_after = thread::scope(|scope| {
            let back = scope.spawn(|| {
                comes_to(&lab, "node1", |status| is_anew(status, &actor.name, before));
                begun.elapsed()
            });
            all_answer(&lab, &actor.name);
            back.join().unwrap()
        });
        // A change right after it: enforced when the wait returns, as ever.
        let verb = if number % 2 == 0 { "apply" } else { "delete" };
        lab.change(verb, STRANGERS);
        weft_reads(&["policy", "wait", "--lab", &lab.name], "");
        let allowed = opens(&lab, if verb == "apply" { PATIENCE } else { SILENCE });
        assert_eq!(allowed, verb == "apply", "after {} crashed", actor.name);
        let well = is_well(&lab, "node1");
        eprintln!("{}: back after {back_after:?}, well {well:?} later", actor.name);
        assert!(back_after < ONCE, "{} was back after {back_after:?}", actor.name);
        times.entry(actor.name.as_str()).or_default().push(back_after);
        load.goes_on(&format!("when {} crashed", actor.name));
    }
    for (actor, times) in &mut times {
        times.sort();
        assert!(times[ROUNDS / 2] < BACK, "{actor} was back after {times:?}");
    }
    let rows = status(&lab, "node1").unwrap().actors;
    for (before, after) in actors.iter().zip(&rows) {
        let lives = before.incarnation + ROUNDS as u64;
        assert_eq!(after.incarnation, lives, "it alone was made anew: {after:?}");
    }
    let outcome = load.end();
    eprintln!("{} actors: {outcome:?}", actors.len());
    assert_eq!(outcome.lost, 0, "{outcome:?}");
    let unknown = ask(&lab, "node1", Request::Crash { actor: "nobody".to_owned() });
    assert!(unknown.unwrap_err().contains("nobody"));
}
