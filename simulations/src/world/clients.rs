//! What clients do.

use super::{CLIENT_PATIENCE, Event, World};
use crate::{
    Action, Invariant, Operation, Outcome,
    client::Client,
    time::{Micros, Millis},
    trace::Trace,
};
use weft_raft::MemberId;
use weft_state::leadership::{Change, Event as Happened, NO_NUMBER, RequestId, Verdict};
use weft_types::{Object, codec};

impl World {
    /// A client wants something, or still wants it.
    pub(super) fn wish(&mut self, client: usize) {
        let (next, quiet, now) = (self.next_request + 1, self.quiet, self.now);
        let Some(who) = self.clients.get_mut(client) else { return };
        let change = match who.wants.take() {
            Some((_, change)) => change,
            None if quiet && !self.story.awaits_allocation() => return,
            None => {
                if self.answered.is_empty() {
                    self.last_answer = now;
                }
                let change = who.want(now, &mut self.rng, &self.nodes, self.scenario.habits);
                self.runtimes_hear(client, &change);
                change
            }
        };
        let Some(who) = self.clients.get_mut(client) else { return };
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
        let Some(operator) = self.operators.get_mut(&member) else { return };
        let Some(running) = operator.running.as_mut() else {
            if !operator.dark {
                let delay = self.delay();
                self.after(delay, Event::HungUp(client, request));
            }
            return;
        };
        running.requests.insert(request, client);
        self.lead(member, Happened::Asked(request, change));
    }

    pub(super) fn answer(
        &mut self,
        client: usize,
        request: RequestId,
        verdict: Verdict,
        said: Micros,
    ) {
        let Some(who) = self.clients.get_mut(client) else { return };
        if who.wants.as_ref().is_none_or(|(wanted, _)| *wanted != request) {
            return;
        }
        match verdict {
            Verdict::Done => {
                self.counts.relabels += u64::from(who.relabels());
                self.counts.policies += u64::from(who.is_about_policy());
                if who.allocates() {
                    self.story.allocated(self.now, said);
                }
                let told = written(who, Some(self.now));
                self.history.extend(told);
                let done = who.answered();
                self.counts.answers += 1;
                self.story.answers.push(self.now);
                let gap = (self.now.0 - self.last_answer.0) / 1000;
                self.counts.longest_gap_ms = self.counts.longest_gap_ms.max(gap);
                self.last_answer = self.now;
                self.answered.extend(done);
                let pause = self.scenario.pause.draw(&mut self.rng);
                self.after(pause, Event::Wish(client));
            }
            // Until some are free.
            Verdict::Invalid(problem) if problem == NO_NUMBER => self.ask_soon(client),
            Verdict::Invalid(problem) => {
                let seen = format!("a change that is right is refused: {problem}");
                self.invariants.violated(Invariant::NothingLost, self.now, seen);
            }
            Verdict::NotLeading | Verdict::Unknown | Verdict::Busy | Verdict::TooOld(_) => {
                self.ask_soon(client);
            }
        }
    }

    /// Whoever was asked does not run, or ended before it answered.
    pub(super) fn hung_up(&mut self, client: usize, request: RequestId) {
        if self.waits_for(client, request) {
            self.ask_soon(client);
        }
    }

    fn waits_for(&self, client: usize, request: RequestId) -> bool {
        let wants = self.clients.get(client).and_then(|who| who.wants.as_ref());
        wants.is_some_and(|(wanted, _)| *wanted == request)
    }

    fn ask_soon(&mut self, client: usize) {
        self.ask_another(client);
        let pause = Millis(20, 60).draw(&mut self.rng);
        self.after(pause, Event::Wish(client));
    }

    pub(super) fn give_up(&mut self, client: usize, request: RequestId) {
        if self.waits_for(client, request) {
            self.ask_another(client);
            self.wish(client);
        }
    }

    fn ask_another(&mut self, client: usize) {
        let another = self.any_member();
        if let (Some(who), Some(another)) = (self.clients.get_mut(client), another) {
            who.asks = another;
        }
    }
}

/// What a client wants, or was answered at a time, as an operation. However often it asked, it is one.
pub(super) fn written(who: &Client, returned: Option<Micros>) -> Option<Operation> {
    let (_, change) = who.wants.as_ref()?;
    let gone = change.remove.iter().map(|object| (object.key().to_string(), None));
    let there = change.put.iter().map(|object| (object.key().to_string(), Some(value_of(object))));
    Some(Operation {
        client: format!("client{}", who.number),
        call: who.since.0,
        returned: returned.map(|at| at.0),
        operation: Action::Write(gone.chain(there).collect()),
        outcome: if returned.is_some() { Outcome::Done } else { Outcome::Unknown },
    })
}

/// An object in a word.
pub(super) fn value_of(object: &Object) -> String {
    let mut bytes = Vec::new();
    drop(codec::encode_into(object, &mut bytes));
    let mut hash = Trace::new();
    hash.add_bytes(&bytes);
    format!("{:016x}", hash.hash())
}
