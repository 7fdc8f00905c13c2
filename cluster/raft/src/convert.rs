//! Between tikv's types and those of disks and peers.

use crate::{Body, Change, Entry, Group, Kind, MemberId, NodeError, Origin, RaftMessage, Vote};
use raft::eraftpb::{
    self as pb, ConfChange, ConfChangeType, ConfState, EntryType, HardState, MessageType,
};
use serde::Serialize;
use weft_types::codec;

pub(crate) fn bytes_of(value: &impl Serialize) -> Result<Vec<u8>, NodeError> {
    let mut bytes = Vec::new();
    codec::encode_into(value, &mut bytes).map_err(|e| NodeError::Unencodable(e.0))?;
    Ok(bytes)
}

/// An entry as tikv has it: whose it is travels in the context.
pub(crate) fn to_raft(entry: Entry) -> Result<pb::Entry, NodeError> {
    let mut to = pb::Entry { index: entry.index, term: entry.term, ..pb::Entry::default() };
    match entry.body {
        Body::Noop => {}
        Body::Command(origin, command) => {
            to.context = bytes_of(&origin)?.into();
            to.data = command.into();
        }
        Body::Change(origin, change) => {
            to.set_entry_type(EntryType::EntryConfChange);
            to.context = bytes_of(&(origin, change))?.into();
        }
    }
    Ok(to)
}

/// An entry as disks and peers have it.
pub(crate) fn from_raft(entry: &pb::Entry) -> Result<Entry, NodeError> {
    let unreadable = |error: codec::CodecError| NodeError::Entry(entry.index, error.0);
    let body = match entry.get_entry_type() {
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            let (origin, change): (Origin, Change) =
                codec::decode(&entry.context).map_err(unreadable)?;
            Body::Change(origin, change)
        }
        EntryType::EntryNormal if entry.context.is_empty() => Body::Noop,
        EntryType::EntryNormal => {
            let origin = codec::decode(&entry.context).map_err(unreadable)?;
            Body::Command(origin, entry.data.to_vec())
        }
    };
    Ok(Entry { index: entry.index, term: entry.term, body })
}

pub(crate) fn conf_state(group: &Group) -> ConfState {
    let numbers = |ids: Vec<MemberId>| ids.into_iter().map(|id| id.0).collect::<Vec<_>>();
    (numbers(group.voters().collect()), numbers(group.learners().collect())).into()
}

pub(crate) fn conf_change(change: &Change) -> ConfChange {
    let mut to = ConfChange { node_id: change.member().0, ..ConfChange::default() };
    to.set_change_type(match change {
        Change::AddLearner(..) => ConfChangeType::AddLearnerNode,
        Change::Promote(_) => ConfChangeType::AddNode,
        Change::Remove(_) => ConfChangeType::RemoveNode,
    });
    to
}

pub(crate) fn hard_state(vote: Vote) -> HardState {
    let (term, vote, commit) = (vote.term, vote.voted_for.0, vote.committed);
    HardState { term, vote, commit, ..HardState::default() }
}

pub(crate) fn vote(state: &HardState) -> Vote {
    Vote { term: state.term, voted_for: MemberId(state.vote), committed: state.commit }
}

const KINDS: [(Kind, MessageType); 11] = [
    (Kind::Append, MessageType::MsgAppend),
    (Kind::AppendResponse, MessageType::MsgAppendResponse),
    (Kind::RequestVote, MessageType::MsgRequestVote),
    (Kind::RequestVoteResponse, MessageType::MsgRequestVoteResponse),
    (Kind::Heartbeat, MessageType::MsgHeartbeat),
    (Kind::HeartbeatResponse, MessageType::MsgHeartbeatResponse),
    (Kind::TimeoutNow, MessageType::MsgTimeoutNow),
    (Kind::ReadIndex, MessageType::MsgReadIndex),
    (Kind::ReadIndexResponse, MessageType::MsgReadIndexResp),
    (Kind::RequestPreVote, MessageType::MsgRequestPreVote),
    (Kind::RequestPreVoteResponse, MessageType::MsgRequestPreVoteResponse),
];

/// A message for a peer; none of one that stays inside a member.
pub(crate) fn message_out(mut from: pb::Message) -> Result<Option<RaftMessage>, NodeError> {
    let Some((kind, _)) = KINDS.iter().find(|(_, kind)| *kind == from.get_msg_type()) else {
        return Ok(None);
    };
    let mut message = RaftMessage {
        kind: *kind,
        term: from.term,
        log_term: from.log_term,
        index: from.index,
        commit: from.commit,
        commit_term: from.commit_term,
        reject: from.reject,
        reject_hint: from.reject_hint,
        request_snapshot: from.request_snapshot,
        context: from.context.to_vec(),
        entries: Vec::new(),
    };
    let entries = from.take_entries();
    if matches!(kind, Kind::ReadIndex | Kind::ReadIndexResponse) {
        // What is asked stands in an entry that is none.
        message.context = entries.first().map(|entry| entry.data.to_vec()).unwrap_or_default();
    } else {
        message.entries = entries.iter().map(from_raft).collect::<Result<_, _>>()?;
    }
    Ok(Some(message))
}

/// A peer's message as tikv has it; none of one whose parts do not fit, on which it would panic.
pub(crate) fn message_in(
    peer: MemberId,
    member: MemberId,
    message: RaftMessage,
) -> Result<Option<pb::Message>, NodeError> {
    let RaftMessage { kind, index, entries, context, .. } = message;
    let follow = |(entry, index): (&Entry, u64)| entry.index == index;
    let mut to = pb::Message {
        from: peer.0,
        to: member.0,
        term: message.term,
        log_term: message.log_term,
        index,
        commit: message.commit,
        commit_term: message.commit_term,
        reject: message.reject,
        reject_hint: message.reject_hint,
        request_snapshot: message.request_snapshot,
        ..pb::Message::default()
    };
    if let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == kind) {
        to.set_msg_type(*kind);
    }
    if matches!(kind, Kind::ReadIndex | Kind::ReadIndexResponse) {
        let asked = pb::Entry { data: context.into(), ..pb::Entry::default() };
        to.set_entries(vec![asked].into());
        return Ok(Some(to));
    }
    let fits = match kind {
        Kind::Append => entries.iter().zip(index.saturating_add(1)..).all(follow),
        Kind::AppendResponse
        | Kind::RequestVote
        | Kind::RequestVoteResponse
        | Kind::Heartbeat
        | Kind::HeartbeatResponse
        | Kind::TimeoutNow
        | Kind::ReadIndex
        | Kind::ReadIndexResponse
        | Kind::RequestPreVote
        | Kind::RequestPreVoteResponse => entries.is_empty(),
    };
    let has_term = message.term != 0;
    if !fits || !has_term {
        return Ok(None);
    }
    to.context = context.into();
    let entries = entries.into_iter().map(to_raft).collect::<Result<Vec<_>, _>>()?;
    to.set_entries(entries.into());
    Ok(Some(to))
}
