//! The node: what happened goes in, what is to be done comes out.

mod hear;
mod settle;

use crate::{
    Change, Config, Disk, Envelope, Group, Index, MemberId, MemberRole, PeerMessage, Proposal,
    Refusal, Saved, SavedSnapshot, Term, Ticket, Truncate, Write,
    convert::{bytes_of, conf_change},
    log::Log,
    proposals::Proposals,
    snapshots::Snapshots,
};
use raft::{
    ProgressState, RawNode, SnapshotStatus, StateRole,
    eraftpb::{self as pb, MessageType},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A tick's time passed. After a pause there is one, not as many as were missed.
    Tick,
    /// A peer spoke, and its certificate names the member that the envelope is from.
    Message(Envelope),
    /// Commands to order.
    Propose(Vec<Proposal>),
    /// A change of the group; the leader alone makes it.
    Change(Ticket, Change),
    /// Tell when everything that was committed by now is applied.
    Read(Ticket),
    /// Let another voter lead: this one, or who is furthest.
    Transfer(Option<MemberId>),
    /// The write of this number, and all before it, are on the disk.
    Persisted(u64),
    /// The encoded state after an entry that was applied, to stand for the entries up to it.
    Compact(Index, Arc<[u8]>),
    /// What was last sent to a member may not have arrived.
    Unreachable(MemberId),
}

/// What is to be done. Messages may leave at once, whatever becomes of the writes.
#[derive(Debug, Default)]
pub struct Output {
    /// To write, in this order; then [`Input::Persisted`].
    pub writes: Vec<Write>,
    /// To send; what is lost is made up for.
    pub messages: Vec<Envelope>,
    /// What is committed, in its order.
    pub applied: Vec<Applied>,
    /// Proposals that came to no good.
    pub refused: Vec<(Ticket, Refusal)>,
    /// Reads that may be answered, from the state after `applied`.
    pub reads: Vec<Ticket>,
    /// What this member has become, in which term.
    pub role: Option<(Role, Term)>,
    /// Who is of the group from now on.
    pub group: Option<Group>,
    /// A member needs [`Input::Compact`] to go on.
    pub snapshot_wanted: bool,
}

/// What the state is brought on by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// A command.
    Command(Committed),
    /// A leader's first entry; the state is the same after it, and is that of a later entry.
    Noop(Index),
    /// A change of the group was made, or could not be any more; and the ticket of who proposed it here.
    Change(Index, Option<Ticket>),
    /// The state after an entry, in the place of what there was.
    State(Index, Arc<[u8]>),
}

/// A committed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place.
    pub index: Index,
    /// The leader that ordered it.
    pub term: Term,
    /// The proposer's, when this life of this member proposed it.
    pub ticket: Option<Ticket>,
    /// The encoded command.
    pub command: Vec<u8>,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It follows a leader, when it knows one.
    Follower(Option<MemberId>),
    /// It asks for votes.
    Candidate,
    /// It leads, and what was committed before is not all applied here.
    Elected,
    /// It leads, and everything that was committed before its term is applied here.
    Leader,
}

/// Why a node cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The disk's log has a hole, or ends before what was committed.
    #[error(
        "begin with a log that ends at entry {end}, when {committed} is committed: part of it is lost; remove this member and add a new one"
    )]
    Gap {
        /// The last entry.
        end: Index,
        /// What was committed.
        committed: Index,
    },
    /// The leader knows that this member had entries which it has not.
    #[error(
        "follow the leader: it knows this member to have entry {known}, and the log ends at {end}: it was lost or is an older copy; remove this member and add a new one"
    )]
    LostLog {
        /// What the leader knows.
        known: Index,
        /// What there is.
        end: Index,
    },
    /// An entry's bytes are none of ours.
    #[error("read log entry {0}: {1}; was it written by a newer program?")]
    Entry(Index, String),
    /// Something has no bytes.
    #[error("encode a log entry: {0}")]
    Unencodable(String),
    /// Consensus itself.
    #[error("raft: {0}")]
    Raft(String),
}

