//! What came of many runs of one scenario.

use crate::{Invariant, Report, Scenario, Violation, time::Micros, world::ELECTION};
use serde::Serialize;
use std::fmt;

/// So many killed leaders, before a hundredth of them says anything.
const ENOUGH: usize = 100;

/// What came of runs, and what of the leaders that were killed in them.
#[derive(Clone, Debug)]
pub struct Summary {
    scenario: String,
    /// Election time-outs for which, after 99 of 100 killed leaders, nothing may be allocated.
    bound: Option<u64>,
    runs: u64,
    held: u64,
    duplicates: usize,
    lost: usize,
    /// How long nothing was allocated after each killed leader, sorted.
    gaps: Vec<Micros>,
}

#[derive(Serialize)]
struct Json<'a> {
    scenario: &'a str,
    runs: u64,
    held: u64,
    duplicates: usize,
    lost: usize,
    leaders_killed: usize,
    election_timeout_ms: u64,
    /// In election time-outs.
    gap: Option<Gaps>,
    gap_bound: Option<u64>,
    holds: bool,
}

#[derive(Clone, Copy, Serialize)]
struct Gaps {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Summary {
    /// Of no runs yet.
    pub fn of(scenario: &Scenario) -> Self {
        Self {
            scenario: scenario.name.clone(),
            bound: scenario.gap,
            runs: 0,
            held: 0,
            duplicates: 0,
            lost: 0,
            gaps: Vec::new(),
        }
    }

    /// One run more.
    pub fn add(&mut self, report: &Report) {
        let of = |invariant| {
            let is = move |violation: &&Violation| violation.invariant == invariant;
            report.violations.iter().filter(is).count()
        };
        self.runs += 1;
        self.held += u64::from(report.holds());
        self.duplicates += of(Invariant::OneNumber);
        self.lost += of(Invariant::NothingLost);
        self.gaps.extend(report.gaps());
        self.gaps.sort_unstable();
    }

    /// Leaders that were killed.
    pub fn leaders_killed(&self) -> usize {
        self.gaps.len()
    }

    /// Whether every run so far held.
    pub fn held(&self) -> bool {
        self.held == self.runs
    }

    /// Whether every run held, and allocations went on soon enough.
    pub fn holds(&self) -> bool {
        self.held() && !self.is_slow()
    }

    fn is_slow(&self) -> bool {
        let bound = self.bound.map(|bound| Micros(bound * ELECTION.0));
        let judged = bound.filter(|_| self.gaps.len() >= ENOUGH);
        judged.zip(self.at(99)).is_some_and(|(bound, gap)| gap > bound)
    }

    /// So many percent of the gaps are as short.
    fn at(&self, percent: usize) -> Option<Micros> {
        let rank = (self.gaps.len() * percent).div_ceil(100);
        self.gaps.get(rank.checked_sub(1)?).copied()
    }

    fn gap(&self) -> Option<Gaps> {
        Some(Gaps {
            p50: in_elections(self.at(50)?),
            p99: in_elections(self.at(99)?),
            max: in_elections(self.at(100)?),
        })
    }

    /// For programs.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Json {
            scenario: &self.scenario,
            runs: self.runs,
            held: self.held,
            duplicates: self.duplicates,
            lost: self.lost,
            leaders_killed: self.gaps.len(),
            election_timeout_ms: ELECTION.0 / 1000,
            gap: self.gap(),
            gap_bound: self.bound,
            holds: self.holds(),
        })
    }
}

/// To hundredths.
fn in_elections(gap: Micros) -> f64 {
    let hundredths = (gap.0 * 100).div_ceil(ELECTION.0);
    f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX)) / 100.0
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, held, duplicates, lost, gaps, .. } = self;
        write!(f, "{held} of {runs} runs held; {duplicates} numbers twice, {lost} answers lost")?;
        let Some(Gaps { p50, p99, max }) = self.gap() else { return Ok(()) };
        let (killed, election) = (gaps.len(), ELECTION.0 / 1000);
        write!(
            f,
            "\n{killed} leaders killed: nothing allocated for p50 {p50}, p99 {p99}, max {max} election time-outs ({election} ms)"
        )?;
        match self.bound {
            Some(bound) if self.is_slow() => write!(f, "; TOO LONG: p99 is to be at most {bound}"),
            Some(bound) if killed >= ENOUGH => write!(f, "; p99 is to be at most {bound}"),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    fn summary(slow: usize) -> Summary {
        let mut summary = Summary::of(&Scenario::find("leader-kill").unwrap());
        summary.gaps = vec![ELECTION; 1000 - slow];
        summary.gaps.resize(1000, ELECTION + ELECTION + Micros(1));
        summary
    }

    #[test]
    fn of_a_hundred_killed_leaders_one_may_be_missed_for_longer() {
        let (good, bad) = (summary(10), summary(11));
        assert!(good.holds() && !bad.holds());
        assert!(bad.to_string().contains("TOO LONG"), "{bad}");
        assert!(good.to_string().contains("p99 1, max 2.01 election time-outs"), "{good}");
        assert!(bad.to_json().unwrap().contains(r#""p99":2.01"#));
    }

    #[test]
    fn few_leaders_say_nothing() {
        let mut few = summary(1000);
        few.gaps.truncate(ENOUGH - 1);
        assert!(few.holds());
    }
}
