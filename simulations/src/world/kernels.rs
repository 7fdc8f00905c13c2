//! What agents' processes write into their nodes' kernels, and packets that meet what is written so far.

use super::{World, event::Event};
use crate::{
    Invariant,
    agent::Agent,
    book::Judged,
    kernel::{Packet, Turn},
    policies::PORTS,
    time::{Micros, Millis},
};
use std::net::Ipv4Addr;
use weft_abi::{
    address::Addr4,
    ipcache::LOCAL,
    policy::{EGRESS, INGRESS},
};
use weft_types::{Identity, Revision, policy::Direction};

/// Between two packets that are looked at.
const PROBE: Micros = Micros::millis(25);
/// Of so many turns of writing one is followed by a packet at that node.
const IN_BETWEEN: u8 = 8;
/// What a few writes take.
const WRITES: Millis = Millis(1, 4);
/// So many at most are done at a time.
const AT_ONCE: usize = 6;
/// How long what the kernel did not take is left alone.
const AGAIN: Micros = Micros::millis(200);
/// Of so many revisions that a node acknowledges one is compared with what it would write from nothing.
const LOOKED_AT: u64 = 32;
/// Of a hundred turns a kernel that refuses does so many.
const REFUSED: u8 = 40;

impl World {
    pub(super) fn kernels_begin(&mut self) {
        if self.has_kernels() {
            self.after(PROBE, Event::Probe);
        }
    }

    /// Whether nodes have kernels.
    pub(super) fn has_kernels(&self) -> bool {
        self.agents.iter().any(|agent| agent.realiser.is_some())
    }

    /// An agent may have something to write.
    pub(super) fn wake(&mut self, agent: usize) {
        let now = self.now;
        let Some(who) = self.agents.get_mut(agent).filter(|who| who.down_until <= now) else {
            return;
        };
        let Some(realiser) = &mut who.realiser else { return };
        if realiser.begin(&who.pods, &who.kept) {
            let turn = realiser.turn;
            self.write_later(agent, turn);
        }
    }

    fn write_later(&mut self, agent: usize, turn: u64) {
        let time = WRITES.draw(&mut self.rng);
        self.after(time, Event::Write(agent, turn));
    }

    /// An agent's process writes on, in the run of a turn.
    pub(super) fn write(&mut self, agent: usize, turn: u64) {
        let now = self.now;
        let most = self.rng.usize(1..=AT_ONCE);
        let Some(who) = self.agents.get_mut(agent) else { return };
        let refuses = who.refuses_until > now && self.rng.u8(0..100) < REFUSED;
        let Some(realiser) = who.realiser.as_mut().filter(|it| it.turn == turn) else { return };
        let before = realiser.acknowledged();
        let ended = realiser.work(most, refuses);
        let after = realiser.acknowledged();
        self.trace.add(u64::from(refuses) << 1 | u64::from(ended == Turn::Done));
        self.counts.writes_refused += u64::from(ended == Turn::Failed);
        match ended {
            Turn::More => self.write_later(agent, turn),
            Turn::Failed => self.after(AGAIN, Event::Wake(agent, turn)),
            Turn::Done => {
                if after > before {
                    self.acknowledged(agent);
                }
                self.wake(agent);
            }
        }
        if self.rng.u8(0..IN_BETWEEN) == 0 {
            self.packet(agent);
        }
    }

    /// What the kernel refused is tried again.
    pub(super) fn retry(&mut self, agent: usize, turn: u64) {
        let realiser = self.agents.get(agent).and_then(|who| who.realiser.as_ref());
        if realiser.is_some_and(|realiser| realiser.turn == turn) {
            self.wake(agent);
        }
    }

    /// An agent's kernel holds a revision.
    fn acknowledged(&mut self, agent: usize) {
        self.counts.realised += 1;
        if !self.counts.realised.is_multiple_of(LOOKED_AT) {
            return;
        }
        if let Some(seen) = self.agents.get(agent).and_then(unlike) {
            self.invariants.violated(Invariant::AsAcknowledged, self.now, seen);
        }
    }

    /// The process of an agent ends, and comes back after a time.
    pub(super) fn kill_agent(&mut self, agent: usize, lasts: Micros) {
        let until = self.now + lasts;
        let Some(who) = self.agents.get_mut(agent).filter(|who| who.down_until <= self.now) else {
            return;
        };
        who.end_process(until);
        self.counts.agents_killed += 1;
        self.after(lasts, Event::Revive(agent));
    }

    pub(super) fn revive(&mut self, agent: usize) {
        let now = self.now;
        let Some(who) = self.agents.get_mut(agent).filter(|who| who.down_until <= now) else {
            return;
        };
        if let Some(realiser) = &mut who.realiser {
            realiser.revive();
        }
        who.run(now);
        // From its disk, before it hears of an operator.
        self.wake(agent);
        self.poll([agent]);
    }

    pub(super) fn probe(&mut self) {
        self.after(PROBE, Event::Probe);
        let agent = self.rng.usize(0..self.agents.len());
        self.packet(agent);
    }

