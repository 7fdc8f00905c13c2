//! What operators do: the shells around their cores.

use super::{CLUSTER, Event, GroupChange, TICK, World};
use crate::{
    invariant::Invariant,
    operator::{Running, revision},
    sabotage::Sabotage,
    time::{Micros, Millis},
    trace::Trace,
};
use weft_raft::{
    Applied, Committed, Envelope, Input, MemberId, MemberRole, Output, PeerMessage, Proposal, Role,
};
use weft_state::{
    ClusterState, EntryV1, decode_entry, encode_entry,
    leadership::{Ask, Effect, Event as Happened, Operation, Stored, Trouble},
};

/// Entries after which an operator makes a snapshot.
const COMPACT: u64 = 150;
/// How much longer a slow disk takes.
const SLOW: u64 = 50;

impl World {
    pub(super) fn start(&mut self, member: MemberId) {
        let seed = self.seed;
        let Some(operator) = self.operators.get_mut(&member) else { return };
        if operator.running.is_some() {
            return;
        }
        if let Err(problem) = operator.start(CLUSTER, seed ^ (member.0 << 32)) {
            let seen = format!("member {member} does not begin: {problem}");
            return self.invariants.violated(Invariant::NobodyFails, self.now, seen);
        }
        let life = operator.life;
        let first = Micros(self.rng.u64(0..TICK.0));
        self.after(first, Event::Tick(member, life));
    }

    fn running(&mut self, member: MemberId, life: u64) -> Option<&mut Running> {
        let operator = self.operators.get_mut(&member)?;
        operator.running.as_mut().filter(|_| operator.life == life)
    }

    fn any_life(&mut self, member: MemberId) -> Option<&mut Running> {
        self.operators.get_mut(&member)?.running.as_mut()
    }

    pub(super) fn tick(&mut self, member: MemberId, life: u64) {
        if self.running(member, life).is_none() {
            return;
        }
        self.after(TICK, Event::Tick(member, life));
        self.tick_once(member);
        self.beat(member);
    }

    pub(super) fn tick_once(&mut self, member: MemberId) {
        self.feed(member, Input::Tick);
        self.lead(member, Happened::Tick);
    }

    pub(super) fn arrive(&mut self, envelope: Envelope) {
        if self.cuts.contains_key(&(envelope.from, envelope.to)) {
            self.counts.lost += 1;
            return;
        }
        self.counts.messages += 1;
        if matches!(&envelope.message, PeerMessage::Chunk(chunk) if chunk.offset == 0) {
            self.counts.snapshots += 1;
        }
        self.feed(envelope.to, Input::Message(envelope));
    }

    /// One step of a member's node, and all that follows.
    pub(super) fn feed(&mut self, member: MemberId, input: Input) {
        let Some(running) = self.any_life(member) else { return };
        match running.node.step(input) {
            Ok(output) => self.carry_out(member, output),
            Err(error) => {
                let seen = format!("member {member}: {error}");
                self.invariants.violated(Invariant::NobodyFails, self.now, seen);
                self.kill(member);
            }
        }
    }

    fn carry_out(&mut self, member: MemberId, output: Output) {
        let Output { writes, messages, applied, refused, role, snapshot_wanted, .. } = output;
        let written = writes.last().map(|write| write.number);
        if let Some(operator) = self.operators.get_mut(&member) {
            operator.disk.accept(writes);
        }
        messages.into_iter().for_each(|envelope| self.send(envelope));
        applied.into_iter().for_each(|applied| self.apply(member, applied));
        for (ticket, _) in refused {
            if !ticket.is_multiple_of(2) {
                self.lead(member, Happened::Refused(ticket / 2));
            }
        }
        if let Some(role) = role {
            self.turn(member, role);
        }
        self.compact(member, snapshot_wanted);
        match (written, self.sabotage) {
            (Some(number), Sabotage::AnswerBeforeDurability) => {
                self.sync(member);
                self.feed(member, Input::Persisted(number));
            }
            (Some(_), _) => self.sync(member),
            (None, _) => {}
        }
    }

    fn send(&mut self, envelope: Envelope) {
        let cut = self.cuts.contains_key(&(envelope.from, envelope.to));
        if cut || self.rng.u16(0..1000) < self.scenario.loss {
            self.counts.lost += 1;
            return;
        }
        let delay = self.delay();
        self.after(delay, Event::Arrive(envelope));
    }

    /// The disk begins to sync, if it does not already.
    fn sync(&mut self, member: MemberId) {
        let now = self.now;
        let Some(operator) = self.operators.get_mut(&member) else { return };
        let count = operator.disk.unsynced();
        if operator.syncing || count == 0 {
            return;
        }
        operator.syncing = true;
        let (life, slow) = (operator.life, operator.slow_until > now);
        let Millis(least, most) = self.scenario.disk;
        let factor = if slow { SLOW } else { 1 };
        let time = Millis(least * factor, most * factor).draw(&mut self.rng);
        self.after(time, Event::Synced(member, life, count));
    }

    pub(super) fn synced(&mut self, member: MemberId, life: u64, count: usize) {
        let Some(operator) = self.operators.get_mut(&member).filter(|o| o.life == life) else {
            return;
        };
        operator.syncing = false;
        if let Some(number) = operator.disk.sync(count) {
            self.feed(member, Input::Persisted(number));
        }
        self.sync(member);
    }

