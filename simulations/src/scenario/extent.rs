//! How much of a scenario is run: as its file says, in full, or in a small world.

use super::Scenario;
use crate::{time::Millis, told::FEW};
use serde::Deserialize;
use weft_types::IdentitySpace;

/// How large and how long.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Agents.
    pub agents: usize,
    /// Simulated seconds.
    pub seconds: u64,
    /// So many times as long between faults; what comes once lasts as many times as long.
    #[serde(default = "one")]
    pub rarer: u64,
}

/// How much of a scenario is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// As its file says.
    #[default]
    Usual,
    /// As large and as long as in full.
    Full,
    /// Small and quick.
    Small,
}

impl Extent {
    /// The option of `weft-sim run` that asks for it, with a space before it.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Usual => "",
            Self::Full => " --full",
            Self::Small => " --small",
        }
    }
}

/// What is otherwise in a small world.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Small {
    /// The numbers that there are: as many as go round there, too.
    #[serde(default)]
    numbers: Option<IdentitySpace>,
}

/// Agents of a small world.
const SMALL: usize = 5;
/// Clients of one: with fewer nobody wants a number at the same time as another.
const SMALL_CLIENTS: usize = 2;
/// How many times as long they pause.
const SMALL_PAUSE: u64 = 3;
/// Pods that each of them has, at most: what a step costs is by how many there are.
const SMALL_PODS: usize = 6;
/// A run of a small world must have had so many times less than one of the file's.
const SMALL_PART: u64 = 10;

impl Default for Size {
    fn default() -> Self {
        Self { agents: 1000, seconds: 300, rarer: one() }
    }
}

fn one() -> u64 {
    1
}

impl Scenario {
    /// The same, as large and as long as in full.
    pub fn in_full(mut self) -> Self {
        let Size { agents, seconds, rarer } = self.full;
        self.faults.iter_mut().for_each(|fault| *fault = fault.stretched(rarer));
        self.extent = Extent::Full;
        let mut full = self.with_agents(agents).with_seconds(seconds);
        full.minimum.faults /= rarer.max(1);
        full
    }

    /// The same faults in a world of five nodes and two slow clients with a few pods each, so that many seeds take little time.
    pub fn in_small(mut self) -> Self {
        self.extent = Extent::Small;
        self.clients = SMALL_CLIENTS;
        self.numbers = self.small.numbers.unwrap_or(self.numbers);
        let Millis(least, most) = self.pause;
        self.pause = Millis(least * SMALL_PAUSE, most * SMALL_PAUSE);
        self.habits.pods = self.habits.pods.min(SMALL_PODS);
        let mut small = self.with_agents(SMALL);
        small.minimum.of_traffic().for_each(|least| *least /= SMALL_PART);
        small
    }

    /// The same with so many agents, which move as often as those of the file.
    pub fn with_agents(mut self, agents: usize) -> Self {
        let (agents, before) = (agents.max(1), self.agents.max(1));
        self.minimum.moves = self.minimum.moves.saturating_mul(agents as u64) / before as u64;
        self.agents = agents;
        if agents > FEW {
            // Many have no kernels.
            self.minimum.of_kernels().for_each(|least| *least = 0);
        }
        self
    }

    /// The same for so many simulated seconds, of which a run must have had as much as in the file by the second; how many
    /// identities there are at the end does not depend on that.
    pub fn with_seconds(mut self, seconds: u64) -> Self {
        for least in self.minimum.by_time() {
            *least = least.saturating_mul(seconds) / self.seconds.max(1);
        }
        self.seconds = seconds;
        self
    }
}
