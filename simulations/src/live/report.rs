//! What came of a live run: a table for people, JSON for programs.

use super::{
    connections::Begun,
    flows::{Flowed, Probed},
    pods::Started,
};
use serde::Serialize;
use serde_json::Value;
use std::{fmt, time::Duration};
use weft_sim::{Checked, Operation, Outcome, check, election_timeout};

/// What became of one fault.
#[derive(Clone, Debug)]
pub(super) struct Round {
    /// What it was.
    pub(super) on: String,
    /// Whether it took away who led.
    pub(super) is_leader: bool,
    /// Until something was answered that was asked for after it struck.
    pub(super) gap: Option<Duration>,
    /// From its end until all was well.
    pub(super) recovered: Duration,
    /// Pods that were started meanwhile, where some were to be.
    pub(super) started: Option<Started>,
    /// Connections that agents began from its beginning until all was well.
    pub(super) begun: Begun,
}

/// Whoever was away, in so long all is to be well again.
const CONVERGES: Duration = Duration::from_secs(10);
/// Connections that an agent begins in a second at most, whoever is away: as in the simulator's world.
const STORM: f64 = 20.0;

/// What became of all.
pub(crate) struct Report {
    scenario: String,
    seed: u64,
    /// Election time-outs for which nothing may be allocated after a leader is lost, 99 times of 100.
    gap: Option<f64>,
    rounds: Vec<Round>,
    checked: Checked,
    answered: usize,
    unknown: usize,
    flows: Flowed,
    /// What ended it before its time.
    trouble: Option<String>,
    interrupted: bool,
}

#[derive(Serialize)]
struct Json<'a> {
    scenario: &'a str,
    seed: u64,
    holds: bool,
    gaps: Option<Gaps>,
    gap_bound: Option<f64>,
    election_timeout_ms: u128,
    rounds: Vec<JsonRound<'a>>,
    answered: usize,
    unknown: usize,
    operations: usize,
    linearizable: bool,
    history_faults: Vec<String>,
    streams: Vec<&'a Value>,
    streams_whole: bool,
    probes: u32,
    probes_differing: u32,
    trouble: Option<&'a str>,
    interrupted: bool,
}

#[derive(Serialize)]
struct JsonRound<'a> {
    what: &'a str,
    gap_ms: Option<u128>,
    recovered_ms: u128,
    known_pods_started: Option<u32>,
    unknown_pods_told_again: Option<u32>,
    connections_begun: u64,
    connections_per_second: f64,
}

/// In election time-outs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Gaps {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Gaps {
    fn of(mut all: Vec<f64>) -> Option<Self> {
        all.sort_by(f64::total_cmp);
        let at =
            |percent: usize| all.get((all.len() * percent).div_ceil(100).checked_sub(1)?).copied();
        Some(Self { p50: at(50)?, p99: at(99)?, max: at(100)? })
    }
}

impl Round {
    /// Whether all was well soon, pods that were to be started were, and nobody asked all the time.
    fn holds(&self) -> bool {
        let started = |Started { known, told_again }| known > 0 && told_again > 0;
        let calm = self.begun.most <= STORM;
        calm && self.recovered <= CONVERGES && self.started.is_none_or(started)
    }
}

impl<'a> From<&'a Round> for JsonRound<'a> {
    fn from(Round { on, gap, recovered, started, begun, .. }: &'a Round) -> Self {
        Self {
            what: on,
            gap_ms: gap.map(|gap| gap.as_millis()),
            recovered_ms: recovered.as_millis(),
            known_pods_started: started.map(|started| started.known),
            unknown_pods_told_again: started.map(|started| started.told_again),
            connections_begun: begun.all,
            connections_per_second: begun.most,
        }
    }
}

impl Report {
    pub(super) fn of(
        scenario: String,
        rounds: Vec<Round>,
        operations: &[Operation],
        flows: Flowed,
        trouble: Option<String>,
    ) -> Self {
        let count =
            |outcome: &Outcome| operations.iter().filter(|it| it.outcome == *outcome).count();
        let (answered, unknown) = (count(&Outcome::Done), count(&Outcome::Unknown));
        let checked = check(operations);
        let (seed, gap, interrupted) = (0, None, false);
        Self {
            scenario,
            seed,
            gap,
            rounds,
            checked,
            answered,
            unknown,
            flows,
            trouble,
            interrupted,
        }
    }

    /// The same of a run by a seed, whose gaps are to be no longer than that.
    pub(super) fn judged(self, (seed, gap): (u64, Option<f64>), interrupted: bool) -> Self {
        Self { seed, gap, interrupted, ..self }
    }

    /// How long nothing was allocated after each leader that was lost.
    fn gaps(&self) -> Option<Gaps> {
        let lost = self.rounds.iter().filter(|round| round.is_leader);
        let of = |round: &Round| match round.gap {
            Some(gap) => gap.as_secs_f64() / election_timeout().as_secs_f64(),
            None => f64::INFINITY,
        };
        Gaps::of(lost.map(of).collect())
    }