    fn apply(&mut self, member: MemberId, applied: Applied) {
        match applied {
            Applied::Command(command) => self.apply_command(member, command),
            Applied::State(index, state) => {
                let decoded = ClusterState::decode(&state);
                let Some(running) = self.any_life(member) else { return };
                match decoded {
                    Ok(state) => running.restore(index, state),
                    Err(error) => {
                        let seen = format!("member {member}: {error}");
                        self.invariants.violated(Invariant::NobodyFails, self.now, seen);
                    }
                }
            }
            // A revision is the index of whatever was applied last: at every member the same.
            Applied::Noop(index) | Applied::Change(index, _) => {
                if let Some(running) = self.any_life(member) {
                    running.index = index;
                    running.history.push(revision(index), Vec::new(), None);
                }
            }
        }
    }

    fn apply_command(&mut self, member: MemberId, committed: Committed) {
        let Committed { index, term, ticket, command } = committed;
        let mut hash = Trace::new();
        hash.add_bytes(&command);
        let entry = match decode_entry(&command) {
            Ok(entry) => entry,
            Err(error) => {
                let seen = format!("member {member}: {error}");
                return self.invariants.violated(Invariant::NobodyFails, self.now, seen);
            }
        };
        let now = self.now;
        let seen = (index, term, hash.hash());
        self.trace.add(seen.2);
        self.invariants.applied(now, member, seen, &entry.command, &self.store.contents);
        let Some(running) = self.operators.get_mut(&member).and_then(|o| o.running.as_mut()) else {
            return;
        };
        let deltas = running.state.apply(&entry.command);
        for delta in &deltas {
            if let weft_types::Delta::IdentityUpsert(number, labels) = delta {
                self.invariants.numbered(now, *number, labels);
            }
        }
        running.index = index;
        running.history.push(revision(index), deltas, None);
        match ticket {
            Some(ticket) if !ticket.is_multiple_of(2) => {
                self.lead(member, Happened::Ordered(ticket / 2));
            }
            Some(_) => self.counts.plugs += 1,
            None => {}
        }
    }

    fn turn(&mut self, member: MemberId, role: (Role, u64)) {
        let Some(running) = self.any_life(member) else { return };
        let led = matches!(running.role.0, Role::Elected | Role::Leader);
        running.role = role;
        match role.0 {
            Role::Elected => {
                self.counts.elections += 1;
                self.invariants.elected(self.now, member, role.1);
            }
            Role::Leader => {
                self.invariants.elected(self.now, member, role.1);
                self.lead(member, Happened::Led(role.1));
            }
            Role::Follower(_) | Role::Candidate if led => self.lead(member, Happened::Deposed),
            Role::Follower(_) | Role::Candidate => {}
        }
    }

    fn compact(&mut self, member: MemberId, wanted: bool) {
        let Some(running) = self.any_life(member) else { return };
        if !wanted && running.index < running.compacted + COMPACT {
            return;
        }
        let (index, state) = (running.index, running.state.encode());
        running.compacted = index;
        if let Ok(state) = state {
            self.feed(member, Input::Compact(index, state.into()));
        }
    }

    /// One step of a member's leadership, and all that follows.
    pub(super) fn lead(&mut self, member: MemberId, happened: Happened) {
        let Some(running) = self.any_life(member) else { return };
        let effects = running.leadership.step(&running.state, happened);
        for effect in effects {
            match effect {
                Effect::Store(operation, ask) => self.ask_store(member, operation, ask),
                Effect::Propose(ticket, term, command) => {
                    let entry = encode_entry(&EntryV1 { trace: None, command });
                    let ticket = Running::ticket_of_leader(ticket);
                    let command = entry.unwrap_or_default();
                    let proposal = Proposal { ticket, command, only_in: Some(term) };
                    self.feed(member, Input::Propose(vec![proposal]));
                }
                Effect::Answer(request, verdict) => {
                    let asker = self.any_life(member).and_then(|r| r.requests.remove(&request));
                    if let Some(client) = asker {
                        let delay = self.delay();
                        self.after(delay, Event::Answered(client, request, verdict));
                    }
                }
            }
        }
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
        if self.store.down_until > self.now {
            // Half of what comes meanwhile is done when it is back, and nobody is told.
            if self.rng.bool() {
                let left = Micros(self.store.down_until.0 - self.now.0);
                let late = left + Millis(0, 1000).draw(&mut self.rng);
                self.after(late, Event::AtStore(MemberId(0), 0, operation, ask.clone()));
            }
            return;
        }
        let answer = self.store.carry_out(self.now, CLUSTER, ask, &mut self.invariants);
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
        let careless = self.sabotage == Sabotage::RecordNotAdopted;
        let Some(running) = self.running(member, life) else { return };
        if let (true, Ok(Stored::Contents(identities, objects))) = (careless, &mut answer) {
            let state = &running.state;
            identities.retain(|(_, labels)| state.identities().contains_key(labels));
            *objects = state.objects().collect();
        }
        self.lead(member, Happened::Stored(operation, answer));
    }

    /// An administrator brings the group to what is wanted, by whoever leads.
    pub(super) fn administrate(&mut self) {
        self.after(Micros::millis(300), Event::Admin);
        let leader = self.leader();
        let (Some(change), Some(leader)) = (self.wanted.front().cloned(), leader) else { return };
        let Some(running) = self.any_life(leader) else { return };
        let role = running.node.status().group.members.get(&change.member()).map(|m| m.role);
        let done = match (&change, role) {
            (GroupChange::AddLearner(..), known) => known.is_some(),
            (GroupChange::Promote(_), known) => known == Some(MemberRole::Voter),
            (GroupChange::Remove(_), known) => known.is_none(),
        };
        if done {
            self.wanted.pop_front();
        } else {
            self.feed(leader, Input::Change(0, change));
        }
    }
}
