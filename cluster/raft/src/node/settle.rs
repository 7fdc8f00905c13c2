//! What consensus wants done after a step, and what becomes of it.

use super::{Applied, Committed, Node, NodeError, Output, Role, consensus};
use crate::{
    Body, Entry, MemberId, PeerMessage, Refusal, SavedSnapshot, Truncate, Write,
    convert::{conf_change, from_raft, message_out, vote},
};
use raft::{
    Ready, SnapshotStatus, StateRole,
    eraftpb::{self as pb, MessageType},
};

impl Node {
    /// Takes all that consensus has ready.
    pub(super) fn settle(&mut self, out: &mut Output) -> Result<(), NodeError> {
        while self.raw.has_ready() {
            let ready = self.raw.ready();
            self.take_ready(ready, out)?;
        }
        out.snapshot_wanted |= self.raw.store().is_wanted();
        self.turn(out);
        self.answer_reads(out);
        Ok(())
    }

    fn take_ready(&mut self, mut ready: Ready, out: &mut Output) -> Result<(), NodeError> {
        let number = ready.number();
        self.last_ready = number;
        let now = ready.take_messages();
        let held = ready.take_persisted_messages();
        for state in ready.take_read_states() {
            self.may_read(&state.request_ctx, state.index);
        }
        if ready.must_sync() {
            self.persist(&mut ready, out)?;
        }
        let committed = ready.take_committed_entries();
        self.raw.advance_append_async(ready);
        self.send(now, out)?;
        self.held.push_back((number, held));
        for entry in &committed {
            self.apply(entry, out)?;
        }
        self.release(out)
    }

    fn persist(&mut self, ready: &mut Ready, out: &mut Output) -> Result<(), NodeError> {
        let metadata = ready.snapshot().get_metadata();
        let (index, term) = (metadata.index, metadata.term);
        let mut snapshot = None;
        if index != 0 {
            let arrived = self.snapshots.arrived(index, term);
            let arrived = arrived.ok_or_else(|| {
                NodeError::Raft(format!("the bytes of snapshot {index} are not there"))
            })?;
            self.restore(&arrived, out);
            snapshot = Some((arrived, Truncate::All));
        }
        let entries = ready.take_entries();
        self.raw.mut_store().append(&entries);
        let entries = entries.iter().map(from_raft).collect::<Result<Vec<_>, _>>()?;
        // With every write: then what it says of what is committed is not older than need be.
        let vote = Some(vote(&self.raw.raft.hard_state()));
        let number = ready.number();
        self.write(Write { number: 0, vote, snapshot, entries }, Some(number), out);
        Ok(())
    }

    /// A leader's snapshot takes the place of the state.
    fn restore(&mut self, snapshot: &SavedSnapshot, out: &mut Output) {
        self.raw.mut_store().restore(snapshot);
        self.applied = snapshot.index;
        self.groups = [(snapshot.index, snapshot.group.clone())].into();
        self.group = snapshot.group.clone();
        out.group = Some(self.group.clone());
        out.applied.push(Applied::State(snapshot.index, snapshot.state.clone()));
        let unknown = self.proposals.unknown().into_iter();
        out.refused.extend(unknown.map(|ticket| (ticket, Refusal::Unknown)));
    }

    fn send(&mut self, messages: Vec<pb::Message>, out: &mut Output) -> Result<(), NodeError> {
        for message in messages {
            let to = MemberId(message.to);
            if message.get_msg_type() == MessageType::MsgSnapshot {
                self.send_snapshot(to, message.term, out);
            } else if let Some(message) = message_out(message)? {
                self.tell(to, PeerMessage::Raft(message), out);
            }
        }
        Ok(())
    }

    fn send_snapshot(&mut self, to: MemberId, term: u64, out: &mut Output) {
        let size = usize::try_from(self.config.chunk_bytes).unwrap_or(usize::MAX);
        match self.raw.store().snapshot_bytes() {
            Some(snapshot) => {
                let chunk = self.snapshots.send(to, snapshot, term, size);
                self.tell(to, PeerMessage::Chunk(chunk), out);
            }
            None => self.raw.report_snapshot(to.0, SnapshotStatus::Failure),
        }
    }

    fn apply(&mut self, entry: &pb::Entry, out: &mut Output) -> Result<(), NodeError> {
        let Entry { index, term, body } = from_raft(entry)?;
        let me = self.config.member;
        match body {
            Body::Noop => out.applied.push(Applied::Noop(index)),
            Body::Command(origin, command) => {
                let ticket = self.proposals.committed(me, term, &origin);
                out.applied.push(Applied::Command(Committed { index, term, ticket, command }));
            }
            Body::Change(origin, change) => {
                let ticket = self.proposals.committed(me, term, &origin);
                if self.group.objection(&change).is_none() {
                    self.raw.apply_conf_change(&conf_change(&change)).map_err(consensus)?;
                    self.group.make(&change);
                    self.groups.insert(index, self.group.clone());
                    out.group = Some(self.group.clone());
                }
                out.applied.push(Applied::Change(index, ticket));
            }
        }
        self.applied = index;
        self.caught_up = term;
        let lost = self.proposals.lost(term).into_iter();
        out.refused.extend(lost.map(|ticket| (ticket, Refusal::LeaderChanged)));
        Ok(())
    }

    pub(super) fn persisted(&mut self, number: u64, out: &mut Output) -> Result<(), NodeError> {
        while self.under_way.front().is_some_and(|(write, _)| *write <= number) {
            self.under_way.pop_front();
        }
        self.release(out)
    }

    /// Steps of consensus whose writes, and all before, are on the disk: what vouches for them may leave.
    fn release(&mut self, out: &mut Output) -> Result<(), NodeError> {
        let under_way = self.under_way.iter().find_map(|(_, ready)| *ready);
        let done = under_way.map_or(self.last_ready, |ready| ready - 1);
        self.raw.on_persist_ready(done);
        // What came with a snapshot counts as applied when that is on the disk.
        let log = &self.raw.raft.raft_log;
        if log.applied < self.applied && self.applied <= log.persisted {
            self.raw.advance_apply_to(self.applied);
        }
        while let Some((_, messages)) = self.held.pop_front_if(|(ready, _)| *ready <= done) {
            self.send(messages, out)?;
        }
        Ok(())
    }

    /// What this member has become.
    fn turn(&mut self, out: &mut Output) {
        let raft = &self.raw.raft;
        let leader = Some(MemberId(raft.leader_id)).filter(|leader| leader.0 != 0);
        let role = match raft.state {
            StateRole::Follower => Role::Follower(leader),
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Leader if self.caught_up == raft.term => Role::Leader,
            StateRole::Leader => Role::Elected,
        };
        let term = raft.term;
        if role != Role::Leader && role != Role::Elected {
            self.snapshots.stop_sending();
        }
        self.proposals.enter(term);
        if self.role != (role, term) {
            self.role = (role, term);
            out.role = Some((role, term));
        }
    }
}
