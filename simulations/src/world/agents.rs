//! What agents do, and how operators answer them.

use super::{Event, World};
use crate::{
    agent::Told,
    invariant::Invariant,
    operator::{Question, Running, revision},
    sabotage::Sabotage,
    time::Micros,
};
use std::collections::BTreeMap;
use weft_raft::{Input, MemberId, Proposal};
use weft_state::{CommandV1, EntryV1, encode_entry};
use weft_types::Revision;

/// Ticks between two answers of an operator to all who asked: what came meanwhile is one push.
const BEAT: u64 = 4;
/// An agent hears from its operator at least so often.
const PING: Micros = Micros::millis(500);
/// How long an agent waits for its operator before it goes to another.
const PATIENCE: Micros = Micros::seconds(1);
/// Between two looks at who has waited that long.
const LOOK: Micros = Micros::millis(250);

impl World {
    pub(super) fn agents_begin(&mut self) {
        for agent in 0..self.agents.len() {
            let after = Micros(self.rng.u64(0..LOOK.0));
            self.after(after, Event::Poll(agent));
        }
        self.after(LOOK, Event::Look);
    }

    /// An agent asks its operator what is new, and says what it plugged.
    pub(super) fn poll(&mut self, agent: usize) {
        let (number, now) = (self.order + 1, self.now);
        let Some(who) = self.agents.get_mut(agent) else { return };
        if who.asked.is_some() || who.down_until > now {
            return;
        }
        who.asked = Some((number, now));
        let (operator, held, says) = (who.operator, who.held, who.says.clone());
        let delay = self.delay();
        self.after(delay, Event::Polled(operator, agent, number, held, says));
    }

    pub(super) fn polled(
        &mut self,
        member: MemberId,
        agent: usize,
        number: u64,
        held: Option<Revision>,
        says: Vec<CommandV1>,
    ) {
        let now = self.now;
        let Some(running) = self.operators.get_mut(&member).and_then(|o| o.running.as_mut()) else {
            return;
        };
        running.questions.insert(agent, Question { number, held, since: now });
        let new = says.into_iter().filter(|command| running.state.would_change(command));
        let new: Vec<CommandV1> = new.collect();
        if !new.is_empty() {
            let proposals = new.into_iter().map(|command| proposal(running, command)).collect();
            self.feed(member, Input::Propose(proposals));
        }
    }

    /// An operator answers all who asked, and whom there is something to tell.
    pub(super) fn beat(&mut self, member: MemberId) {
        let now = self.now;
        let careless = self.sabotage == Sabotage::OldSnapshotGiven;
        let Some(running) = self.operators.get_mut(&member).and_then(|o| o.running.as_mut()) else {
            return;
        };
        running.ticks += 1;
        if !running.ticks.is_multiple_of(BEAT) {
            return;
        }
        let mut told: BTreeMap<Option<Revision>, Told> = BTreeMap::new();
        let mut answers = Vec::new();
        for (agent, question) in std::mem::take(&mut running.questions) {
            let answer = told.entry(question.held).or_insert_with(|| {
                let follows = |held: &Revision| !careless || *held <= revision(running.index);
                running.tell(question.held.filter(follows))
            });
            if matches!(answer, Told::Nothing) && now < question.since + PING {
                running.questions.insert(agent, question);
            } else {
                answers.push((agent, question.number, answer.clone()));
            }
        }
        for (agent, number, answer) in answers {
            let delay = self.delay();
            self.after(delay, Event::Told(agent, number, answer));
        }
    }

    pub(super) fn told(&mut self, agent: usize, number: u64, told: &Told) {
        let asked = |asked: Option<(u64, Micros)>| asked.is_some_and(|(asked, _)| asked == number);
        let Some(who) = self.agents.get_mut(agent).filter(|who| asked(who.asked)) else { return };
        who.asked = None;
        if let Some(back) = who.take(told) {
            let seen = format!("the agent of {} goes back to {back}", who.node);
            self.invariants.violated(Invariant::NeverBack, self.now, seen);
        }
        match told {
            Told::Behind => self.reconnect(agent),
            Told::News(_) | Told::Nothing => self.poll(agent),
        }
    }

    /// Who waited too long goes to another operator.
    pub(super) fn look(&mut self) {
        self.after(LOOK, Event::Look);
        let now = self.now;
        let tired = |asked: Option<(u64, Micros)>| asked.is_some_and(|(_, at)| at + PATIENCE < now);
        let agents = self.agents.iter().zip(0..).filter(|(who, _)| tired(who.asked));
        let agents: Vec<usize> = agents.map(|(_, agent)| agent).collect();
        agents.into_iter().for_each(|agent| self.reconnect(agent));
    }

    /// An agent has lost its operator, and goes to any.
    pub(super) fn reconnect(&mut self, agent: usize) {
        let another = self.any_member();
        let Some(who) = self.agents.get_mut(agent) else { return };
        who.asked = None;
        who.operator = another.unwrap_or(who.operator);
        self.counts.moves += 1;
        let pause = Micros(self.rng.u64(0..LOOK.0));
        self.after(pause, Event::Poll(agent));
    }
}

fn proposal(running: &mut Running, command: CommandV1) -> Proposal {
    let ticket = running.ticket_of_agent();
    let command = encode_entry(&EntryV1 { trace: None, command }).unwrap_or_default();
    Proposal { ticket, command, only_in: None }
}
