//! Who looks at what clients want: at any operator, and so that a look never sees what is old (`ReadIndex`).

use super::{
    CLIENT_PATIENCE, Event, World,
    clients::{value_of, written},
};
use crate::{
    Action, Invariant, Operation, Outcome, linear,
    operator::{Look, Seen},
    sabotage::Sabotage,
    time::{Micros, Millis},
};
use weft_raft::{Input, MemberId, Ticket};

/// How many look at once.
const READERS: usize = 2;
/// From an answer to the next look.
const PAUSE: Millis = Millis(50, 250);

/// Who looks.
#[derive(Default)]
pub(super) struct Readers {
    /// Of each the look that is not answered yet, and when it began.
    looking: [(u64, Micros); READERS],
    last: u64,
}

impl World {
    pub(super) fn readers_begin(&mut self) {
        for reader in 0..READERS {
            self.look_later(reader);
        }
    }

    fn look_later(&mut self, reader: usize) {
        let Some((number, _)) = self.readers.looking.get(reader).copied() else { return };
        let pause = PAUSE.draw(&mut self.rng);
        self.after(pause, Event::Look(reader, number));
    }

    /// A new look, unless one came after `before`: then that was answered.
    pub(super) fn look(&mut self, reader: usize, before: u64) {
        let Some(looking) = self.readers.looking.get_mut(reader).filter(|it| it.0 == before) else {
            return;
        };
        self.readers.last += 1;
        let number = self.readers.last;
        *looking = (number, self.now);
        let client = self.rng.usize(0..self.clients.len());
        let key = self.clients.get(client).and_then(|client| client.any_key(&mut self.rng));
        let member = self.any_member();
        if let (Some(key), Some(member)) = (key, member) {
            let delay = self.delay();
            self.after(delay, Event::LookAt(member, Look { reader, number, key }));
        }
        self.after(CLIENT_PATIENCE, Event::Look(reader, number));
    }

    pub(super) fn look_at(&mut self, member: MemberId, look: Look) {
        let careless = self.sabotage == Sabotage::CopyRead;
        let Some(running) = self.any_life(member) else { return };
        if careless {
            let seen = running.see(&look.key);
            let delay = self.delay();
            return self.after(delay, Event::Looked(look, seen));
        }
        let ticket = running.ticket_of_agent();
        running.looks.insert(ticket, look);
        self.feed(member, Input::Read(ticket));
    }

    /// What was committed before these looks is applied.
    pub(super) fn answer_looks(&mut self, member: MemberId, tickets: Vec<Ticket>) {
        for ticket in tickets {
            let Some(running) = self.any_life(member) else { return };
            let Some(look) = running.looks.remove(&ticket) else { continue };
            let seen = running.see(&look.key);
            let delay = self.delay();
            self.after(delay, Event::Looked(look, seen));
        }
    }

    pub(super) fn looked(&mut self, look: &Look, seen: Seen) {
        let Look { reader, number, key } = look;
        let looking = self.readers.looking.get(*reader).copied();
        let Some((_, call)) = looking.filter(|(waited, _)| waited == number) else { return };
        self.counts.reads += 1;
        let (client, returned) = (format!("reader{reader}"), Some(self.now.0));
        let mut add = |operation, outcome| {
            let client = client.clone();
            self.history.push(Operation { client, call: call.0, returned, operation, outcome });
        };
        let value = seen.object.as_ref().map(value_of);
        add(Action::Read(key.to_string()), Outcome::Value(value));
        if let Some((labels, number)) = seen.numbered {
            let number = number.map(|number| number.0);
            add(Action::Number(labels.to_string()), Outcome::Number(number));
        }
        // What was looked at is done with: no look of this number is answered again.
        self.readers.last += 1;
        let done = self.readers.last;
        if let Some(looking) = self.readers.looking.get_mut(*reader) {
            *looking = (done, self.now);
        }
        self.look_later(*reader);
    }

    /// Looks at all that was asked and answered.
    pub(super) fn check_history(&mut self) {
        let open: Vec<Operation> =
            self.clients.iter().filter_map(|client| written(client, None)).collect();
        self.history.extend(open);
        for fault in linear::check(&self.history).faults {
            self.invariants.violated(Invariant::Linearizable, self.now, fault.to_string());
        }
    }
}
