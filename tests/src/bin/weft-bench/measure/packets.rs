//! Nanoseconds that a program takes for a packet, over a program that does nothing (`BPF_PROG_TEST_RUN`).
//!
//! *Hot*: one flow, over and over in one call. *Once a call*: the same flow, but the kernel's way into and
//! out of the call has used the near caches meanwhile. *First* and *rotating*: so too, and another flow
//! each time, so that its entry is cold as well. A *denied* flow has no entry; what is rotated there is when it
//! was told last: each one is told, and takes the place of another. The empty program is called alike.

use super::{Measurement, Settings, Work, compare, of};
use crate::{
    kernel::Bed,
    rounds::Arm,
    row::{Check, Plan, Relation, Row, Target, Unit},
    stats::quantile,
    world::{self, CLIENT, DROPPED, FAR, NEAR, OPEN_PORT, Place, REDIRECTED, World, data, opening},
};
use anyhow::{Context, Result};
use std::cell::Cell;
use weft_abi::event::{EVENTS, Event, MUTED4};
use weft_datapath::run::{Ran, Runnable, Trial};

/// Its place in the table.
pub(crate) const MEASUREMENT: Measurement = Measurement {
    name: "packets",
    about: "ns a packet by BPF_PROG_TEST_RUN over an empty program",
    plans: &[
        cost("packet-node", "established, same node, hot", Some(Target::AtMost(170.0))),
        cost("packet-out", "established, to another node, hot", None),
        cost("packet-in", "established, from another node, hot", None),
        cost("packet-denied", "denied, hot", None),
        cost("packet-node-single", "established, same node, once a call", None),
        cost("packet-denied-once", "denied, once a call", None),
        cost("packet-first", "first packet, same node", None),
        cost("packet-answer", "first answer, same node", None),
        cost("packet-node-64k", "established, same node, rotating", None),
        cost("packet-denied-rotating", "denied, rotating", None),
    ],
    work: Work::Alone(measure),
};

const fn cost(name: &'static str, title: &'static str, target: Option<Target>) -> Plan {
    let (unit, relation) = (Unit::Nanoseconds, Relation::Excess);
    Plan { name, title, unit, relation, baseline: "empty program", target }
}

/// Each repetition counts the time to live down, from 255.
const REPEAT: u32 = 200;
/// Ports of the flow that is hot, and of the one that no rule allows.
const HOT: [u16; 2] = [1024, 16_000];
const CLOSED: [u16; 2] = [1024, 80];
/// Bytes before each event in the ring (`BPF_RINGBUF_HDR_SZ`).
const RING_HEADER: usize = 8;
/// Events that a ring has room for when nobody reads it, and some to spare.
const ROOM: usize = EVENTS.capacity as usize / (size_of::<Event>() + RING_HEADER) * 9 / 10;
/// Arms that open flows.
const OPENING_ARMS: usize = 2;
/// Flows of which the kernel knows when they were told as denied.
const MUTED: usize = MUTED4.capacity as usize;
/// Source ports that are used in turn.
const SOURCES: usize = 60_000;

fn measure(settings: &Settings) -> Result<Vec<Row>> {
    Bed::within(|| {
        world::make_devices()?;
        let rules = settings.size.rules;
        let (hot, many) = (World::make("hot", rules)?, World::make("many", rules)?);
        let refusing = World::make("refusing", rules)?;
        for to in [NEAR, FAR] {
            hot.connect(CLIENT, to, HOT)?;
        }
        for flow in 0..settings.flows {
            many.connect(CLIENT, NEAR, flow_ports(flow))?;
        }
        let bench = Bench::new(settings, [hot, many, refusing])?;
        bench.deny_many()?;
        let figures = bench.run()?;
        let (figures, conditions) = figures;
        let check = bench.check()?;
        let rows = MEASUREMENT.plans.iter().zip(Bench::BASELINES).enumerate();
        Ok(rows
            .map(|(arm, (plan, baseline))| {
                plan.row(of(&figures, arm), of(&figures, baseline), check.clone(), conditions)
            })
            .collect())
    })
}

/// The n-th flow's ports.
fn flow_ports(flow: usize) -> [u16; 2] {
    ports_from(OPEN_PORT, flow)
}

/// The same of those that no rule allows.
fn denied_ports(flow: usize) -> [u16; 2] {
    ports_from(CLOSED[1], flow)
}

