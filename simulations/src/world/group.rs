//! What operators do: the shells around their cores.

use super::{Event, GroupChange, TICK, World, numbers::Numbered};
use crate::{
    Invariant,
    operator::Running,
    release::Release,
    sabotage::{Sabotage, without_references},
    story::Condition,
    time::{Micros, Millis},
    trace::Trace,
};
use std::rc::Rc;
use weft_operator::sequencer;
use weft_raft::{
    Applied, Committed, Envelope, Input, MemberId, MemberRole, Output, PeerMessage, Role,
};
use weft_state::{
    ClusterState, CommandV1, decode_entry, leadership::Event as Happened, retirement::Grace,
};

/// How much longer a slow disk takes.
const SLOW: u64 = 50;
/// How long a write is tried again.
const PATIENCE: Micros = Micros::of(sequencer::PATIENCE);
/// From the end of a process that could not write to its next life.
const AGAIN: Micros = Micros::millis(500);

impl World {
    pub(super) fn start(&mut self, member: MemberId) {
        let seed = self.seed;
        let cluster = self.cluster();
        let ticks = u32::try_from(self.scenario.grace * 1000 / TICK.0).unwrap_or(u32::MAX);
        // A leader looks about as often, beside the grace, as a shipped one does.
        let pause = (ticks / 60).max(1);
        let grace = Grace { numbers: ticks, nodes: ticks, pause, ..Grace::default() };
        let Some(operator) = self.operators.get_mut(&member) else { return };
        if operator.running.is_some() {
            return;
        }
        if self.has_raised {
            // Whoever puts one back then is told so, and does not.
            operator.release = Release::Now;
        }
        let seed = seed ^ (member.0 << 32);
        if let Err(problem) = operator.start((cluster, grace), seed, &self.views) {
            let seen = format!("member {member} does not begin: {problem}");
            return self.invariants.violated(Invariant::NobodyFails, self.now, seen);
        }
        let life = operator.life;
        operator.began = self.now;
        self.story.became(self.now, member, Condition::Follows);
        self.knows(member);
        let first = Micros(self.rng.u64(0..TICK.0));
        self.after(first, Event::Tick(member, life));
    }

    pub(super) fn running(&mut self, member: MemberId, life: u64) -> Option<&mut Running> {
        let operator = self.operators.get_mut(&member)?;
        operator.running.as_mut().filter(|_| operator.life == life)
    }

    pub(super) fn any_life(&mut self, member: MemberId) -> Option<&mut Running> {
        self.operators.get_mut(&member)?.running.as_mut()
    }

    pub(super) fn tick(&mut self, member: MemberId, life: u64) {
        if self.running(member, life).is_none() {
            return;
        }
        self.after(TICK, Event::Tick(member, life));
        self.tick_once(member);
        self.write_again(member);
        self.beat(member);
        self.tell_of_agents(member);
    }

    /// What a full disk did not take is tried again; when it does not take it at all the process ends, as the shipped one
    /// does, and its next life goes on from what the disk has.
    fn write_again(&mut self, member: MemberId) {
        let now = self.now;
        let Some(operator) = self.operators.get_mut(&member) else { return };
        if operator.full_until <= now || operator.disk.unsynced() == 0 {
            operator.refused = 0;
            return self.sync(member);
        }
        operator.refused += 1;
        if Micros(TICK.0 * u64::from(operator.refused)) > PATIENCE {
            self.kill(member);
            self.after(AGAIN, Event::Restart(member));
        }
    }

    pub(super) fn tick_once(&mut self, member: MemberId) {
        self.feed(member, Input::Tick);
        let Some(running) = self.any_life(member) else { return };
        let status = running.node.status();
        let everywhere = status.everywhere();
        let known = self.known_by_all(member, &status.group);
        self.lead(member, Happened::Tick { everywhere, known });
        self.filter_labels(member);
    }

