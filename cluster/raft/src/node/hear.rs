//! What peers say, and reads.

use super::{Input, Node, NodeError, Output, Reading, consensus};
use crate::{
    Chunk, Envelope, Index, Kind, MemberId, PeerMessage, RaftMessage, Term, Ticket,
    convert::{bytes_of, conf_state, message_in},
    snapshots::Taken,
};
use raft::{
    SnapshotStatus, StateRole,
    eraftpb::{self as pb, MessageType},
};

impl Node {
    pub(super) fn hear(&mut self, envelope: Envelope, out: &mut Output) -> Result<(), NodeError> {
        let Envelope { from, to, message } = envelope;
        if to != self.config.member || from == to {
            return Ok(());
        }
        match message {
            PeerMessage::Raft(message) => self.hear_consensus(from, message),
            PeerMessage::Propose { term, life, first, commands } => {
                self.hear_proposals(from, term, (life, first), commands)
            }
            PeerMessage::Chunk(chunk) => self.hear_chunk(from, chunk, out),
            PeerMessage::ChunkTaken { index, offset } => {
                self.chunk_taken(from, index, offset, out);
                Ok(())
            }
        }
    }

    fn hear_consensus(&mut self, from: MemberId, message: RaftMessage) -> Result<(), NodeError> {
        let end = self.raw.raft.raft_log.last_index();
        if message.kind == Kind::Heartbeat
            && message.term >= self.raw.raft.term
            && message.commit > end
        {
            return Err(NodeError::LostLog { known: message.commit, end });
        }
        let Some(message) = message_in(from, self.config.member, message)? else { return Ok(()) };
        self.take(message)
    }

    fn take(&mut self, message: pb::Message) -> Result<(), NodeError> {
        match self.raw.step(message) {
            Ok(()) | Err(raft::Error::StepPeerNotFound | raft::Error::ProposalDropped) => Ok(()),
            Err(error) => Err(consensus(error)),
        }
    }

    /// A follower's commands: for this term's leader alone.
    fn hear_proposals(
        &mut self,
        from: MemberId,
        term: Term,
        (life, first): (u64, u64),
        commands: Vec<Vec<u8>>,
    ) -> Result<(), NodeError> {
        let raft = &self.raw.raft;
        let known = self.group.members.contains_key(&from);
        if raft.state != StateRole::Leader || raft.term != term || !known {
            return Ok(());
        }
        let commands = self.proposals.admit(from, life, first, commands);
        let Some((last, _)) = commands.last() else { return Ok(()) };
        let last = *last;
        if self.order(commands)? {
            self.proposals.admitted(last);
        }
        Ok(())
    }

    fn hear_chunk(
        &mut self,
        from: MemberId,
        chunk: Chunk,
        out: &mut Output,
    ) -> Result<(), NodeError> {
        let (leader_term, index) = (chunk.leader_term, chunk.index);
        if leader_term < self.raw.raft.term {
            return Ok(());
        }
        let (offset, whole) = match self.snapshots.receive(from, chunk) {
            Taken::Ignored => return Ok(()),
            Taken::Until(offset) => (offset, None),
            Taken::Whole(snapshot) => (snapshot.state.len() as u64, Some(snapshot)),
        };
        self.tell(from, PeerMessage::ChunkTaken { index, offset }, out);
        let Some(snapshot) = whole else { return Ok(()) };
        let mut message = pb::Message {
            from: from.0,
            to: self.config.member.0,
            term: leader_term,
            ..pb::Message::default()
        };
        message.set_msg_type(MessageType::MsgSnapshot);
        let metadata = message.mut_snapshot().mut_metadata();
        (metadata.index, metadata.term) = (snapshot.index, snapshot.term);
        metadata.set_conf_state(conf_state(&snapshot.group));
        self.take(message)
    }

    fn chunk_taken(&mut self, by: MemberId, index: Index, offset: u64, out: &mut Output) {
        let size = usize::try_from(self.config.chunk_bytes).unwrap_or(usize::MAX);
        match self.snapshots.taken(by, index, offset, size) {
            Some(Some(chunk)) => self.tell(by, PeerMessage::Chunk(chunk), out),
            Some(None) => self.raw.report_snapshot(by.0, SnapshotStatus::Finish),
            None => {}
        }
    }

    /// Asks the leader, or its majority, what is committed.
    pub(super) fn ask(&mut self, ticket: Ticket) -> Result<(), NodeError> {
        self.reads.insert(ticket, Reading::Asked(0));
        let context = (self.config.member, self.config.life, ticket);
        self.raw.read_index(bytes_of(&context)?);
        Ok(())
    }

    /// What was asked of a leader that is no more, or was lost on the way, is asked again.
    pub(super) fn ask_again(&mut self, patience: u16) -> Result<(), NodeError> {
        let mut again = Vec::new();
        for (ticket, reading) in &mut self.reads {
            if let Reading::Asked(ticks) = reading {
                *ticks += 1;
                if *ticks >= patience {
                    again.push(*ticket);
                }
            }
        }
        again.into_iter().try_for_each(|ticket| self.ask(ticket))
    }

    /// The leader's word on a read.
    pub(super) fn may_read(&mut self, context: &[u8], index: Index) {
        let Ok((_, life, ticket)) = weft_types::codec::decode::<(MemberId, u64, Ticket)>(context)
        else {
            return;
        };
        if let Some(reading) = self.reads.get_mut(&ticket).filter(|_| life == self.config.life) {
            *reading = Reading::After(index);
        }
    }

    /// Reads whose entry is applied.
    pub(super) fn answer_reads(&mut self, out: &mut Output) {
        let applied = self.applied;
        let done =
            |reading: &Reading| matches!(reading, Reading::After(index) if *index <= applied);
        out.reads.extend(self.reads.iter().filter(|(_, r)| done(r)).map(|(ticket, _)| *ticket));
        self.reads.retain(|_, reading| !done(reading));
    }
}

impl From<Envelope> for Input {
    fn from(envelope: Envelope) -> Self {
        Self::Message(envelope)
    }
}