#[expect(clippy::cast_possible_truncation, reason = "the world has as many flows as fit")]
fn ports_from(first: u16, flow: usize) -> [u16; 2] {
    let (source, destination) = (1024 + flow % SOURCES, usize::from(first) + flow / SOURCES);
    [source as u16, destination as u16]
}

struct Bench<'a> {
    settings: &'a Settings,
    hot: World,
    many: World,
    /// Of denied flows: its ring is theirs alone.
    refusing: World,
    empty: Runnable,
    /// Flows opened so far, those whose turn is next, and packets run.
    opened: Cell<usize>,
    rotated: Cell<usize>,
    denied: Cell<usize>,
    packets: Cell<u64>,
}

impl<'a> Bench<'a> {
    /// The arm that each row's figures are taken over: empty in repetition, or empty once a call.
    const BASELINES: [usize; 10] = [10, 10, 10, 10, 11, 11, 11, 11, 11, 11];

    fn new(settings: &'a Settings, [hot, many, refusing]: [World; 3]) -> Result<Self> {
        let empty = Runnable::empty()?;
        let (opened, rotated, denied) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let packets = Cell::new(0);
        Ok(Self { settings, hot, many, refusing, empty, opened, rotated, denied, packets })
    }

    fn run(&self) -> Result<(Vec<Vec<f64>>, crate::row::Conditions)> {
        let [node, out, inward, denied] = [
            (CLIENT, NEAR, HOT, REDIRECTED),
            (CLIENT, FAR, HOT, REDIRECTED),
            (FAR, CLIENT, [HOT[1], HOT[0]], REDIRECTED),
            (CLIENT, NEAR, CLOSED, DROPPED),
        ];
        let mut arms = [
            Arm::new("same node", || self.repeated(node)),
            Arm::new("to another node", || self.repeated(out)),
            Arm::new("from another node", || self.repeated(inward)),
            Arm::new("denied", || self.repeated(denied)),
            Arm::new("same node, once a call", || self.once(node)),
            Arm::new("denied, once a call", || self.once(denied)),
            Arm::new("first packet", || self.first()),
            Arm::new("first answer", || self.answer()),
            Arm::new("rotating flows", || self.rotating()),
            Arm::new("rotating denied flows", || self.rotating_denied()),
            Arm::new("empty program, repeated", || {
                let packet = data(CLIENT, NEAR, HOT);
                self.typical(self.settings.runs, |_| self.nothing(&packet, REPEAT))
            }),
            Arm::new("empty program, once a call", || {
                let packet = data(CLIENT, NEAR, HOT);
                self.typical(self.settings.runs, |_| self.nothing(&packet, 1))
            }),
        ];
        compare(self.settings, "packets", &mut arms)
    }

    /// The median of some calls.
    fn typical(&self, calls: usize, mut call: impl FnMut(usize) -> Result<Ran>) -> Result<f64> {
        let mut all = Vec::with_capacity(calls);
        for number in 0..calls {
            all.push(f64::from(call(number)?.nanoseconds));
        }
        quantile(&all, 0.5).context("nothing was run")
    }

    fn repeated(&self, (from, to, ports, action): (Place, Place, [u16; 2], u32)) -> Result<f64> {
        let packet = data(from, to, ports);
        self.typical(self.settings.runs, |_| {
            self.packets.set(self.packets.get() + u64::from(REPEAT));
            expect(self.hot.run(from, &packet, REPEAT)?, action)
        })
    }

    fn once(&self, (from, to, ports, action): (Place, Place, [u16; 2], u32)) -> Result<f64> {
        self.typical(self.settings.runs, |_| {
            self.packets.set(self.packets.get() + 1);
            expect(self.hot.run(from, &data(from, to, ports), 1)?, action)
        })
    }

    /// First packets of flows that were never seen.
    fn first(&self) -> Result<f64> {
        self.typical(self.openings(), |_| self.open().map(|(ran, _)| ran))
    }

    /// First answers to such.
    fn answer(&self) -> Result<f64> {
        self.typical(self.openings(), |_| {
            let (_, [source, destination]) = self.open()?;
            self.packets.set(self.packets.get() + 1);
            let packet = world::answer(NEAR, CLIENT, [destination, source]);
            expect(self.hot.run(NEAR, &packet, 1)?, REDIRECTED)
        })
    }

