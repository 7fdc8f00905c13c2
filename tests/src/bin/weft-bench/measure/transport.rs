//! Round trips and streams: what an application sees of the way between two pods.

use super::{Measurement, Settings, Work, compare, of};
use crate::{
    bare::Bare,
    environment::go_first,
    fabric::Fabric,
    load::{Ends, Exchange},
    namespace::on_own_thread,
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

/// What is measured in a row: a way through the lab, the same without Weft, and who may not go it.
struct Way<'a> {
    weft: Ends<'a>,
    bare: Ends<'a>,
    forbidden: Ends<'a>,
    /// The server's pod.
    server: &'static str,
}

fn measure(settings: &Settings, lab: &Fabric) -> Result<Vec<Row>> {
    on_own_thread(|| {
        go_first();
        measure_all(settings, lab)
    })
}

fn measure_all(settings: &Settings, lab: &Fabric) -> Result<Vec<Row>> {
    let bare = Bare::up()?;
    let pod = |name| lab.pod(name);
    let (client, stranger) = (pod("client")?, pod("stranger")?);
    let (near, far) = (pod("near")?, pod("far")?);
    let way = |server: &'static str, pod, bare| Way {
        weft: client.to(pod),
        bare,
        forbidden: stranger.to(pod),
        server,
    };
    let ways = [way("near", &near, bare.near()), way("far", &far, bare.far())];
    let exchanges = [
        Exchange::TcpRequests,
        Exchange::TcpConnections,
        Exchange::UdpRequests,
        Exchange::TcpStream,
    ];
    let all = exchanges.into_iter().flat_map(|how| ways.iter().map(move |way| (how, way)));
    let rows = MEASUREMENT.plans.iter().zip(all);
    rows.map(|(plan, (how, way))| row(settings, lab, *plan, how, way)).collect()
}

fn row(settings: &Settings, lab: &Fabric, plan: Plan, how: Exchange, way: &Way<'_>) -> Result<Row> {
    let moved = Cell::new(0);
    let through = |ends: Ends<'_>| {
        let (rate, done) = ends.exchange(how, settings.round)?;
        moved.set(moved.get() + done);
        Ok(rate)
    };
    let mut arms =
        [Arm::new("bare route", || through(way.bare)), Arm::new("weft", || through(way.weft))];
    let (figures, conditions) = compare(settings, plan.title, &mut arms)?;
    drop(arms);
    let check = check(lab, moved.get(), way)?;
    Ok(plan.row(of(&figures, 1), of(&figures, 0), check, conditions))
}

/// Every byte was right; the policy is on: who is not named in it is refused where the client is not; and
/// events are on: the lab tells of that.
fn check(lab: &Fabric, moved: u64, way: &Way<'_>) -> Result<Check> {
    if !way.weft.connects()? {
        return Ok(Check::failed("the client could not connect after the rounds"));
    }
    if way.forbidden.connects()? {
        return Ok(Check::failed("a pod that no rule names was let through: the policy is not on"));
    }
    if !lab.tells_of_drop("stranger", way.server)? {
        return Ok(Check::failed("`weft flows` does not tell of a refused connection"));
    }
    let moved = format!("{moved} bytes went and were right");
    Ok(Check::passed(format!(
        "{moved}; a pod that no rule names is refused, and `weft flows` says so"
    )))
}