    /// A packet between two pods that are plugged, of which one is on this node.
    fn packet(&mut self, agent: usize) {
        let other = self.rng.usize(0..self.agents.len());
        let (own, peer) = (self.any_pod(agent), self.any_pod(other));
        let (Some(own), Some(peer)) = (own, peer) else { return };
        let (from, to) = if self.rng.bool() { (own, peer) } else { (peer, own) };
        let protocol = if self.rng.u8(0..4) == 0 { 17 } else { 6 };
        let port = PORTS.get(self.rng.usize(0..PORTS.len())).copied().unwrap_or_default();
        if from == to {
            return;
        }
        let packet = Packet { from, to, protocol, port };
        let Some(who) = self.agents.get(agent) else { return };
        let Some(ends) = [(from, Direction::Egress), (to, Direction::Ingress)]
            .map(|(at, direction)| End::of(who, at, direction))
            .into_iter()
            .collect::<Option<Vec<End>>>()
        else {
            return;
        };
        let Some(realiser) = &who.realiser else { return };
        let judged = realiser.maps().judge(&packet);
        self.trace.add(judged.refusal.map_or(0, |refusal| u64::from(refusal.direction)));
        self.counts.packets += 1;
        self.counts.packets_refused += u64::from(judged.refusal.is_some());
        let refused = judged.refusal.map(|refusal| refusal.direction);
        let mut wrong = None;
        for (end, other) in [(0, 1), (1, 0)] {
            let (Some(end), Some(other)) = (ends.get(end), ends.get(other)) else { continue };
            let Some(Local { class: own, .. }) = end.local else { continue };
            // What the source's side refuses is not judged on the other.
            let is_let = match (end.direction, refused) {
                (Direction::Ingress, Some(EGRESS)) => continue,
                (Direction::Ingress, Some(INGRESS)) | (Direction::Egress, Some(EGRESS)) => false,
                _ => true,
            };
            wrong = wrong.or(self.unexplained(who, &packet, (end, own), other, is_let));
        }
        if let Some(seen) = wrong {
            self.invariants.violated(Invariant::AsAcknowledged, self.now, seen);
        }
    }

    fn any_pod(&mut self, agent: usize) -> Option<Ipv4Addr> {
        let all = &self.agents.get(agent)?.all;
        let place = self.rng.usize(0..all.len().max(1));
        all.get(place).map(|(address, _)| *address)
    }

    /// What is wrong with a verdict that was given at an end of a node, if anything is.
    fn unexplained(
        &self,
        who: &Agent,
        packet: &Packet,
        (end, own): (&End, Identity),
        other: &End,
        is_let: bool,
    ) -> Option<String> {
        let realiser = who.realiser.as_ref()?;
        let since = realiser.acknowledged().unwrap_or(Revision::ZERO);
        let node = &who.node;
        let peer = other.local.map(|local| local.identity);
        for (at, number) in [(end.at, Some(own)), (other.at, peer)] {
            let Some(number) = number else { continue };
            let pod = who.pods.at(at)?;
            if !self.book.may_be((node, pod), number, since) {
                let told = self.book.story_of(pod);
                return Some(format!(
                    "{node} takes {pod} for {number}, and has acknowledged {since}; it was {told}"
                ));
            }
        }
        let judged = Judged {
            node,
            since,
            direction: end.direction,
            own,
            peer,
            peer_at: other.at,
            protocol: packet.protocol,
            port: packet.port,
            is_let,
        };
        let verdict = if is_let { "lets" } else { "refuses" };
        let seen = || {
            let Packet { from, to, protocol, port } = packet;
            format!(
                "{node} {verdict} {} of {from} to {to}, port {protocol}/{port}, and has acknowledged {since}",
                end.direction
            )
        };
        (!self.book.explains(&judged)).then(seen)
    }
}

/// What is not as an agent acknowledges it.
fn unlike(who: &Agent) -> Option<String> {
    let realiser = who.realiser.as_ref()?;
    if !realiser.is_settled(&who.pods) {
        return None;
    }
    let map = realiser.differs(&who.kept)?;
    let at = realiser.acknowledged().unwrap_or(Revision::ZERO);
    Some(format!("the kernel of {} differs in {map} from what it acknowledges at {at}", who.node))
}

/// An end of a packet, as a node's kernel has it.
struct End {
    at: Ipv4Addr,
    direction: Direction,
    /// Of a pod of this node.
    local: Option<Local>,
}

/// The numbers of a pod of this node, which are two for moments: a row of an address is written after that of the endpoint.
#[derive(Clone, Copy)]
struct Local {
    /// Whose class judges what is its.
    class: Identity,
    /// Whom others take it for.
    identity: Identity,
}

impl End {
    /// Nothing while a pod of the node is on its way into the tables, or out of them.
    fn of(who: &Agent, at: Ipv4Addr, direction: Direction) -> Option<Self> {
        let maps = who.realiser.as_ref()?.maps();
        let row = maps.address(Addr4::new(at.octets()));
        let local = row.filter(|row| row.flags & LOCAL != 0);
        let endpoint = local.and_then(|row| maps.endpoint(row.ifindex));
        let is_plugged = who.pods.interface_at(at);
        match (local, endpoint, is_plugged) {
            (None, _, None) => Some(Self { at, direction, local: None }),
            (Some(row), Some(endpoint), Some(interface)) if row.ifindex == interface => {
                let is_one = endpoint.addr4.octets() == at.octets();
                let (class, identity) = (Identity(endpoint.class), Identity(row.identity));
                let local = Some(Local { class, identity });
                is_one.then_some(Self { at, direction, local })
            }
            _ => None,
        }
    }
}
