//! Scenarios: files that say how large a world is, what goes wrong in it and when, and what makes a run count.

mod extent;
mod minimum;

pub use extent::{Extent, Size};

use crate::{
    client::Habits,
    fault::{Fault, Kind},
    release::Release,
    time::{Micros, Millis},
    world::{QUIET, TICK},
};
use extent::Small;
use minimum::Minimum;
use serde::Deserialize;
use std::path::Path;
use weft_types::IdentitySpace;

/// A scenario, as its file has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Its name, that of its file.
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// Members of the group.
    #[serde(default = "three")]
    pub operators: u64,
    /// Agents.
    pub agents: usize,
    /// Clients, each with one change at a time.
    pub clients: usize,
    /// Simulated seconds of faults and traffic; a quiet phase follows.
    pub seconds: u64,
    /// How large and how long it is when it is run in full.
    #[serde(default)]
    pub full: Size,
    /// What is otherwise where it is small.
    #[serde(default)]
    pub(crate) small: Small,
    /// Which of them this is.
    #[serde(skip)]
    pub(crate) extent: Extent,
    /// What finds it: its name, or the path of a file of one's own.
    #[serde(skip)]
    pub(crate) found_by: String,
    /// What clients want.
    #[serde(default)]
    pub(crate) habits: Habits,
    /// From a client's answer to its next wish.
    #[serde(default = "pause")]
    pub(crate) pause: Millis,
    /// Delay of a message between any two.
    #[serde(default = "network")]
    pub(crate) network: Millis,
    /// Of a thousand messages between members, so many are lost.
    #[serde(default)]
    pub(crate) loss: u16,
    /// Time that a disk takes to sync.
    #[serde(default = "disk")]
    pub(crate) disk: Millis,
    /// Way to the store and back, each.
    #[serde(default = "store")]
    pub(crate) store: Millis,
    /// Of a thousand answers of the store, so many are lost, and as many requests arrive seconds late.
    #[serde(default)]
    pub(crate) ambiguous: u16,
    /// Milliseconds for which nobody refers to a number before agents are to forget it, and from then until it is free.
    #[serde(default = "grace")]
    pub(crate) grace: u64,
    /// The numbers that there are.
    #[serde(default)]
    pub(crate) numbers: IdentitySpace,
    /// What goes wrong.
    pub(crate) faults: Vec<Fault>,
    /// Election time-outs for which nothing may be allocated after a leader is killed, 99 times of 100; judged over many runs.
    #[serde(default)]
    pub(crate) gap: Option<u64>,
    /// What a run must have had to count.
    pub(crate) minimum: Minimum,
}

fn three() -> u64 {
    3
}

fn pause() -> Millis {
    Millis(5, 120)
}

fn network() -> Millis {
    Millis(1, 8)
}

fn disk() -> Millis {
    Millis(1, 6)
}

fn store() -> Millis {
    Millis(1, 5)
}

/// A minute, as shipped.
fn grace() -> u64 {
    60_000
}

/// Why there is no such scenario.
#[derive(Debug)]
pub struct ScenarioError(String);

impl std::fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ScenarioError {}

macro_rules! scenarios {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../scenarios/", $name, ".yaml")))),*]
    };
}

/// Those that come with the program.
const SCENARIOS: &[(&str, &str)] = scenarios![
    "clock-jump",
    "disk-trouble",
    "group-loss",
    "identity-churn",
    "leader-kill",
    "leader-pause",
    "lost-disk",
    "lost-generation",
    "mixed-versions",
    "namespace-relabel",
    "node-failures",
    "partition",
    "policy-churn",
    "power-failure",
    "reconnect-storm",
    "rolling-restart",
    "store-cut",
    "store-outage",
    "store-restore",
];

impl Scenario {
    /// Names of those that come with the program.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SCENARIOS.iter().map(|(name, _)| *name)
    }

    /// One that comes with the program, or a file.
    pub fn find(name: &str) -> Result<Self, ScenarioError> {
        if let Some((name, text)) = SCENARIOS.iter().find(|(known, _)| *known == name) {
            return Self::parse(name, text);
        }
        let known: Vec<&str> = Self::names().collect();
        let known = known.join(", ");
        if Path::new(name).extension().is_none_or(|kind| kind != "yaml") {
            let problem = format!("run scenario {name}: there are {known}, or give a .yaml file");
            return Err(ScenarioError(problem));
        }
        let text = std::fs::read_to_string(name)
            .map_err(|error| ScenarioError(format!("read scenario {name}: {error}")))?;
        Self::parse(name, &text)
    }

    /// From a file's text.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = serde_saphyr::from_str(text)
            .map_err(|error| ScenarioError(format!("read scenario {name}: {error}")))?;
        let scenario = Self { found_by: name.to_owned(), ..scenario };
        let needs_agents = scenario.agents == 0 || scenario.clients == 0 || scenario.operators == 0;
        let no_faults = scenario.faults.iter().all(|fault| fault.kind == Kind::Nothing);
        let impossible = scenario.faults.iter().find(|fault| !fault.is_possible());
        if let Some(Fault { kind, whom, .. }) = impossible {
            let problem = format!("read scenario {name}: {kind:?} does not hit {whom:?}");
            return Err(ScenarioError(problem));
        }
        if let Some(Fault { kind, .. }) = scenario.faults.iter().find(|it| !it.has_a_time()) {
            let problem =
                format!("read scenario {name}: {kind:?} comes `at` a time or `every` so often");
            return Err(ScenarioError(problem));
        }
        match (needs_agents, no_faults && scenario.minimum.faults > 0) {
            (true, _) => Err(ScenarioError(format!(
                "read scenario {name}: a world has at least one operator, one agent and one client"
            ))),
            (_, true) => Err(ScenarioError(format!(
                "read scenario {name}: it has no faults and wants some to hit"
            ))),
            (false, false) => Ok(scenario),
        }
    }

    /// For how long at least agents are given to forget a number: nothing where clocks jump. It is counted in ticks, the first of
    /// which may come at once.
    pub(crate) fn grace_at_least(&self) -> Micros {
        let jumps = self.faults.iter().any(|fault| fault.kind == Kind::ClockJump);
        let ticks = Micros::millis(self.grace).0.saturating_sub(TICK.0);
        if jumps { Micros(0) } else { Micros(ticks) }
    }

    /// The release that everybody is of when it begins.
    pub(crate) fn begins(&self) -> Release {
        match self.faults.iter().any(|fault| fault.kind == Kind::Upgrade) {
            true => Release::Before,
            false => Release::Now,
        }
    }

    /// Simulated seconds with the quiet phase at the end.
    pub fn whole(&self) -> u64 {
        self.seconds + QUIET.0 / Micros::seconds(1).0
    }
}
