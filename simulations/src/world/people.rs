//! Clients and agents.

use super::{CLIENT_PATIENCE, Event, POLL, World};
use crate::{
    agent::Told,
    invariant::Invariant,
    operator::Running,
    time::{Micros, Millis},
};
use weft_raft::{Input, MemberId, Proposal};
use weft_state::{
    CommandV1, EntryV1, encode_entry,
    leadership::{Change, Event as Happened, RequestId, Verdict},
};
use weft_types::Revision;

impl World {
    /// A client wants something, or still wants it.
    pub(super) fn wish(&mut self, client: usize) {
        let (next, quiet, now) = (self.next_request + 1, self.quiet, self.now);
        let Some(who) = self.clients.get_mut(client) else { return };
        let change = match who.wants.take() {
            Some((_, change)) => change,
            None if quiet => return,
            None => {
                if self.answered.is_empty() {
                    self.last_answer = now;
                }
                who.want(&mut self.rng, &self.nodes)
            }
        };
        who.wants = Some((next, change.clone()));
        let operator = who.asks;
        self.next_request = next;
        let delay = self.delay();
        self.after(delay, Event::Asked(operator, client, next, change));
        self.after(CLIENT_PATIENCE, Event::GiveUp(client, next));
    }

    /// A client's request is at an operator, even when the client has given it up.
    pub(super) fn asked(
        &mut self,
        member: MemberId,
        client: usize,
        request: RequestId,
        change: Change,
    ) {
        let Some(running) = self.operators.get_mut(&member).and_then(|o| o.running.as_mut()) else {
            return;
        };
        running.requests.insert(request, client);
        self.lead(member, Happened::Asked(request, change));
    }

    pub(super) fn answer(&mut self, client: usize, request: RequestId, verdict: Verdict) {
        let Some(who) = self.clients.get_mut(client) else { return };
        if who.wants.as_ref().is_none_or(|(wanted, _)| *wanted != request) {
            return;
        }
        match verdict {
            Verdict::Done => {
                let done = who.answered();
                self.counts.answers += 1;
                let gap = (self.now.0 - self.last_answer.0) / 1000;
                self.counts.longest_gap_ms = self.counts.longest_gap_ms.max(gap);
                self.last_answer = self.now;
                self.answered.extend(done);
                let pause = Millis(5, 120).draw(&mut self.rng);
                self.after(pause, Event::Wish(client));
            }
            Verdict::Invalid(problem) => {
                let seen = format!("a change that is right is refused: {problem}");
                self.invariants.violated(Invariant::NothingLost, self.now, seen);
            }
            Verdict::NotLeading | Verdict::Busy => {
                self.ask_another(client);
                let pause = Millis(20, 60).draw(&mut self.rng);
                self.after(pause, Event::Wish(client));
            }
        }
    }

    pub(super) fn give_up(&mut self, client: usize, request: RequestId) {
        let wants = self.clients.get(client).and_then(|who| who.wants.as_ref());
        if wants.is_some_and(|(wanted, _)| *wanted == request) {
            self.ask_another(client);
            self.wish(client);
        }
    }

    fn ask_another(&mut self, client: usize) {
        let members: Vec<MemberId> = self.operators.keys().copied().collect();
        let another = self.rng.choice(members);
        if let (Some(who), Some(another)) = (self.clients.get_mut(client), another) {
            who.asks = another;
        }
    }

    /// An agent asks its operator what is new, and says what it plugged.
    pub(super) fn poll(&mut self, agent: usize) {
        self.order += 1;
        let question = self.order;
        let members: Vec<MemberId> = self.operators.keys().copied().collect();
        let another = self.rng.choice(members);
        let Some(who) = self.agents.get_mut(agent) else { return };
        if who.asked.replace(question).is_some() {
            // The last question was not answered: another operator.
            who.operator = another.unwrap_or(who.operator);
        }
        let (operator, held, says) = (who.operator, who.held, who.says());
        let delay = self.delay();
        self.after(delay, Event::Polled(operator, agent, question, held, says));
        let pause = Micros(POLL.0 + self.rng.u64(0..POLL.0));
        self.after(pause, Event::Poll(agent));
    }

    pub(super) fn polled(
        &mut self,
        member: MemberId,
        agent: usize,
        question: u64,
        held: Option<Revision>,
        says: Vec<CommandV1>,
    ) {
        let Some(running) = self.operators.get_mut(&member).and_then(|o| o.running.as_mut()) else {
            return;
        };
        let told = running.tell(held);
        let new = says.into_iter().filter(|command| running.state.would_change(command));
        let new: Vec<CommandV1> = new.collect();
        let proposals = new.into_iter().map(|command| proposal(running, command)).collect();
        self.feed(member, Input::Propose(proposals));
        let delay = self.delay();
        self.after(delay, Event::Told(agent, question, told));
    }

    pub(super) fn told(&mut self, agent: usize, question: u64, told: Told) {
        let members: Vec<MemberId> = self.operators.keys().copied().collect();
        let Some(who) = self.agents.get_mut(agent).filter(|who| who.asked == Some(question)) else {
            return;
        };
        who.asked = None;
        if matches!(told, Told::Behind)
            && let Some(another) = self.rng.choice(members)
        {
            who.operator = another;
        }
        if let Some(back) = who.take(told) {
            let seen = format!("the agent of {} goes back to {back}", who.node);
            self.invariants.violated(Invariant::NeverBack, self.now, seen);
        }
    }
}

fn proposal(running: &mut Running, command: CommandV1) -> Proposal {
    let ticket = running.ticket_of_agent();
    let command = encode_entry(&EntryV1 { trace: None, command }).unwrap_or_default();
    Proposal { ticket, command, only_in: None }
}
