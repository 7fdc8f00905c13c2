//! What is measured: one file a measurement, each a list of plans and a function that makes their rows.

pub(crate) mod agent;
pub(crate) mod cni;
pub(crate) mod fanout;
pub(crate) mod filtering;
pub(crate) mod identities;
pub(crate) mod lab;
pub(crate) mod maps;
pub(crate) mod packets;
pub(crate) mod propagation;
pub(crate) mod simulator;
pub(crate) mod transport;

use crate::{
    environment::foreign_cpus,
    fabric::{Fabric, Size},
    interrupt, note,
    report::Scale,
    rounds::{Arm, interleave},
    row::{Conditions, Plan, Row},
    stats::quantile,
};
use anyhow::{Context, Result};
use std::time::Duration;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Rounds of each comparison.
    pub(crate) rounds: usize,
    /// Whether the figures are not to be believed.
    pub(crate) is_trial: bool,
    /// How long a round of load takes.
    pub(crate) round: Duration,
    /// The lab.
    pub(crate) size: Size,
    /// Plugs of a pod in a round.
    pub(crate) adds: usize,
    /// How long the agent is watched while it is idle, in a round.
    pub(crate) idle: Duration,
    /// Entries of a map.
    pub(crate) entries: usize,
    /// Calls of a program in a round.
    pub(crate) runs: usize,
    /// Flows that rotate.
    pub(crate) flows: usize,
    /// Agents' sessions with one operator.
    pub(crate) agents: usize,
}

impl Settings {
    /// What of it a reader has to know.
    pub(crate) fn scale(&self) -> Scale {
        Scale {
            rounds: self.rounds,
            round_milliseconds: self.round.as_millis(),
            pods: self.size.pods,
            other_rules: self.size.rules,
            entries: self.entries,
            flows: self.flows,
        }
    }
}

/// What a measurement needs.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// A lab.
    InLab(fn(&Settings, &Fabric) -> Result<Vec<Row>>),
    /// Nothing.
    Alone(fn(&Settings) -> Result<Vec<Row>>),
}

/// A measurement: some rows that are measured together.
#[derive(Clone, Copy)]
pub(crate) struct Measurement {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    /// What it measures.
    pub(crate) about: &'static str,
    /// Its rows.
    pub(crate) plans: &'static [Plan],
    /// How they are made.
    pub(crate) work: Work,
}

/// All of them: those of the lab first, and first of these the one that wants it idle.
pub(crate) const ALL: [Measurement; 11] = [
    agent::MEASUREMENT,
    transport::MEASUREMENT,
    cni::MEASUREMENT,
    packets::MEASUREMENT,
    maps::MEASUREMENT,
    lab::MEASUREMENT,
    identities::MEASUREMENT,
    fanout::MEASUREMENT,
    propagation::MEASUREMENT,
    filtering::MEASUREMENT,
    simulator::MEASUREMENT,
];

/// Rounds of these arms, and what others did on the machine before and after.
pub(crate) fn compare(
    settings: &Settings,
    what: &str,
    arms: &mut [Arm<'_>],
) -> Result<(Vec<Vec<f64>>, Conditions)> {
    note(&format!("{what}: {} rounds", settings.rounds));
    let before = foreign_cpus()?;
    let figures = interleave(settings.rounds, arms, |_| Ok(interrupt::check()?))?;
    let foreign_cpus = before.max(foreign_cpus()?);
    Ok((figures, Conditions { foreign_cpus, is_trial: settings.is_trial }))
}

/// The figures of one arm.
pub(crate) fn of(figures: &[Vec<f64>], arm: usize) -> &[f64] {
    figures.get(arm).map(Vec::as_slice).unwrap_or_default()
}

/// Measures so many times, in milliseconds, and remembers each; the median of these.
pub(crate) fn each(
    count: usize,
    all: &mut Vec<f64>,
    mut once: impl FnMut() -> Result<Duration>,
) -> Result<f64> {
    let begun = all.len();
    for _ in 0..count {
        all.push(milliseconds(once()?));
    }
    quantile(all.get(begun..).unwrap_or_default(), 0.5).context("nothing was measured")
}

/// What one in a hundred of a whole run exceeds, as the one figure of a side.
pub(crate) fn tail(all: &[f64]) -> Vec<f64> {
    quantile(all, 0.99).into_iter().collect()
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
