//! How long a person waits for a lab: from `weft lab up` to every pod ready and every policy enforced.

use super::{Measurement, Settings, Work, compare, of};
use crate::{
    fabric::{Fabric, Size},
    load::Exchange,
    rounds::Arm,
    row::{Check, Plan, Relation, Row, Target, Unit},
};
use anyhow::Result;

/// Its place in the table.
pub(crate) const MEASUREMENT: Measurement = Measurement {
    name: "lab",
    about: "weft lab up, with two nodes and ten pods",
    plans: &[Plan {
        name: "lab-up",
        title: "lab up, 2 nodes, 10 pods",
        unit: Unit::Milliseconds,
        relation: Relation::Alone,
        baseline: "",
        target: Some(Target::AtMost(3000.0)),
    }],
    work: Work::Alone(measure),
};

/// Nine pods on the first node and one on the second.
const SIZE: Size = Size { pods: 9, rules: 0 };
/// Whole labs take seconds; a few tell enough.
const ROUNDS: usize = 7;

fn measure(settings: &Settings) -> Result<Vec<Row>> {
    let few = Settings { rounds: settings.rounds.min(ROUNDS), ..*settings };
    let mut check = Check::failed("no lab came up");
    let mut arms = [Arm::new("weft lab up", || {
        let lab = Fabric::up(SIZE)?;
        check = works(settings, &lab)?;
        Ok(lab.took.as_secs_f64() * 1000.0)
    })];
    let (figures, conditions) = compare(&few, "lab up", &mut arms)?;
    drop(arms);
    let rows = MEASUREMENT.plans.iter();
    Ok(rows.map(|plan| plan.row(of(&figures, 0), &[], check.clone(), conditions)).collect())
}

/// Pods are there, and those that may reach each other do, across nodes.
fn works(settings: &Settings, lab: &Fabric) -> Result<Check> {
    let plugged = lab.plugged()?;
    if plugged != SIZE.pods {
        return Ok(Check::failed(format!("node1 has {plugged} pods of {}", SIZE.pods)));
    }
    let (client, far) = (lab.pod("client")?, lab.pod("far")?);
    Ok(match client.to(&far).exchange(Exchange::TcpRequests, settings.round) {
        Ok(_) => {
            Check::passed(format!("node1 has {plugged} pods; one of them reaches the other node's"))
        }
        Err(error) => Check::failed(format!("the other node's pod does not answer: {error:#}")),
    })
}
