//! What a leader does with the store, and what clients are answered.

use super::{Event, World};
use crate::{
    operator::Running,
    sabotage::Sabotage,
    time::{Micros, Millis},
};
use weft_raft::{Input, MemberId, Proposal};
use weft_state::{
    EntryV1, encode_entry,
    leadership::{Ask, Effect, Event as Happened, Operation, Stored, Trouble},
};

impl World {
    /// One step of a member's leadership, and all that follows.
    pub(super) fn lead(&mut self, member: MemberId, happened: Happened) {
        let Some(running) = self.any_life(member) else { return };
        let was_well = running.leadership.fault().is_none();
        let mut effects = running.leadership.step(&running.state, happened);
        let ends = was_well && running.leadership.fault().is_some();
        if self.sabotage == Sabotage::NumberReused {
            effects = self.reuse(member, effects);
        }
        for effect in effects {
            match effect {
                Effect::Store(operation, ask) => self.ask_store(member, operation, ask),
                Effect::Propose(ticket, fence, command) => {
                    let entry = EntryV1 { trace: None, command, fence: Some(fence) };
                    let ticket = Running::ticket_of_leader(ticket);
                    let command = encode_entry(&entry).unwrap_or_default();
                    let proposal = Proposal { ticket, command, only_in: Some(fence.term) };
                    self.feed(member, Input::Propose(vec![proposal]));
                }
                Effect::Yield if self.sabotage == Sabotage::LeadsOn => {}
                Effect::Yield => self.feed(member, Input::Transfer(None)),
                Effect::Answer(request, verdict) => {
                    let asker = self.any_life(member).and_then(|r| r.requests.remove(&request));
                    if let Some(client) = asker {
                        let delay = self.delay();
                        self.after(delay, Event::Answered(client, request, verdict, self.now));
                    }
                }
            }
        }
        if ends {
            self.end_over_an_old_copy(member);
        }
    }

    /// The same, of a leader that gives numbers again.
    fn reuse(&mut self, member: MemberId, effects: Vec<Effect>) -> Vec<Effect> {
        let operator = self.operators.get(&member).and_then(|o| o.running.as_ref());
        let Some(Running { state, .. }) = operator else { return effects };
        let reuse = |effect| match effect {
            Effect::Store(operation, ask) => Effect::Store(operation, self.reused.ask(state, ask)),
            Effect::Propose(ticket, fence, command) => {
                Effect::Propose(ticket, fence, self.reused.command(command))
            }
            Effect::Answer(..) | Effect::Yield => effect,
        };
        effects.into_iter().map(reuse).collect()
    }

    fn ask_store(&mut self, member: MemberId, operation: Operation, ask: Ask) {
        let life = self.operators.get(&member).map_or(0, |operator| operator.life);
        let mut delay = self.scenario.store.draw(&mut self.rng);
        if self.rng.u16(0..1000) < self.scenario.ambiguous {
            // Sent, given up, and done all the same.
            delay = Millis(1500, 4000).draw(&mut self.rng);
        }
        self.after(delay, Event::AtStore(member, life, operation, ask));
    }

    pub(super) fn at_store(
        &mut self,
        member: MemberId,
        life: u64,
        operation: Operation,
        ask: &Ask,
    ) {
        let silent_until = self.store.silent_until(member);
        if silent_until > self.now {
            // Half of what comes meanwhile is done when it is back, and nobody is told.
            if self.rng.bool() {
                let left = Micros(silent_until.0 - self.now.0);
                let late = left + Millis(0, 1000).draw(&mut self.rng);
                self.after(late, Event::AtStore(MemberId(0), 0, operation, ask.clone()));
            }
            return;
        }
        let cluster = self.cluster();
        let answer = self.store.carry_out(self.now, &cluster, ask, &mut self.invariants);
        if self.rng.u16(0..1000) >= self.scenario.ambiguous {
            let delay = self.scenario.store.draw(&mut self.rng);
            self.after(delay, Event::FromStore(member, life, operation, answer));
        }
    }

    pub(super) fn store_answered(
        &mut self,
        member: MemberId,
        life: u64,
        operation: Operation,
        mut answer: Result<Stored, Trouble>,
    ) {
        if self.store.silent_until(member) > self.now {
            return;
        }
        let careless = self.sabotage == Sabotage::RecordNotAdopted;
        let Some(running) = self.running(member, life) else { return };
        if let (true, Ok(Stored::Contents(contents))) = (careless, &mut answer) {
            let state = &running.state;
            contents.identities.retain(|(_, labels)| state.identities().contains_key(labels));
            contents.objects = state.objects().collect();
        }
        self.lead(member, Happened::Stored(operation, answer));
    }
}