/// For people and programs that look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The member.
    pub member: MemberId,
    /// Its term.
    pub term: Term,
    /// What it is.
    pub role: Role,
    /// Who leads, when that is known.
    pub leader: Option<MemberId>,
    /// The last entry here.
    pub last: Index,
    /// What is committed as far as is known here.
    pub committed: Index,
    /// What was given out to be applied.
    pub applied: Index,
    /// The last entry that the newest snapshot contains.
    pub snapshot: Index,
    /// The members.
    pub group: Group,
    /// At the leader: what each member is known to have.
    pub matched: BTreeMap<MemberId, Index>,
    /// At the leader: what each member is known to know to be committed.
    pub heard: BTreeMap<MemberId, Index>,
}

impl Status {
    /// The last entry that every member of the group knows to be committed, and so goes by; 0 where this one does not lead.
    pub fn everywhere(&self) -> Index {
        let of = |member| self.heard.get(member).copied().unwrap_or_default();
        self.group.members.keys().map(of).min().unwrap_or_default()
    }
}

/// A member of the group.
pub struct Node {
    config: Config,
    raw: RawNode<Log>,
    group: Group,
    /// The group after each change that the newest snapshot does not contain.
    groups: BTreeMap<Index, Group>,
    applied: Index,
    role: (Role, Term),
    /// The term in which everything from before it is applied.
    caught_up: Term,
    /// Elections that it asked for since it last heard a leader.
    campaigns: u64,
    next_write: u64,
    /// Writes under way, with the last of consensus's steps that each has in it.
    under_way: VecDeque<(u64, Option<u64>)>,
    /// Consensus's last step.
    last_ready: u64,
    /// Messages that vouch for what may not be on the disk yet.
    held: VecDeque<(u64, Vec<pb::Message>)>,
    proposals: Proposals,
    snapshots: Snapshots,
    /// Ticks that the newest snapshot's bytes were not used.
    idle_ticks: u16,
    /// Reads to be answered: how long they wait for the leader's word, or what must be applied.
    reads: BTreeMap<Ticket, Reading>,
}

/// How far a read is.
enum Reading {
    /// The leader was asked so many ticks ago.
    Asked(u16),
    /// It is answered after this entry.
    After(Index),
}

/// Times an election time-out before the bytes of a snapshot are let go.
const IDLE: u16 = 10;
/// Entries that a learner may be behind and be made a voter: they are there in one message.
const BEHIND: Index = 128;
/// Bytes of entries in one message.
const MESSAGE_BYTES: u64 = 1 << 20;
/// Bytes of entries that wait to be committed.
const UNCOMMITTED_BYTES: u64 = 32 << 20;
/// Messages of entries under way to one member.
const IN_FLIGHT: usize = 64;

