//! How long a policy takes from whoever applies it to the acknowledgement of the last of a thousand agents.

use super::{Measurement, Settings, Work, compare, each, of, tail};
use crate::{
    cluster::{Cluster, Operator, PATIENCE, pushed_bytes},
    crowd::{Agents, FanOut, Manner, node},
    rounds::Arm,
    row::{Check, Plan, Relation, Row, Target, Unit},
};
use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use std::{net::Ipv4Addr, time::Instant};
use tokio::runtime::Builder;
use weft_api::operator::{Answer, Request, Waited};
use weft_types::{Node, Object};

/// Its place in the table.
pub(crate) const MEASUREMENT: Measurement = Measurement {
    name: "propagation",
    about: "a policy from who applies it to the last of many agents' acknowledgements, by three operators",
    plans: &[HALF, MOST],
    work: Work::Alone(measure),
};

const HALF: Plan = Plan {
    name: "policy-p50",
    title: "policy on 1,000 agents, p50",
    unit: Unit::Milliseconds,
    relation: Relation::Floor,
    baseline: "etcd put + bare writes",
    target: Some(Target::AtMost(2.0)),
};
const MOST: Plan = Plan {
    name: "policy-p99",
    title: "policy on 1,000 agents, p99",
    target: Some(Target::AtMost(5.0)),
    ..HALF
};

/// Rounds.
const ROUNDS: usize = 15;
/// Policies in a round.
const CHANGES: usize = 10;
/// All agents come from one address here, where a cluster's come from one each.
const FLAGS: [&str; 2] = ["--handshakes-of-one-peer", "512"];
/// The agents' part in a large cluster.
const SHARE: usize = 5;

fn measure(settings: &Settings) -> Result<Vec<Row>> {
    let few = Settings { rounds: settings.rounds.min(ROUNDS), ..*settings };
    let count = settings.agents / SHARE;
    let cluster = Cluster::of_three(&FLAGS)?;
    let leader = cluster.leader()?;
    leader.ask(Request::Apply { objects: nodes(count)? })?;
    let agents = Agents::connect(leader.address, &cluster.authority, count, Manner::Acknowledge)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let etcd = cluster.etcd.as_ref().context("there is no etcd")?;
    let mut kv = runtime.block_on(etcd.connect())?;
    let size = pushed_bytes()?;
    let mut bare = FanOut::to(count, size, None)?;
    let (mut floors, mut all) = (Vec::new(), Vec::new());
    let (mut number, mut behind) = (0, 0);
    let mut arms = [
        Arm::new(HALF.baseline, || {
            each(CHANGES, &mut floors, || {
                let begun = Instant::now();
                runtime.block_on(kv.put("/rival/policy", vec![7; size], None))?;
                Ok(begun.elapsed() + bare.push()?)
            })
        }),
        Arm::new("policy", || {
            each(CHANGES, &mut all, || {
                number += 1;
                let begun = Instant::now();
                let waited = enforced(leader, number)?;
                behind += waited.behind.len();
                Ok(begun.elapsed())
            })
        }),
    ];
    let (figures, conditions) = compare(&few, "a policy on all agents", &mut arms)?;
    drop((arms, agents));
    let shown =
        format!("each of {number} policies was acknowledged by all but {behind} of {count} agents");
    let check = if behind == 0 { Check::passed(shown) } else { Check::failed(shown) };
    Ok(vec![
        HALF.row(of(&figures, 1), of(&figures, 0), check.clone(), conditions),
        MOST.row(&tail(&all), &tail(&floors), check, conditions),
    ])
}

/// Applies a policy and waits until all nodes hold it.
fn enforced(operator: &Operator, number: u64) -> Result<Waited> {
    let revision = Some(operator.change(number)?);
    let timeout_ms = u64::try_from(PATIENCE.as_millis())? / 2;
    match operator.ask(Request::Wait { revision, timeout_ms, node: None })? {
        Answer::Waited(waited) => Ok(waited),
        other => bail!("an operator answered {other:?}"),
    }
}

/// The agents' nodes, each with an address and a prefix of its own.
fn nodes(count: usize) -> Result<Vec<Object>> {
    let object = |number: usize| {
        let [_, _, high, low] = u32::try_from(number)?.to_be_bytes();
        let prefix = Ipv4Net::new(Ipv4Addr::new(10, high, low, 0), 24)?;
        let address = Ipv4Addr::new(172, 30, high, low);
        Ok(Object::Node(Node { name: node(number), address, pod_cidrs: vec![prefix] }))
    };
    (0..count).map(object).collect()
}
