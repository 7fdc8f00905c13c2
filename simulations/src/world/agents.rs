//! What agents do, and how operators answer them.

use super::{
    World,
    event::{Event, Waiting},
};
use crate::{
    Invariant,
    agent::{Agent, Asking, Told},
    operator::{Question, Running},
    sabotage::{Sabotage, forgetting},
    time::Micros,
    told::FEW,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    rc::Rc,
};
use weft_raft::{Input, MemberId, Proposal};
use weft_state::{CommandV1, EntryV1, Stamp, Word, encode_entry};
use weft_types::Revision;

/// Ticks between two answers of an operator to all who asked: what came meanwhile is one push.
const BEAT: u64 = 4;
/// An agent hears from its operator at least so often.
const PING: Micros = Micros::millis(500);
/// How long an agent waits for its operator before it goes to another.
const PATIENCE: Micros = Micros::seconds(1);
/// Questions of an agent in a second, at most: one a beat, and what its back-off lets it try.
const STORM: u32 = 20;
/// Agents of a large world share so many ways to operators, as those of a rack do: what they are told at once comes to
/// them at once.
const WAYS: usize = 64;
/// Of so many answers one is compared with all that is published: what is wrong in one stays so.
const LOOKED_AT: u64 = 16;
/// Between two looks at who has waited that long.
const LOOK: Micros = Micros::millis(250);

impl World {
    pub(super) fn agents_begin(&mut self) {
        for agent in 0..self.agents.len() {
            let after = Micros(self.rng.u64(0..LOOK.0));
            self.after(after, Event::Poll(vec![agent]));
        }
        self.after(LOOK, Event::Tire);
    }

    /// The way between an agent and whomever it asks.
    fn way(&self, agent: usize) -> usize {
        agent / self.agents.len().div_ceil(WAYS).max(1)
    }

    /// Agents ask their operators what is new, and say what they plugged.
    pub(super) fn poll(&mut self, agents: impl IntoIterator<Item = usize>) {
        let (now, few) = (self.now, self.agents.len() <= FEW);
        let mut asking: BTreeMap<MemberId, Vec<Asking>> = BTreeMap::new();
        for agent in agents {
            let Some(who) = self.agents.get_mut(agent) else { continue };
            if who.asked.is_some() || who.down_until > now {
                continue;
            }
            self.next_question += 1;
            let number = self.next_question;
            who.asked = Some((number, now));
            let tries = who.tries(now);
            self.counts.agent_tries = self.counts.agent_tries.max(tries);
            if tries == STORM + 1 {
                let seen =
                    format!("the agent of {} asks more than {STORM} times a second", who.node);
                self.invariants.violated(Invariant::NoStorm, now, seen);
            }
            let Agent { held, offers, operator, session, .. } = *who;
            let holds = who.holds();
            if who.cut_until > now {
                continue;
            }
            let (says, all) = (who.says.clone(), Rc::clone(&who.all));
            let told = few.then(|| who.kept.identities());
            let question = Asking { agent, number, held, holds, session, all, says, offers, told };
            asking.entry(operator).or_default().push(question);
        }
        for (operator, asking) in asking {
            let delay = self.delay();
            self.after(delay, Event::Polled(operator, asking));
        }
    }

