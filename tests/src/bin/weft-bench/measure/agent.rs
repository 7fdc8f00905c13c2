//! What an agent costs while nothing happens: memory and CPU.

use super::{Measurement, Settings, Work, compare, of};
use crate::{
    fabric::Fabric,
    rounds::Arm,
    row::{Check, Plan, Relation, Row, Target, Unit},
};
use anyhow::{Context, Result};
use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// Its place in the table.
pub(crate) const MEASUREMENT: Measurement = Measurement {
    name: "agent",
    about: "an idle agent's memory and CPU, with all pods on its node",
    plans: &[
        figure("agent-rss", "agent RSS with all pods", Unit::Mebibytes, Some(Target::AtMost(40.0))),
        figure("agent-idle-cpu", "agent CPU when idle", Unit::PercentOfCpu, None),
    ],
    work: Work::InLab(measure),
};

const fn figure(
    name: &'static str,
    title: &'static str,
    unit: Unit,
    target: Option<Target>,
) -> Plan {
    Plan { name, title, unit, relation: Relation::Alone, baseline: "", target }
}

fn measure(settings: &Settings, lab: &Fabric) -> Result<Vec<Row>> {
    let agent = lab.agent()?;
    let mut arms = [
        Arm::new("memory", || resident(agent)),
        Arm::new("CPU", || {
            let (before, begun) = (running(agent)?, Instant::now());
            thread::sleep(settings.idle);
            let used = running(agent)?.saturating_sub(before);
            Ok(100.0 * used.as_secs_f64() / begun.elapsed().as_secs_f64())
        }),
    ];
    let (figures, conditions) = compare(settings, "agent at rest", &mut arms)?;
    drop(arms);
    let plugged = lab.plugged()?;
    let shown = format!("node1 has {plugged} pods, {} rules are loaded", lab.size.rules);
    let check = if plugged == lab.size.pods { Check::passed(shown) } else { Check::failed(shown) };
    let rows = MEASUREMENT.plans.iter().enumerate();
    Ok(rows
        .map(|(arm, plan)| plan.row(of(&figures, arm), &[], check.clone(), conditions))
        .collect())
}

/// Mebibytes of a process that are in memory, shared pages among them.
pub(super) fn resident(pid: u64) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("{path} says no Rss"))? / 1024.0)
}

/// How long all threads of a process have run on a CPU.
fn running(pid: u64) -> Result<Duration> {
    let path = format!("/proc/{pid}/task");
    let mut total = Duration::ZERO;
    for thread in fs::read_dir(&path).with_context(|| format!("list {path}"))?.flatten() {
        // One that ended since has nothing to tell.
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let nanoseconds = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default();
        total += Duration::from_nanos(nanoseconds);
    }
    anyhow::ensure!(!total.is_zero(), "{path}: this kernel keeps no schedstat");
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_run_and_takes_memory() {
        let me = u64::from(std::process::id());
        assert!(running(me).unwrap() > Duration::ZERO);
        assert!(resident(me).unwrap() > 0.1);
        assert!(resident(u64::from(u32::MAX)).is_err());
    }
}
