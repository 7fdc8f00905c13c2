//! How much simulated time a second of the simulator is, with a thousand agents.

use super::{Measurement, Settings, Work, compare};
use crate::{
    program::ours,
    rounds::Arm,
    row::{Check, Plan, Relation, Row, Target, Unit},
};
use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use serde::Deserialize;
use std::{
    cell::RefCell,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

/// Its place in the table.
pub(crate) const MEASUREMENT: Measurement = Measurement {
    name: "simulator",
    about: "simulated seconds a second, of scenarios with many agents",
    plans: &[SPEED],
    work: Work::Alone(measure),
};

const SPEED: Plan = Plan {
    name: "simulator-speed",
    title: "simulated seconds, 1,000 agents",
    unit: Unit::PerSecond,
    relation: Relation::Alone,
    baseline: "",
    target: Some(Target::AtLeast(100.0)),
};

/// The agents' part in the largest measurement.
const SHARE: usize = 5;

/// What of a run's JSON is looked at.
#[derive(Deserialize)]
struct Ran {
    /// Simulated; its beginning and its healing are not counted.
    seconds: f64,
    /// Whether it counts, and everything held.
    verdict: String,
}

fn measure(settings: &Settings) -> Result<Vec<Row>> {
    // A scenario costs the same each time: what swings is from one to another.
    let once = Settings { rounds: 1, ..*settings };
    let agents = (settings.agents / SHARE).to_string();
    let (program, failed) = (ours("weft-sim")?, RefCell::new(Vec::new()));
    let names = scenarios(&program)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (program, failed, agents) = (&program, &failed, &agents);
    let arm = |name| {
        Arm::new(name, move || {
            let before = computed()?;
            let run = ["run", name, "--nodes", agents, "--output", "json"];
            let Output { stdout, status, .. } = Command::new(program).args(run).output()?;
            let took = computed()?.saturating_sub(before);
            let mut lines = serde_json::Deserializer::from_slice(&stdout).into_iter();
            let ran: Ran = lines.next().context("it said nothing")??;
            if !status.success() {
                failed.borrow_mut().push(format!("{}: weft-sim {}", ran.verdict, run.join(" ")));
            }
            Ok(ran.seconds / took.as_secs_f64())
        })
    };
    let mut arms: Vec<Arm<'_>> = names.iter().copied().map(arm).collect();
    let (figures, conditions) = compare(&once, "simulator", &mut arms)?;
    drop(arms);
    let speeds: Vec<f64> = figures.into_iter().flatten().collect();
    let mut each: Vec<(f64, &str)> = speeds.iter().copied().zip(names).collect();
    each.sort_by(|a, b| a.0.total_cmp(&b.0));
    let each: Vec<String> = each.iter().map(|(speed, name)| format!("{name} {speed:.0}")).collect();
    let failed = failed.take();
    let check = match failed.is_empty() {
        true => Check::passed(format!("every run held; {}", each.join(", "))),
        false => Check::failed(failed.join("; ")),
    };
    Ok(vec![SPEED.row(&speeds, &[], check, conditions)])
}

fn scenarios(program: &Path) -> Result<Vec<String>> {
    let list = Command::new(program).arg("list").output().context("weft-sim list")?;
    let list = String::from_utf8(list.stdout)?;
    Ok(list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// How long programs that ended have run: a simulator waits for nothing, so a second of it is one of a machine that does nothing
/// else.
fn computed() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let of = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec().cast_unsigned())
            + Duration::from_micros(time.tv_usec().cast_unsigned())
    };
    Ok(of(usage.user_time()) + of(usage.system_time()))
}
