//! How long one change takes to thousands of sessions, and what a session takes of an operator's memory.

use super::{Measurement, Settings, Work, agent::resident, compare, milliseconds, of};
use crate::{
    cluster::{Authority, Cluster, pushed_bytes},
    crowd::{Agents, FanOut, Manner},
    rounds::Arm,
    row::{Check, Plan, Relation, Row, Target, Unit},
};
use anyhow::Result;
use std::time::Instant;

/// Its place in the table.
pub(crate) const MEASUREMENT: Measurement = Measurement {
    name: "fanout",
    about: "one change to many agents' sessions against bare writes to as many connections; a session's memory",
    plans: &[PLAIN, TLS, MEMORY],
    work: Work::Alone(measure),
};

const PLAIN: Plan = Plan {
    name: "push",
    title: "a change to 5,000 sessions",
    unit: Unit::Milliseconds,
    relation: Relation::Floor,
    baseline: "bare writes",
    target: Some(Target::AtMost(3.0)),
};
const TLS: Plan = Plan {
    name: "push-over-tls",
    title: "the same over TLS",
    baseline: "bare writes of TLS",
    target: None,
    ..PLAIN
};
const MEMORY: Plan = Plan {
    name: "session-rss",
    title: "operator RSS a session",
    unit: Unit::Kibibytes,
    relation: Relation::Alone,
    baseline: "",
    target: Some(Target::AtMost(20.0)),
};

/// Rounds: each is a change for everybody.
const ROUNDS: usize = 15;
/// All agents come from one address here, where a cluster's come from one each.
const FLAGS: [&str; 2] = ["--handshakes-of-one-peer", "512"];

fn measure(settings: &Settings) -> Result<Vec<Row>> {
    let few = Settings { rounds: settings.rounds.min(ROUNDS), ..*settings };
    let cluster = Cluster::alone(&FLAGS)?;
    let operator = cluster.leader()?;
    operator.change(0)?;
    let empty = resident(operator.pid())?;
    let agents =
        Agents::connect(operator.address, &cluster.authority, settings.agents, Manner::Listen)?;
    // What a session needs when it is sent something is its own from then on.
    agents.have(operator.change(1)?)?;
    let full = resident(operator.pid())?;
    let size = pushed_bytes()?;
    let mut number = 1;
    let mut push = || {
        number += 1;
        let begun = Instant::now();
        let since = agents.have(operator.change(number)?)?;
        Ok(milliseconds(since.saturating_duration_since(begun)))
    };
    // One after the other: all of these connections at once are more than a process may have.
    let mut against = |baseline: &'static str, authority: Option<&Authority>| {
        let mut bare = FanOut::to(settings.agents, size, authority)?;
        let mut arms =
            [Arm::new(baseline, || Ok(milliseconds(bare.push()?))), Arm::new("push", &mut push)];
        compare(&few, "a change to all sessions", &mut arms)
    };
    let (plain, plainly) = against(PLAIN.baseline, None)?;
    let (tls, secretly) = against(TLS.baseline, Some(&cluster.authority))?;
    // One that had not got it, or whose session ended, would have been an error.
    let shown =
        format!("each of {} agents had each of {number} changes of {size} bytes", settings.agents);
    let check = Check::passed(shown);
    let each = (full - empty) * 1024.0 / settings.agents as f64;
    let grown = format!("{}; RSS went from {empty:.1} to {full:.1} MiB", check.shown);
    Ok(vec![
        PLAIN.row(of(&plain, 1), of(&plain, 0), check.clone(), plainly),
        TLS.row(of(&tls, 1), of(&tls, 0), check.clone(), secretly),
        MEMORY.row(&[each], &[], Check { shown: grown, ..check }, plainly),
    ])
}