    fn is_slow(&self) -> bool {
        self.gap.zip(self.gaps()).is_some_and(|(most, gaps)| gaps.p99 > most)
    }

    /// Whether nothing was lost, nothing was broken off, and all was done.
    pub(crate) fn holds(&self) -> bool {
        let Probed { rounds, differing } = self.flows.probed;
        let flowed = self.are_whole() && rounds > 0 && differing == 0;
        let done = self.trouble.is_none() && !self.interrupted && self.answered > 0;
        flowed
            && done
            && !self.is_slow()
            && self.rounds.iter().all(Round::holds)
            && self.checked.faults.is_empty()
    }

    fn are_whole(&self) -> bool {
        self.flows.streams.iter().all(|(_, whole)| *whole)
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Json {
            scenario: &self.scenario,
            seed: self.seed,
            holds: self.holds(),
            gaps: self.gaps(),
            gap_bound: self.gap,
            election_timeout_ms: election_timeout().as_millis(),
            rounds: self.rounds.iter().map(JsonRound::from).collect(),
            answered: self.answered,
            unknown: self.unknown,
            operations: self.checked.operations,
            linearizable: self.checked.faults.is_empty(),
            history_faults: self.checked.faults.iter().map(ToString::to_string).collect(),
            streams: self.flows.streams.iter().map(|(told, _)| told).collect(),
            streams_whole: self.are_whole(),
            probes: self.flows.probed.rounds,
            probes_differing: self.flows.probed.differing,
            trouble: self.trouble.as_deref(),
            interrupted: self.interrupted,
        })
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; ", self.on)?;
        match self.gap {
            Some(gap) => {
                let elections = gap.as_secs_f64() / election_timeout().as_secs_f64();
                write!(
                    f,
                    "allocated again after {:.2} s ({elections:.1} election time-outs)",
                    gap.as_secs_f64()
                )?;
            }
            None => f.write_str("nothing was allocated")?,
        }
        if let Some(Started { known, told_again }) = self.started {
            write!(f, "; {known} known pod started, {told_again} unknown told to try again")?;
        }
        let Begun { all, most } = self.begun;
        write!(f, "; agents began {all} connections, one at most {most:.1} a second")?;
        write!(f, "; all well {:.1} s after it was over", self.recovered.as_secs_f64())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (round, number) in self.rounds.iter().zip(1..) {
            writeln!(f, "{number:>3}  {round}")?;
        }
        if let Some(gaps) = self.gaps() {
            let Gaps { p50, p99, max } = gaps;
            let verdict = if self.is_slow() { "TOO LONG: " } else { "" };
            writeln!(
                f,
                "leaders lost: {verdict}nothing allocated for p50 {p50:.2}, p99 {p99:.2}, max {max:.2} election time-outs"
            )?;
        }
        writeln!(f, "changes: {} answered, {} of which nobody knows", self.answered, self.unknown)?;
        writeln!(f, "history: {}", self.checked)?;
        for (told, whole) in &self.flows.streams {
            let word = |key: &str| told.get(key).map(|word| word.to_string().replace('"', ""));
            let word = |key: &str| word(key).unwrap_or_default();
            let verdict = if *whole { "whole" } else { "NOT WHOLE" };
            let (from, to, protocol) = (word("from"), word("to"), word("protocol"));
            let (back, lost, gap) = (word("back"), word("lost"), word("longest_gap_ms"));
            writeln!(
                f,
                "stream: {from} -> {to} {protocol}: {verdict}, {back} bytes back, {lost} lost, longest gap {gap} ms"
            )?;
        }
        let Probed { rounds, differing } = self.flows.probed;
        writeln!(f, "probes: {rounds} times who reaches whom, {differing} unlike the first")?;
        if let Some(trouble) = &self.trouble {
            writeln!(f, "trouble: {trouble}")?;
        }
        if self.interrupted {
            writeln!(f, "interrupted")?;
        }
        write!(f, "{}: {}", self.scenario, if self.holds() { "held" } else { "DID NOT HOLD" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_holds_when_all_is_well_soon_pods_started_that_were_to_be_and_nobody_stormed() {
        let round = |recovered, started| Round {
            on: String::new(),
            is_leader: true,
            gap: None,
            recovered: Duration::from_secs(recovered),
            started,
            begun: Begun { all: 90, most: 20.0 },
        };
        let started = |known, told_again| Some(Started { known, told_again });
        assert!(round(10, None).holds() && round(10, started(1, 1)).holds());
        assert!(!round(11, None).holds());
        assert_eq!(Gaps::of(Vec::new()), None);
        let gaps = Gaps::of((1..=200).rev().map(f64::from).collect());
        assert_eq!(gaps, Some(Gaps { p50: 100.0, p99: 198.0, max: 200.0 }));
        assert!(!round(0, started(0, 0)).holds() && !round(0, started(1, 0)).holds());
        assert!(!Round { begun: Begun { all: 21, most: 20.5 }, ..round(0, None) }.holds());
    }
}
