//! Round trips and streams: what an application sees of the way between two pods.

use super::{Measurement, Settings, Work, compare, of};
use crate::{
    bare::Bare,
    environment::go_first,
    fabric::{Fabric, Pod},
    load::{Ends, Exchange},
    namespace::on_own_thread,
    note,
    rounds::Arm,
    row::{Check, Plan, Relation, Row, Target, Unit},
};
use anyhow::Result;
use std::cell::Cell;

/// Its place in the table.
pub(crate) const MEASUREMENT: Measurement = Measurement {
    name: "rr",
    about: "TCP and UDP round trips and streams between pods against a bare veth route",
    plans: &[
        rate("tcp-rr-node", "TCP RR, same node", Some(Target::AtLeast(1.03))),
        rate("tcp-rr-across", "TCP RR, across nodes", Some(Target::AtLeast(1.10))),
        rate("tcp-crr-node", "TCP CRR, same node", Some(Target::AtLeast(1.06))),
        rate("tcp-crr-across", "TCP CRR, across nodes", Some(Target::AtLeast(1.06))),
        rate("udp-rr-node", "UDP RR, same node", None),
        rate("udp-rr-across", "UDP RR, across nodes", None),
        stream("tcp-stream-node", "TCP stream, same node"),
        stream("tcp-stream-across", "TCP stream, across nodes"),
    ],
    work: Work::InLab(measure),
};

const fn rate(name: &'static str, title: &'static str, target: Option<Target>) -> Plan {
    let (unit, relation) = (Unit::PerSecond, Relation::Ratio);
    Plan { name, title, unit, relation, baseline: "bare route", target }
}

const fn stream(name: &'static str, title: &'static str) -> Plan {
    Plan { unit: Unit::GigabitsPerSecond, ..rate(name, title, None) }
}

/// The lab's pods that take part.
struct Pods {
    client: Pod,
    near: Pod,
    far: Pod,
    stranger: Pod,
}

fn measure(settings: &Settings, lab: &Fabric) -> Result<Vec<Row>> {
    on_own_thread(|| {
        go_first();
        measure_all(settings, lab)
    })
}

fn measure_all(settings: &Settings, lab: &Fabric) -> Result<Vec<Row>> {
    let bare = Bare::up()?;
    let pods = Pods {
        client: lab.pod("client")?,
        near: lab.pod("near")?,
        far: lab.pod("far")?,
        stranger: lab.pod("stranger")?,
    };
    let exchanges = [
        Exchange::TcpRequests,
        Exchange::TcpConnections,
        Exchange::UdpRequests,
        Exchange::TcpStream,
    ];
    let ways = exchanges.into_iter().flat_map(|how| [(how, Place::Node), (how, Place::Across)]);
    let mut rows = Vec::new();
    for (plan, (how, place)) in MEASUREMENT.plans.iter().zip(ways) {
        let (server, route) = match place {
            Place::Node => (&pods.near, bare.near()),
            Place::Across => (&pods.far, bare.far()),
        };
        rows.push(row(
            settings,
            *plan,
            how,
            [pods.client.to(server), route],
            &pods.stranger.to(server),
        )?);
    }
    Ok(rows)
}

#[derive(Clone, Copy)]
enum Place {
    Node,
    Across,
}

fn row(
    settings: &Settings,
    plan: Plan,
    how: Exchange,
    [weft, bare]: [Ends<'_>; 2],
    forbidden: &Ends<'_>,
) -> Result<Row> {
    let moved = Cell::new(0);
    let through = |ends: Ends<'_>| {
        let (rate, done) = ends.exchange(how, settings.round)?;
        moved.set(moved.get() + done);
        Ok(rate)
    };
    let mut arms = [Arm::new("bare route", || through(bare)), Arm::new("weft", || through(weft))];
    let (figures, conditions) = compare(settings, plan.title, &mut arms)?;
    drop(arms);
    let check = check(moved.get(), weft, *forbidden)?;
    Ok(plan.row(of(&figures, 1), of(&figures, 0), check, conditions))
}

/// Every byte was right, and the policy is on: who is not named in it is refused where the client is not.
fn check(moved: u64, allowed: Ends<'_>, forbidden: Ends<'_>) -> Result<Check> {
    let (client, stranger) = (allowed.connects()?, forbidden.connects()?);
    Ok(match (client, stranger) {
        (true, false) => Check::passed(format!(
            "{moved} bytes went and were right; a pod that no rule names is refused"
        )),
        (false, _) => Check::failed("the client could not connect after the rounds"),
        (_, true) => {
            note("a pod that no rule names was let through");
            Check::failed("a pod that no rule names was let through: the policy is not on")
        }
    })
}
