//! How much simulated time a second of the simulator is, with a thousand agents.

use super::{Measurement, Settings, Work, compare};
use crate::{
    rounds::Arm,
    row::{Check, Plan, Relation, Row, Target, Unit},
};
use anyhow::Result;
use nix::time::{ClockId, clock_gettime};
use std::{cell::RefCell, time::Duration};
use weft_sim::{Sabotage, Scenario, run};

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

fn measure(settings: &Settings) -> Result<Vec<Row>> {
    // A scenario costs the same each time: what swings is from one to another.
    let once = Settings { rounds: 1, ..*settings };
    let agents = settings.agents / SHARE;
    let failed = RefCell::new(Vec::new());
    let arm = |name: &'static str| {
        let failed = &failed;
        Arm::new(name, move || {
            let scenario = Scenario::find(name)?.with_agents(agents);
            let begun = computed()?;
            let report = run(&scenario, 1, Sabotage::None);
            let took = computed()?.saturating_sub(begun);
            if !report.violations.is_empty() {
                failed.borrow_mut().push(report.replay());
            }
            // Its beginning and its healing are not counted.
            Ok(report.seconds as f64 / took.as_secs_f64())
        })
    };
    let names: Vec<&'static str> = Scenario::names().collect();
    let mut arms: Vec<Arm<'_>> = names.iter().copied().map(arm).collect();
    let (figures, conditions) = compare(&once, "simulator", &mut arms)?;
    drop(arms);
    let speeds: Vec<f64> = figures.into_iter().flatten().collect();
    let mut each: Vec<(f64, &str)> = speeds.iter().copied().zip(names).collect();
    each.sort_by(|a, b| a.0.total_cmp(&b.0));
    let each: Vec<String> = each.iter().map(|(speed, name)| format!("{name} {speed:.0}")).collect();
    let failed = failed.into_inner();
    let check = match failed.is_empty() {
        true => Check::passed(format!("no invariant was violated; {}", each.join(", "))),
        false => Check::failed(failed.join("; ")),
    };
    Ok(vec![SPEED.row(&speeds, &[], check, conditions)])
}

/// How long this thread has run: a simulator waits for nothing, so a second of it is one of a machine that does nothing else.
fn computed() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
