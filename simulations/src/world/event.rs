//! What happens.

use crate::{
    agent::{Asking, Told},
    operator::{Look, Seen},
    release::Release,
    time::Micros,
    told::Part,
};
use weft_operator::progress::Rows;
use weft_raft::{Envelope, MemberId};
use weft_state::leadership::{Ask, Change, Operation, RequestId, Stored, Trouble, Verdict};
use weft_types::Revision;

/// What happens.
pub(super) enum Event {
    Tick(MemberId, u64),
    Arrive(Envelope),
    Synced(MemberId, u64, usize),
    /// Whose life asked the store what.
    AtStore(MemberId, u64, Operation, Ask),
    FromStore(MemberId, u64, Operation, Result<Stored, Trouble>),
    Wish(usize),
    /// A client's request is at an operator.
    Asked(MemberId, usize, RequestId, Change),
    /// A client is answered, by a word of then.
    Answered(usize, RequestId, Verdict, Micros),
    /// The process that a client asked does not run, or ended.
    HungUp(usize, RequestId),
    GiveUp(usize, RequestId),
    /// Agents ask.
    Poll(Vec<usize>),
    /// Agents who were not answered look for another operator.
    Tire,
    /// Agents' questions are at an operator.
    Polled(MemberId, Vec<Asking>),
    /// A member tells another of its agents.
    Rows(MemberId, MemberId, Rows),
    /// Agents are answered, each the question of a number.
    Told(Vec<Waiting>, Told),
    /// Somebody looks at something, unless this look was answered.
    Look(usize, u64),
    LookAt(MemberId, Look),
    Looked(Look, Seen),
    /// A pod somewhere is started anew.
    RestartPod,
    /// An agent's process writes on, in the run of a turn.
    Write(usize, u64),
    /// What a kernel refused in a turn is tried again.
    Wake(usize, u64),
    /// The process of an agent comes back.
    Revive(usize),
    /// A packet somewhere.
    Probe,
    Strike(usize),
    /// Everything is well again, unless something struck since so many strikes.
    Healed(u64),
    /// It has been for a while, since this revision.
    Recovered(u64, Revision),
    /// The process of this life ends in order, and comes back as a release after a time.
    Stop(MemberId, u64, Release, Micros),
    Upgrade(MemberId),
    Over(Cut),
    Restart(MemberId),
    /// A new member takes the place of one whose disk is lost.
    Replace(MemberId),
    /// All members' disks are lost: a new group of so many is founded from the store.
    FoundAnew(usize),
    /// The store is an older copy of itself from now on.
    GoBack,
    /// Whoever looks after the store puts the newest copy in its place.
    PutBack,
    Admin,
}

impl Event {
    /// The member whose process an event needs.
    pub(super) fn whom(&self) -> Option<MemberId> {
        match self {
            Self::Tick(member, _)
            | Self::FromStore(member, ..)
            | Self::Asked(member, ..)
            | Self::LookAt(member, _)
            | Self::Rows(_, member, _)
            | Self::Polled(member, ..) => Some(*member),
            Self::Arrive(envelope) => Some(envelope.to),
            // Its disk goes on, its word that it did waits.
            Self::Synced(member, ..) => Some(*member),
            Self::AtStore(..)
            | Self::Wish(_)
            | Self::Answered(..)
            | Self::HungUp(..)
            | Self::GiveUp(..)
            | Self::Poll(_)
            | Self::Tire
            | Self::Look(..)
            | Self::Looked(..)
            | Self::Told(..)
            | Self::RestartPod
            | Self::Write(..)
            | Self::Wake(..)
            | Self::Revive(_)
            | Self::Probe
            | Self::Strike(_)
            | Self::Healed(_)
            | Self::Recovered(..)
            | Self::Over(_)
            | Self::Stop(..)
            | Self::Upgrade(_)
            | Self::Restart(_)
            | Self::Replace(_)
            | Self::FoundAnew(_)
            | Self::GoBack
            | Self::PutBack
            | Self::Admin => None,
        }
    }
}

/// A direction between members that nothing passes.
pub(super) type Way = (MemberId, MemberId);

/// Ways that are cut by one fault.
pub(super) type Cut = Vec<Way>;

/// An agent that is answered.
pub(super) struct Waiting {
    pub(super) agent: usize,
    /// Of its question.
    pub(super) number: u64,
    /// What it is told for its own.
    pub(super) part: Option<Part>,
}

impl Waiting {
    pub(super) fn new(agent: usize, number: u64) -> Self {
        Self { agent, number, part: None }
    }
}
