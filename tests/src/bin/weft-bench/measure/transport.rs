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
        over_redirects("tcp-rr-node-redirects", Unit::PerSecond),
        rate("tcp-rr-across", "TCP RR, across nodes", Some(Target::AtLeast(1.10))),
        over_redirects("tcp-rr-across-redirects", Unit::PerSecond),
        rate("tcp-crr-node", "TCP CRR, same node", Some(Target::AtLeast(1.06))),
        over_redirects("tcp-crr-node-redirects", Unit::PerSecond),
        rate("tcp-crr-across", "TCP CRR, across nodes", Some(Target::AtLeast(1.06))),
        over_redirects("tcp-crr-across-redirects", Unit::PerSecond),
        rate("udp-rr-node", "UDP RR, same node", None),
        over_redirects("udp-rr-node-redirects", Unit::PerSecond),
        rate("udp-rr-across", "UDP RR, across nodes", None),
        over_redirects("udp-rr-across-redirects", Unit::PerSecond),
        stream("tcp-stream-node", "TCP stream, same node"),
        over_redirects("tcp-stream-node-redirects", Unit::GigabitsPerSecond),
        stream("tcp-stream-across", "TCP stream, across nodes"),
        over_redirects("tcp-stream-across-redirects", Unit::GigabitsPerSecond),
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

/// How near the row before it is to the most that redirecting can be on this machine ([`crate::redirect`]).
const fn over_redirects(name: &'static str, unit: Unit) -> Plan {
    Plan { unit, baseline: "bare redirects", ..rate(name, "  the same over bare redirects", None) }
}

/// What is measured together: a way through the lab, the same without Weft, and who may not go it.
struct Way<'a> {
    weft: Ends<'a>,
    bare: Ends<'a>,
    redirected: Ends<'a>,
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
    let (bare, redirected) = (Bare::up()?, Bare::redirected()?);
    let pod = |name| lab.pod(name);
    let (client, stranger) = (pod("client")?, pod("stranger")?);
    let (near, far) = (pod("near")?, pod("far")?);
    let way = |server: &'static str, pod, bare, redirected| Way {
        weft: client.to(pod),
        bare,
        redirected,
        forbidden: stranger.to(pod),
        server,
    };
    let ways = [
        way("near", &near, bare.near(), redirected.near()),
        way("far", &far, bare.far(), redirected.far()),
    ];
    let exchanges = [
        Exchange::TcpRequests,
        Exchange::TcpConnections,
        Exchange::UdpRequests,
        Exchange::TcpStream,
    ];
    let all = exchanges.into_iter().flat_map(|how| ways.iter().map(move |way| (how, way)));
    let (plans, _) = MEASUREMENT.plans.as_chunks();
    let rows =
        plans.iter().zip(all).map(|(plans, (how, way))| rows(settings, lab, *plans, how, way));
    Ok(rows.collect::<Result<Vec<_>>>()?.concat())
}

fn rows(
    settings: &Settings,
    lab: &Fabric,
    [plan, over_redirects]: [Plan; 2],
    how: Exchange,
    way: &Way<'_>,
) -> Result<[Row; 2]> {
    let moved = Cell::new(0);
    let through = |ends: Ends<'_>| {
        let (rate, done) = ends.exchange(how, settings.round)?;
        moved.set(moved.get() + done);
        Ok(rate)
    };
    let mut arms = [
        Arm::new("bare route", || through(way.bare)),
        Arm::new("bare redirects", || through(way.redirected)),
        Arm::new("weft", || through(way.weft)),
    ];
    let (figures, conditions) = compare(settings, plan.title, &mut arms)?;
    drop(arms);
    let check = check(lab, moved.get(), way)?;
    let weft = of(&figures, 2);
    Ok([
        plan.row(weft, of(&figures, 0), check.clone(), conditions),
        over_redirects.row(weft, of(&figures, 1), check, conditions),
    ])
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