impl Node {
    /// A member with what was on its disk; the first thing to be applied is the snapshot that [`Saved`] has, by the caller.
    pub fn new(config: Config, saved: Saved) -> Result<Self, NodeError> {
        let election = usize::from(config.election_ticks.max(2));
        let heartbeat = usize::from(config.heartbeat_ticks.max(1));
        // For so long who heard a leader votes for nobody else. It is over when the first one stands, whatever moments clocks
        // tick at: who is refused has lost its turn, and if it has more of the log than others theirs is lost too.
        let lease = election.saturating_sub(heartbeat).max(heartbeat + 1);
        let raft = raft::Config {
            id: config.member.0,
            election_tick: lease,
            heartbeat_tick: heartbeat,
            min_election_tick: election,
            max_election_tick: 2 * election,
            applied: saved.snapshot.index,
            max_size_per_msg: MESSAGE_BYTES,
            max_inflight_msgs: IN_FLIGHT,
            max_uncommitted_size: UNCOMMITTED_BYTES,
            check_quorum: true,
            pre_vote: true,
            ..raft::Config::default()
        };
        let (applied, group) = (saved.snapshot.index, saved.snapshot.group.clone());
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&raft, Log::new(saved)?, &logger).map_err(consensus)?;
        let role = (Role::Follower(None), raw.raft.term);
        let mut proposals = Proposals::new(config.life);
        proposals.enter(role.1);
        Ok(Self {
            config,
            raw,
            groups: BTreeMap::from([(applied, group.clone())]),
            group,
            applied,
            role,
            caught_up: 0,
            campaigns: 0,
            next_write: 1,
            under_way: VecDeque::new(),
            last_ready: 0,
            held: VecDeque::new(),
            proposals,
            snapshots: Snapshots::default(),
            idle_ticks: 0,
            reads: BTreeMap::new(),
        })
    }

    /// A member with what a disk holds, and the state to begin with; none of a member that was never of a group.
    pub fn recover<D: Disk>(
        config: Config,
        disk: &D,
    ) -> Result<Result<(Self, SavedSnapshot), NodeError>, D::Error> {
        let saved = disk.recover()?.unwrap_or_default();
        let snapshot = saved.snapshot.clone();
        Ok(Self::new(config, saved).map(|node| (node, snapshot)))
    }

    /// The one transition.
    pub fn step(&mut self, input: Input) -> Result<Output, NodeError> {
        let mut out = Output::default();
        match input {
            Input::Tick => self.tick(&mut out)?,
            Input::Message(envelope) => self.hear(envelope, &mut out)?,
            Input::Propose(proposals) => self.propose(proposals, &mut out)?,
            Input::Change(ticket, change) => self.change(ticket, change, &mut out)?,
            Input::Read(ticket) => self.ask(ticket)?,
            Input::Transfer(to) => self.transfer(to),
            Input::Persisted(number) => self.persisted(number, &mut out)?,
            Input::Compact(index, state) => self.compact(index, state, &mut out),
            Input::Unreachable(member) => self.raw.report_unreachable(member.0),
        }
        self.settle(&mut out)?;
        Ok(out)
    }

    fn tick(&mut self, out: &mut Output) -> Result<(), NodeError> {
        if self.raw.raft.leader_id != 0 {
            self.campaigns = 0;
        }
        // Consensus draws a time-out of its own whenever it begins to wait; none of those is ever looked at.
        let timeout = self.election_timeout();
        self.raw.raft.set_randomized_election_timeout(timeout);
        let log = &self.raw.raft.raft_log;
        // A snapshot that is not on the disk yet: consensus looks for entries before it when it stands.
        if log.applied + 1 >= log.first_index() {
            self.raw.tick();
        }
        let asks = matches!(self.raw.raft.state, StateRole::Candidate | StateRole::PreCandidate);
        if asks && self.raw.raft.election_elapsed == 0 {
            self.campaigns += 1;
        }
        let patience = self.config.election_ticks;
        if self.proposals.tick(patience) {
            self.forward(0, out);
        }
        let size = usize::try_from(self.config.chunk_bytes).unwrap_or(usize::MAX);
        let (again, over) = self.snapshots.tick(patience, size);
        for (to, chunk) in again {
            self.tell(to, PeerMessage::Chunk(chunk), out);
        }
        for to in over {
            self.raw.report_snapshot(to.0, SnapshotStatus::Failure);
        }
        self.idle_ticks = if self.snapshots.is_sending() { 0 } else { self.idle_ticks + 1 };
        if self.idle_ticks >= IDLE * patience {
            self.idle_ticks = 0;
            self.raw.mut_store().forget_bytes();
        }
        self.ask_again(patience)
    }

    /// From once to twice the configured time. At the first attempt each voter has a turn of its own, which a term gives out
    /// anew: no two stand at once, and who is left when a leader goes waits for one turn at most. Whom that did not help draws,
    /// another time with each attempt.
    fn election_timeout(&self) -> usize {
        let election = u64::from(self.config.election_ticks.max(2));
        let more = match self.campaigns {
            0 => self.place() * election / (self.voters().count() as u64).max(1),
            attempt => mix(mix(self.config.seed ^ self.raw.raft.term) ^ attempt) % election,
        };
        usize::try_from(election + more).unwrap_or(usize::MAX)
    }

    fn voters(&self) -> impl Iterator<Item = MemberId> + '_ {
        let voters = self.group.members.iter().filter(|(_, it)| it.role == MemberRole::Voter);
        voters.map(|(member, _)| *member)
    }

    /// Its place among the voters, in an order that begins elsewhere in each term.
    fn place(&self) -> u64 {
        let voters = (self.voters().count() as u64).max(1);
        let before = self.voters().take_while(|member| *member < self.config.member).count() as u64;
        (before + mix(self.raw.raft.term) % voters) % voters
    }

    fn propose(&mut self, proposals: Vec<Proposal>, out: &mut Output) -> Result<(), NodeError> {
        let raft = &self.raw.raft;
        let (term, leads) = (raft.term, raft.state == StateRole::Leader);
        let follows = !leads && raft.leader_id != 0;
        let mut first = None;
        let mut entries = Vec::new();
        for Proposal { ticket, command, only_in } in proposals {
            let refusal = match only_in {
                Some(only) if !leads || only != term => Some(Refusal::NotLeading),
                _ if !leads && !follows => Some(Refusal::NoLeader),
                _ if self.proposals.is_full() => Some(Refusal::Busy),
                _ => None,
            };
            if let Some(refusal) = refusal {
                out.refused.push((ticket, refusal));
                continue;
            }
            let origin = self.proposals.origin(self.config.member);
            first.get_or_insert(origin.sequence);
            if leads {
                self.proposals.expect(origin, ticket, Vec::new());
                entries.push((origin, ticket, command));
            } else {
                self.proposals.expect(origin, ticket, command);
            }
        }
        if let Some(first) = first.filter(|_| follows) {
            self.forward(first, out);
        }
        let ordered = entries.iter().map(|(origin, _, command)| (*origin, command.clone()));
        if !self.order(ordered.collect())? {
            for (origin, ticket, _) in entries {
                self.proposals.forget(origin);
                out.refused.push((ticket, Refusal::Busy));
            }
        }
        Ok(())
    }

    /// Puts commands into the leader's log, all or none.
    fn order(&mut self, commands: Vec<(crate::Origin, Vec<u8>)>) -> Result<bool, NodeError> {
        if commands.is_empty() {
            return Ok(true);
        }
        let entry = |(origin, command): (crate::Origin, Vec<u8>)| {
            let context = bytes_of(&origin)?.into();
            Ok(pb::Entry { context, data: command.into(), ..pb::Entry::default() })
        };
        let entries = commands.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        let mut message = pb::Message { from: self.config.member.0, ..pb::Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        message.set_entries(entries.into());
        match self.raw.raft.step(message) {
            Ok(()) => Ok(true),
            Err(raft::Error::ProposalDropped) => Ok(false),
            Err(error) => Err(consensus(error)),
        }
    }

    fn forward(&mut self, from: u64, out: &mut Output) {
        let leader = MemberId(self.raw.raft.leader_id);
        if leader.0 == 0 || leader == self.config.member {
            return;
        }
        if let Some(message) = self.proposals.forward(from) {
            self.tell(leader, message, out);
        }
    }

    fn tell(&self, to: MemberId, message: PeerMessage, out: &mut Output) {
        out.messages.push(Envelope { from: self.config.member, to, message });
    }

    fn change(
        &mut self,
        ticket: Ticket,
        change: Change,
        out: &mut Output,
    ) -> Result<(), NodeError> {
        let raft = &self.raw.raft;
        let behind = |matched: Index| matched + BEHIND < raft.raft_log.last_index();
        let progress = raft.prs().get(change.member().0);
        let late = progress.is_none_or(|p| {
            p.state == ProgressState::Snapshot || p.matched == 0 || behind(p.matched)
        });
        let refusal = if raft.state != StateRole::Leader {
            Some(Refusal::NotLeading)
        } else if let Some(objection) = self.group.objection(&change) {
            Some(Refusal::Objection(format!("member {}: {objection}", change.member())))
        } else if change == Change::Remove(self.config.member) {
            Some(Refusal::Objection("it leads: let another member lead first".to_owned()))
        } else if matches!(change, Change::Promote(_)) && late {
            Some(Refusal::Objection(format!(
                "member {} is behind; try again when it has the log",
                change.member()
            )))
        } else if raft.has_pending_conf() {
            Some(Refusal::Busy)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            out.refused.push((ticket, refusal));
            return Ok(());
        }
        let origin = self.proposals.origin(self.config.member);
        let context = bytes_of(&(origin, &change))?;
        match self.raw.propose_conf_change(context, conf_change(&change)) {
            Ok(()) => self.proposals.expect(origin, ticket, Vec::new()),
            Err(raft::Error::ProposalDropped) => out.refused.push((ticket, Refusal::Busy)),
            Err(error) => return Err(consensus(error)),
        }
        Ok(())
    }

    fn transfer(&mut self, to: Option<MemberId>) {
        let me = self.config.member;
        let matched = |id: &MemberId| self.raw.raft.prs().get(id.0).map(|p| p.matched);
        let furthest = || self.group.voters().filter(|id| *id != me).max_by_key(matched);
        if let Some(to) = to.or_else(furthest) {
            self.raw.transfer_leader(to.0);
        }
    }

    fn compact(&mut self, index: Index, state: Arc<[u8]>, out: &mut Output) {
        let Some(term) = self.raw.store().term_at(index) else { return };
        let group = self.groups.range(..=index).next_back().map(|(_, group)| group.clone());
        let (true, Some(group)) = (index <= self.applied, group) else { return };
        if index < self.raw.store().snapshot_index() {
            return;
        }
        self.groups = self.groups.split_off(&index);
        self.groups.insert(index, group.clone());
        let snapshot = SavedSnapshot { index, term, group, state };
        self.raw.mut_store().compact(&snapshot, u64::from(self.config.kept_entries));
        self.idle_ticks = 0;
        self.write(
            Write {
                number: 0,
                vote: None,
                snapshot: Some((snapshot, Truncate::UpToIt)),
                entries: vec![],
            },
            None,
            out,
        );
    }

    /// Gives a write its number.
    fn write(&mut self, mut write: Write, ready: Option<u64>, out: &mut Output) {
        write.number = self.next_write;
        self.next_write += 1;
        self.under_way.push_back((write.number, ready));
        out.writes.push(write);
    }

    /// For people and programs that look.
    pub fn status(&self) -> Status {
        let raft = &self.raw.raft;
        let leads = raft.state == StateRole::Leader;
        let members = self.group.members.keys().filter(|_| leads);
        let known = members.filter_map(|id| Some((*id, raft.prs().get(id.0)?)));
        Status {
            member: self.config.member,
            term: raft.term,
            role: self.role.0,
            leader: Some(MemberId(raft.leader_id)).filter(|leader| leader.0 != 0),
            last: raft.raft_log.last_index(),
            committed: raft.raft_log.committed,
            applied: self.applied,
            snapshot: self.raw.store().snapshot_index(),
            group: self.group.clone(),
            matched: known.clone().map(|(id, peer)| (id, peer.matched)).collect(),
            heard: known.map(|(id, peer)| (id, peer.committed_index)).collect(),
        }
    }
}

fn consensus(error: raft::Error) -> NodeError {
    NodeError::Raft(error.to_string())
}

/// Spreads a number over all 64 bits (the finaliser of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
