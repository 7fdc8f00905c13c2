//! What came of a run: a table for people, JSON for programs.

use crate::{Extent, Operation, Violation, page, story::Story, time::Micros};
use serde::Serialize;
use std::fmt;

/// What happened how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Faults that hit.
    pub faults: u64,
    /// Changes that were answered.
    pub answers: u64,
    /// Identities at the end.
    pub identities: u64,
    /// Numbers that were given to label sets.
    pub given: u64,
    /// Numbers that were freed.
    pub freed: u64,
    /// Numbers that were given to another label set than before.
    pub reused: u64,
    /// Leaders that saw that the store is an older copy.
    pub copies: u64,
    /// Leaders that were elected.
    pub elections: u64,
    /// Entries of the log at the end.
    pub entries: u64,
    /// Messages between members that arrived.
    pub messages: u64,
    /// Messages between members that did not.
    pub lost: u64,
    /// What agents said and the log took.
    pub plugs: u64,
    /// Times that an agent went to another operator.
    pub moves: u64,
    /// Times that a namespace was relabelled.
    pub relabels: u64,
    /// Snapshots that members were sent.
    pub snapshots: u64,
    /// Pods that were started anew where they were.
    pub restarts: u64,
    /// ADDs of pods that were answered "try again".
    pub refusals: u64,
    /// Looks at objects and numbers that were answered.
    pub reads: u64,
    /// Changes of policies that were answered.
    pub policies: u64,
    /// Packets that were judged by a kernel, and by what policies say.
    pub packets: u64,
    /// Packets of those that were refused.
    pub packets_refused: u64,
    /// Revisions that kernels came to hold with something written.
    pub realised: u64,
    /// Times that a kernel refused a write.
    pub writes_refused: u64,
    /// Processes of agents that were killed.
    pub agents_killed: u64,
    /// Questions of one agent in one second, at most.
    pub agent_tries: u32,
    /// Longest time without an answer while somebody asked, in milliseconds.
    pub longest_gap_ms: u64,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The scenario.
    pub scenario: String,
    /// Its name, or the path of a file of one's own.
    pub found_by: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// Members of the group at the beginning.
    pub operators: u64,
    /// The seed.
    pub seed: u64,
    /// How much of the scenario was run.
    pub extent: Extent,
    /// Agents.
    pub agents: usize,
    /// Simulated seconds of faults and traffic.
    pub seconds: u64,
    /// What happened how often.
    pub counts: Counts,
    /// What did not hold.
    pub violations: Vec<Violation>,
    /// What the run lacks to count, when it does not.
    pub void: Option<String>,
    /// All that happened, as one number.
    pub trace: u64,
    /// What clients asked and were answered.
    pub history: Vec<Operation>,
    /// When it ended.
    pub(crate) end: Micros,
    pub(crate) story: Story,
}

#[derive(Serialize)]
struct Json<'a> {
    scenario: &'a str,
    seed: u64,
    nodes: usize,
    seconds: u64,
    verdict: &'static str,
    counts: &'a Counts,
    /// How long nothing was allocated after each leader that was killed.
    gaps_ms: Vec<u64>,
    violations: &'a [Violation],
    void: Option<&'a str>,
    trace: String,
}

impl Report {
    /// Whether it counts, and everything held.
    pub fn holds(&self) -> bool {
        self.violations.is_empty() && self.void.is_none()
    }

    /// How long nothing was allocated after each leader that was killed.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = Micros> {
        self.story.gaps_until(self.end)
    }

    /// In a word.
    pub fn verdict(&self) -> &'static str {
        match (self.violations.is_empty(), &self.void) {
            (false, _) => "VIOLATED",
            (true, Some(_)) => "VOID",
            (true, None) => "held",
        }
    }

    /// The command that runs it again.
    pub fn replay(&self) -> String {
        let Self { found_by, seed, agents, seconds, .. } = self;
        let extent = self.extent.option();
        format!(
            "weft-sim run {found_by}{extent} --seed {seed} --nodes {agents} --seconds {seconds}"
        )
    }

    /// For programs.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Json {
            scenario: &self.scenario,
            seed: self.seed,
            nodes: self.agents,
            seconds: self.seconds,
            verdict: self.verdict(),
            counts: &self.counts,
            gaps_ms: self.gaps().map(|gap| gap.0 / 1000).collect(),
            violations: &self.violations,
            void: self.void.as_deref(),
            trace: format!("{:016x}", self.trace),
        })
    }

    /// A page of HTML, whole in itself: a time line of roles, faults and lag.
    pub fn to_html(&self) -> String {
        page::render(self, concat!("weft-sim ", env!("CARGO_PKG_VERSION")))
    }

    /// The names of [`Report`]'s columns as it prints them.
    pub fn header() -> String {
        format!(
            "{:<15} {:>6} {:<8} {:>6} {:>7} {:>10} {:>9} {:>7} {:>8} {:>5} {:>6} {:>6} {:>9} {:>7}",
            "SCENARIO",
            "SEED",
            "VERDICT",
            "FAULTS",
            "ANSWERS",
            "IDENTITIES",
            "ELECTIONS",
            "ENTRIES",
            "MESSAGES",
            "LOST",
            "PLUGS",
            "MOVES",
            "SNAPSHOTS",
            "GAP"
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counts;
        write!(
            f,
            "{:<15} {:>6} {:<8} {:>6} {:>7} {:>10} {:>9} {:>7} {:>8} {:>5} {:>6} {:>6} {:>9} {:>5}ms",
            self.scenario,
            self.seed,
            self.verdict(),
            c.faults,
            c.answers,
            c.identities,
            c.elections,
            c.entries,
            c.messages,
            c.lost,
            c.plugs,
            c.moves,
            c.snapshots,
            c.longest_gap_ms
        )?;
        for violation in &self.violations {
            let Violation { invariant, at, seen, .. } = violation;
            write!(f, "\n  {at} {invariant:?}: {seen}")?;
        }
        if let Some(void) = &self.void {
            write!(f, "\n  void: {void}")?;
        }
        if !self.holds() {
            write!(f, "\n  replay: {}", self.replay())?;
        }
        Ok(())
    }
}