    /// Opens the next flow.
    fn open(&self) -> Result<(Ran, [u16; 2])> {
        let ports = flow_ports(self.opened.replace(self.opened.get() + 1));
        self.packets.set(self.packets.get() + 1);
        let ran = expect(self.hot.run(CLIENT, &opening(CLIENT, NEAR, ports), 1)?, REDIRECTED)?;
        Ok((ran, ports))
    }

    /// Flows that an arm may open in a round. Nobody reads this bed's ring of events, so all of them have to fit.
    fn openings(&self) -> usize {
        self.calls_within(ROOM / OPENING_ARMS)
    }

    /// Calls of a round, if all rounds together may have so many events.
    fn calls_within(&self, events: usize) -> usize {
        self.settings.runs.min(events / self.settings.rounds.max(1)).max(1)
    }

    /// The next ones of all flows, far from each other in the table.
    fn rotating(&self) -> Result<f64> {
        self.typical(self.settings.runs, |_| {
            let flow = self.turn(&self.rotated);
            self.packets.set(self.packets.get() + 1);
            let packet = data(CLIENT, NEAR, flow_ports(flow));
            expect(self.many.run(CLIENT, &packet, 1)?, REDIRECTED)
        })
    }

    /// The next ones of all flows that are denied. Each is an event, and these have to fit, too.
    fn rotating_denied(&self) -> Result<f64> {
        self.typical(self.calls_within(ROOM - MUTED), |_| self.deny())
    }

    /// As many denied flows as the kernel remembers, so that it has to forget one for each that comes.
    fn deny_many(&self) -> Result<()> {
        (0..MUTED).try_for_each(|_| self.deny().map(drop))
    }

    /// The next denied flow's packet.
    fn deny(&self) -> Result<Ran> {
        let flow = self.turn(&self.denied);
        self.packets.set(self.packets.get() + 1);
        let packet = data(CLIENT, NEAR, denied_ports(flow));
        expect(self.refusing.run(CLIENT, &packet, 1)?, DROPPED)
    }

    /// Whose turn it is. A prime step visits every flow before one comes again.
    fn turn(&self, next: &Cell<usize>) -> usize {
        next.replace((next.get() + 7919) % self.settings.flows)
    }

    fn nothing(&self, packet: &[u8], repeat: u32) -> Result<Ran> {
        expect(self.empty.run(Trial { packet, ifindex: CLIENT.ifindex, repeat })?, 0)
    }

    /// What an established packet looks like when it leaves: rewritten for the pod, one hop older.
    fn check(&self) -> Result<Check> {
        let sent = data(CLIENT, NEAR, HOT);
        let ran = self.hot.run(CLIENT, &sent, 1)?;
        let header = ran.packet.get(14..34).unwrap_or_default();
        let right = ran.packet.get(..6) == Some(&NEAR.mac)
            && ran.packet.get(22) == Some(&254)
            && world::checksum(header) == 0
            && ran.packet.get(34..) == sent.get(34..);
        let packets = self.packets.get();
        Ok(if right {
            Check::passed(format!(
                "{packets} verdicts as expected; the packet leaves rewritten for its pod"
            ))
        } else {
            Check::failed(format!("the packet leaves as {:02x?}", ran.packet))
        })
    }
}

fn expect(ran: Ran, action: u32) -> Result<Ran> {
    anyhow::ensure!(ran.action == action, "the program returned {}, not {action}", ran.action);
    Ok(ran)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_flow_has_ports_of_its_own_and_open_ones() {
        let all: BTreeSet<[u16; 2]> = (0..1 << 16).map(flow_ports).collect();
        assert_eq!(all.len(), 1 << 16);
        assert!(all.iter().all(|[s, d]| *s >= 1024 && (8192..16_384).contains(d)));
        assert!(!all.contains(&HOT));
    }

    #[test]
    fn every_denied_flow_has_ports_of_its_own_and_closed_ones() {
        let all: BTreeSet<[u16; 2]> = (0..1 << 16).map(denied_ports).collect();
        assert_eq!(all.len(), 1 << 16);
        assert!(all.iter().all(|[s, d]| *s >= 1024 && *d < OPEN_PORT));
    }

    #[test]
    fn a_prime_step_visits_every_flow() {
        for flows in [512, 1 << 16] {
            let visited: BTreeSet<usize> = (0..flows).map(|n| n * 7919 % flows).collect();
            assert_eq!(visited.len(), flows);
        }
    }
}
