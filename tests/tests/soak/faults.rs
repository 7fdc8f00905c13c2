//! What breaks meanwhile: agents and the operator are killed and come back, actors crash or sleep.

use crate::{agents, cluster::NODES, limits::starts};
use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread::sleep,
    time::{Duration, Instant},
};
use weft_api::agent::Request;
use weft_tests::{lab::Lab, seed::Chance};

/// How long who was killed is away, and how long nothing else breaks after, in milliseconds.
const AWAY: std::ops::Range<u64> = 0..1_500;
const CALM: std::ops::Range<u64> = 200..3_000;
/// An agent whose actor crashes 12 times in a minute gives up; one of its actors crashes less often than this.
const CRASH_PAUSE: Duration = Duration::from_secs(6);
/// Twice as long as an actor may be silent.
const ASLEEP: Duration = Duration::from_secs(8);
/// Longer than any start takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often what broke.
#[derive(Debug, Default)]
pub(crate) struct Broken {
    agents: u32,
    operators: u32,
    /// Actors that crashed.
    crashes: u32,
    /// Actors that slept until their thread was replaced.
    stalls: u32,
}

/// One of so many failures of actors is a stall; of ten times as many there is one, or something that makes them does not work.
const STALL: u64 = 8;

impl Broken {
    /// Whether each kind did.
    pub(crate) fn is_everything(&self) -> bool {
        let few = u64::from(self.crashes) < 10 * STALL;
        [self.agents, self.operators, self.crashes].iter().all(|often| *often > 0)
            && (few || self.stalls > 0)
    }
}

/// Breaks one thing after the other until told that it is over; all of it runs again then.
pub(crate) fn breaks(lab: &Lab, chance: &mut Chance, over: &AtomicBool) -> Broken {
    let mut broken = Broken::default();
    let mut crashed: Option<Instant> = None;
    while !over.load(SeqCst) {
        let node = chance.one_of(&NODES);
        match chance.number() % 24 {
            0..=7 => {
                away(lab, "agent", &["--node", node], chance);
                broken.agents += 1;
            }
            8..=11 => {
                away(lab, "operator", &[], chance);
                broken.operators += 1;
            }
            _ if crashed.is_none_or(|at| at.elapsed() > CRASH_PAUSE) => {
                crashed = Some(Instant::now());
                let stalls = chance.number().is_multiple_of(STALL);
                if actor_fails(lab, chance, node, stalls) {
                    *(if stalls { &mut broken.stalls } else { &mut broken.crashes }) += 1;
                }
            }
            _ => {}
        }
        sleep(chance.time(&CALM));
    }
    broken
}

/// Kills a process, and starts it after a while.
fn away(lab: &Lab, what: &str, which: &[&str], chance: &mut Chance) {
    let away = chance.time(&AWAY);
    eprintln!("{what} {which:?} is away for {away:?}");
    lab.does(&[&[what, "kill"], which].concat());
    sleep(away);
    let begun = Instant::now();
    loop {
        let started = starts(lab, what, which);
        if started.status.success() {
            return;
        }
        let said = String::from_utf8_lossy(&started.stderr).into_owned();
        assert!(begun.elapsed() < PATIENCE, "start {what} {which:?}: {said}");
        sleep(Duration::from_millis(200));
    }
}

/// Has one of an agent's actors crash, or sleep until its whole thread is replaced, if the agent says which it has.
fn actor_fails(lab: &Lab, chance: &mut Chance, node: &str, stalls: bool) -> bool {
    let Ok(status) = agents::status(lab, node) else { return false };
    let actors: Vec<&str> = status.actors.iter().map(|actor| actor.name.as_str()).collect();
    let actor = chance.one_of(&actors).to_owned();
    let request = if stalls {
        Request::Stall { actor, ms: u64::try_from(ASLEEP.as_millis()).unwrap() }
    } else {
        Request::Crash { actor }
    };
    eprintln!("{node}: {request:?}");
    agents::ask(lab, node, request).is_ok()
}