    pub(super) fn arrive(&mut self, envelope: Envelope) {
        if self.cuts.contains_key(&(envelope.from, envelope.to)) {
            self.counts.lost += 1;
            return;
        }
        self.counts.messages += 1;
        let from = self.operators.get(&envelope.from).map(|operator| operator.release);
        if let (Some(release), Some(running)) = (from, self.any_life(envelope.to)) {
            // Whoever is too old finds that out by itself here.
            _ = running.versions.hear(envelope.from, release.log(), running.state.version());
        }
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
        let Output { writes, messages, applied, refused, reads, role, snapshot_wanted, .. } =
            output;
        let written = writes.last().map(|write| write.number);
        if let Some(operator) = self.operators.get_mut(&member) {
            operator.disk.accept(writes);
        }
        messages.into_iter().for_each(|envelope| self.send(envelope));
        applied.into_iter().for_each(|applied| self.apply(member, applied));
        self.answer_looks(member, reads);
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
        if operator.syncing || operator.full_until > now || count == 0 {
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
                let Some(operator) = self.operators.get_mut(&member) else { return };
                let reads = operator.release.reads(&state);
                let Some(running) = operator.running.as_mut() else { return };
                match decoded {
                    Ok(_) if !reads => self.is_too_old(member),
                    Ok(decoded) => {
                        running.restore(index, decoded, state.len(), &self.views);
                        self.knows(member);
                    }
                    Err(error) => {
                        let seen = format!("member {member}: {error}");
                        self.invariants.violated(Invariant::NobodyFails, self.now, seen);
                    }
                }
            }
            // A revision is the index of whatever was applied last: at every member the same.
            Applied::Noop(index) | Applied::Change(index, _) => {
                let running = self.operators.get_mut(&member).and_then(|o| o.running.as_mut());
                if let Some(running) = running {
                    let there = self.views.at(running.at(index));
                    running.advance(index, Vec::new(), 0, there);
                    self.knows(member);
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
        let release = self.operators.get(&member).map(|o| o.release).unwrap_or_default();
        if matches!(entry.command, CommandV1::Raise(_)) {
            self.raised(index);
        }
        if !release.knows(&entry.command) {
            return self.is_too_old(member);
        }
        let seen = (index, term, hash.hash());
        self.trace.add(seen.2);
        let is_first =
            self.invariants.applied(now, member, seen, &entry.command, self.store.newest());
        let has_kernels = self.has_kernels();
        let Some(running) = self.operators.get_mut(&member).and_then(|o| o.running.as_mut()) else {
            return;
        };
        if is_first {
            // What operators count of it.
            for (invariant, seen) in running.state.violations(&entry.command) {
                self.invariants.violated(invariant, now, seen);
            }
            if let CommandV1::Desire { identities, .. } = &entry.command {
                self.counts.given += identities.len() as u64;
            }
        }
        let numbers = is_first.then(|| Numbered::before(&running.state, &entry.command));
        let deltas = running.state.apply_entry(&entry);
        if is_first && has_kernels {
            self.book.take(running.at(index), &deltas);
        }
        running.words += u64::from(matches!(entry.command, CommandV1::Said(..)));
        let numbers = numbers.map(|numbers| numbers.and(&deltas));
        let at = running.at(index);
        running.advance(index, deltas, command.len(), self.views.at(at));
        self.knows(member);
        if let Some(numbers) = numbers {
            self.number(at, numbers);
        }
        match ticket {
            Some(ticket) if !ticket.is_multiple_of(2) => {
                self.lead(member, Happened::Ordered(ticket / 2, at));
            }
            Some(_) => self.counts.plugs += 1,
            None => {}
        }
    }

    /// What an operator publishes now is what others do at that revision.
    fn knows(&mut self, member: MemberId) {
        let running = self.operators.get_mut(&member).and_then(|o| o.running.as_mut());
        let Some(running) = running else { return };
        let at = running.revision();
        match self.views.share(self.now, at, Rc::clone(&running.view)) {
            Ok(view) => running.view = view,
            Err(_) => {
                let seen = format!("member {member} knows something else at {at} than others");
                self.invariants.violated(Invariant::OneState, self.now, seen);
            }
        }
    }

    fn turn(&mut self, member: MemberId, role: (Role, u64)) {
        let Some(running) = self.any_life(member) else { return };
        let led = matches!(running.role.0, Role::Elected | Role::Leader);
        running.role = role;
        self.story.became(self.now, member, role.into());
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
        let careless = self.sabotage == Sabotage::ReferenceLost;
        let Some(running) = self.any_life(member) else { return };
        let index = running.index;
        if let Some(mut state) = running.snapshot(wanted) {
            if careless {
                state = without_references(&running.state).unwrap_or_default();
            }
            self.feed(member, Input::Compact(index, state.into()));
        }
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