    pub(super) fn polled(&mut self, member: MemberId, asking: Vec<Asking>) {
        let since = self.now;
        let sabotage = self.sabotage;
        let forgetful = sabotage == Sabotage::ToldForgotten;
        let Some(operator) = self.operators.get_mut(&member) else { return };
        let (release, Some(running)) = (operator.release, operator.running.as_mut()) else {
            if !operator.dark {
                let waiting = asking.iter().map(|it| Waiting::new(it.agent, it.number)).collect();
                let delay = self.delay();
                self.after(delay, Event::Told(waiting, Told::Gone));
            }
            return;
        };
        let scope = release.scope();
        let (mut proposals, mut refused, mut behind) = (Vec::new(), Vec::new(), Vec::new());
        let mut speaks = 0;
        for Asking { agent, number, held, holds, session, all, says, offers, told } in asking {
            if let Err(version) = release.answer(offers) {
                speaks = version;
                refused.push(Waiting::new(agent, number));
                continue;
            }
            let Some(node) = self.agents.get(agent).map(|agent| &agent.node) else { continue };
            let newest = running.revision();
            let told = told.map(|told| (if forgetful { BTreeSet::new() } else { told }, scope));
            let joined = running.sessions.hear(since, (agent, node), session, (newest, told));
            if joined.is_err() || (held > Some(newest) && sabotage != Sabotage::OldSnapshotGiven) {
                behind.push(Waiting::new(agent, number));
                continue;
            }
            running.questions.insert(agent, Question { number, held, since });
            // A session's first word is all that there is; so is its last, for who was relabelled.
            if says.is_empty() && running.sessions.was_said(agent, &all, running.words) {
                running.sessions.acknowledge(agent, holds);
                continue;
            }
            let begun = running.state.heard(node).is_some_and(|heard| heard.session >= session);
            let is_all = !begun || says.is_empty();
            let mut says = if is_all { vec![Word::Are(all.to_vec())] } else { says };
            if sabotage == Sabotage::PlugForgotten {
                says = says.into_iter().filter_map(forgetting).collect();
            }
            let command = |(word, place)| {
                let stamp = Stamp { session, sequence: (number << 16) + place };
                CommandV1::Said(node.clone(), stamp, word)
            };
            let new = says.into_iter().zip(0..).map(command);
            let new: Vec<CommandV1> = new.filter(|it| running.state.would_change(it)).collect();
            if new.is_empty() {
                running.sessions.acknowledge(agent, holds);
                if begun && is_all {
                    running.sessions.is_said(agent, all, running.words);
                }
            }
            proposals.extend(new.into_iter().map(|command| proposal(running, command)));
        }
        if !proposals.is_empty() {
            self.feed(member, Input::Propose(proposals));
        }
        for (agents, told) in [(refused, Told::OtherVersion(speaks)), (behind, Told::Behind)] {
            if !agents.is_empty() {
                let delay = self.delay();
                self.after(delay, Event::Told(agents, told));
            }
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
        let mut answered = Vec::new();
        let mut questions = std::mem::take(&mut running.questions);
        questions.retain(|agent, question| {
            let answer = told.entry(question.held).or_insert_with(|| {
                let follows = |held: &Revision| !careless || *held <= running.revision();
                running.tell(question.held.filter(follows))
            });
            let waits = matches!(answer, Told::Nothing) && now < question.since + PING;
            if !waits {
                answered.push((*agent, *question));
            }
            waits
        });
        running.questions = questions;
        let mut waiting = Vec::new();
        for (agent, Question { number, held, .. }) in answered {
            let follows = |held: &Revision| !careless || *held <= running.revision();
            let part = running.part(agent, held.filter(follows));
            waiting.push((held, Waiting { agent, number, part }));
        }
        let mut answers: BTreeMap<(usize, Option<Revision>), Vec<Waiting>> = BTreeMap::new();
        for (held, waiting) in waiting {
            answers.entry((self.way(waiting.agent), held)).or_default().push(waiting);
        }
        for ((_, held), agents) in answers {
            let Some(answer) = told.get(&held).cloned() else { continue };
            let delay = self.delay();
            self.after(delay, Event::Told(agents, answer));
        }
    }

    pub(super) fn told(&mut self, agents: Vec<Waiting>, told: &Told) {
        let mut taken = Vec::new();
        for Waiting { agent, number, part } in agents {
            let asked = |asked: Option<(u64, Micros)>| asked.is_some_and(|(it, _)| it == number);
            let who = self.agents.get_mut(agent).filter(|who| asked(who.asked));
            let who = who.filter(|who| who.cut_until <= self.now);
            let Some(who) = who else { continue };
            taken.push(agent);
            who.asked = None;
            if matches!(told, Told::News(_) | Told::Nothing) {
                who.is_taken();
            }
            let found = [
                who.take(told, &mut self.views, self.now),
                part.and_then(|part| who.keep(part, number.is_multiple_of(LOOKED_AT))),
                self.agents.get(agent).and_then(|who| self.old_number(who)),
            ];
            for (invariant, seen) in found.into_iter().flatten() {
                self.invariants.violated(invariant, self.now, seen);
            }
        }
        taken.iter().for_each(|agent| self.wake(*agent));
        match told {
            Told::Behind | Told::Gone => {
                taken.into_iter().for_each(|agent| self.reconnect(agent));
            }
            Told::OtherVersion(version) => {
                for agent in taken {
                    let who = self.agents.get_mut(agent);
                    if who.is_some_and(|who| who.offers_next(*version)) {
                        self.poll(vec![agent]);
                    } else {
                        self.reconnect(agent);
                    }
                }
            }
            Told::News(_) | Told::Nothing => self.poll(taken),
        }
    }

    /// Who waited too long goes to another operator.
    pub(super) fn tire(&mut self) {
        self.after(LOOK, Event::Tire);
        self.tell_lag();
        let now = self.now;
        let tired = |asked: Option<(u64, Micros)>| asked.is_some_and(|(_, at)| at + PATIENCE < now);
        let agents = self.agents.iter().zip(0..).filter(|(who, _)| tired(who.asked));
        let agents: Vec<usize> = agents.map(|(_, agent)| agent).collect();
        agents.into_iter().for_each(|agent| self.reconnect(agent));
        self.runtimes_tire();
    }

    /// How far agents are behind what any operator knows.
    fn tell_lag(&mut self) {
        let now = self.now;
        let mut known: BTreeMap<Revision, Micros> = BTreeMap::new();
        let up = self.agents.iter().filter(|who| who.down_until <= now);
        let since = up.map(|who| match who.held {
            None => who.down_until,
            Some(held) => {
                *known.entry(held).or_insert_with(|| self.views.more_since(held).unwrap_or(now))
            }
        });
        let lags = since.map(|since| Micros(now.0.saturating_sub(since.0))).collect();
        self.story.behind(now, lags);
    }

    /// An agent has lost its operator, and goes to the next one, after a pause.
    pub(super) fn reconnect(&mut self, agent: usize) {
        let Some(who) = self.agents.get_mut(agent) else { return };
        who.asked = None;
        who.session += 1;
        who.offers = who.release.wire().newest;
        let mut later = self.operators.range((Bound::Excluded(who.operator), Bound::Unbounded));
        let next = later.next().or_else(|| self.operators.first_key_value());
        who.operator = next.map_or(who.operator, |(member, _)| *member);
        self.counts.moves += 1;
        let pause = who.back_off();
        self.after(pause, Event::Poll(vec![agent]));
    }
}

fn proposal(running: &mut Running, command: CommandV1) -> Proposal {
    let ticket = running.ticket_of_agent();
    let command = encode_entry(&EntryV1 { trace: None, command, fence: None }).unwrap_or_default();
    Proposal { ticket, command, only_in: None }
}
