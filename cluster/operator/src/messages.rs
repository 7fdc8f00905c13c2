//! What the leader is told and asked.

use crate::{
    history::{Frame, Snapshot},
    keeper::Told,
    progress::{NotJoined, Rows, SessionId},
    sequencer::Sequenced,
};
use actix::Message;
use std::{net::Ipv4Addr, time::Duration};
use tokio::sync::{mpsc, oneshot};
use weft_api::{
    Failure,
    operator::{Answer, Waited},
};
use weft_raft::{Change, MemberId};
use weft_state::{interests::View, leadership};
use weft_types::{Identity, LabelSet, NodeName, PodEndpoint, Revision, TraceContext};
use weft_wire::ToAgent;

/// Why what the leader alone does was not done.
#[derive(Debug)]
pub enum Undone {
    /// This operator does not lead; nothing of it was begun.
    NotLeading,
    /// For another reason.
    Failed(Failure),
}

impl From<Failure> for Undone {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Change what sources want; answered by [`Answer::Accepted`] when it is applied, however long the store takes.
#[derive(Message)]
#[rtype(result = "Result<Answer, Undone>")]
pub struct Desire {
    /// What.
    pub change: leadership::Change,
    /// The call.
    pub cause: Option<TraceContext>,
}

/// Give a label set its number; answered by [`Answer::Number`] when the log has it.
#[derive(Message)]
#[rtype(result = "Result<Answer, Undone>")]
pub struct Number {
    /// The labels.
    pub labels: LabelSet,
    /// The call.
    pub cause: Option<TraceContext>,
}

/// What the store said.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StoreTold(pub Told);

/// Why the store does not do what it is asked, when that is so.
#[derive(Message)]
#[rtype(result = "Option<String>")]
pub struct Trouble;

/// What the sequencer's stream brings.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Applied(pub Sequenced);

/// What can be answered from the state.
#[derive(Message)]
#[rtype(result = "Answer")]
pub enum Look {
    /// Members, sessions and their revisions.
    Status,
    /// Every identity.
    Identities,
    /// Every object.
    Objects,
    /// The group.
    Cluster,
}

/// Answered when everything is applied that was committed when it was asked.
#[derive(Message)]
#[rtype(result = "Result<(), Failure>")]
pub struct CatchUp;

/// Change the group; answered when that is committed.
#[derive(Message)]
#[rtype(result = "Result<Answer, Undone>")]
pub struct ChangeGroup(pub Change);

/// Have another voter lead: this one, or who is furthest.
#[derive(Message)]
#[rtype(result = "Result<Answer, Undone>")]
pub struct Transfer(pub Option<MemberId>);

/// Tell when every node holds a revision, or what is missing when the time is over.
#[derive(Message)]
#[rtype(result = "Result<(), Failure>")]
pub struct AwaitRevision {
    /// The revision; the newest when absent.
    pub revision: Option<Revision>,
    /// The only node that counts; all when absent.
    pub node: Option<NodeName>,
    /// How long.
    pub timeout: Duration,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Waited>,
}

/// Tell when the nodes that have to know a new address of an identity hold a revision, or which of them do not when the time is
/// over. Those that are away are not waited for: they are answered at once.
#[derive(Message)]
#[rtype(result = "Vec<NodeName>")]
pub struct AwaitSpread {
    /// The revision that has the address.
    pub revision: Revision,
    /// The identity.
    pub identity: Identity,
    /// The address's node, which knows.
    pub node: NodeName,
    /// How long.
    pub timeout: Duration,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Waited>,
}

/// What is known of the agents here: what changed since then, or all.
#[derive(Message)]
#[rtype(result = "(Rows, u64)")]
pub struct OwnAgents {
    /// When.
    pub since: Option<u64>,
}

/// Another operator tells of its agents.
#[derive(Message)]
#[rtype(result = "()")]
pub struct OthersAgents {
    /// Who.
    pub member: MemberId,
    /// What.
    pub rows: Rows,
}

/// Another operator says which version of the log it knows; refused where the group is of a newer one.
#[derive(Message)]
#[rtype(result = "Result<(), Failure>")]
pub struct Introduced {
    /// Who.
    pub member: MemberId,
    /// The newest that it speaks.
    pub version: u8,
}

/// An agent's session begins.
#[derive(Message)]
#[rtype(result = "Result<Joined, NotJoined>")]
pub struct Join {
    /// The node it may speak for.
    pub node: NodeName,
    /// Its number.
    pub session: SessionId,
    /// What it holds.
    pub held: Option<Revision>,
    /// Up to where it was told.
    pub from: Option<Revision>,
    /// What it was told of that.
    pub view: View,
}

/// A session stands.
#[derive(Debug)]
pub struct Joined {
    /// The cluster's name.
    pub cluster: String,
    /// The newest revision.
    pub revision: Revision,
    /// What comes beside what is pulled.
    pub asides: mpsc::Receiver<Aside>,
    /// Ends when the session has to.
    pub over: oneshot::Receiver<()>,
}

/// What a session is told beside what it pulls.
#[derive(Debug)]
pub enum Aside {
    /// There may be something to pull, though nothing is newer.
    Pull,
    /// The agent is to be told this.
    Tell(ToAgent),
}

/// What comes next for a session.
#[derive(Message)]
#[rtype(result = "Option<Pulled>")]
pub struct Pull {
    /// Its node.
    pub node: NodeName,
    /// The session; answered with nothing when it is over.
    pub session: SessionId,
    /// What it was sent.
    pub sent: Option<Revision>,
}

/// What a session sends.
#[derive(Debug)]
pub enum Pulled {
    /// Nothing: it was sent what is newest.
    Nothing,
    /// What brings to a revision.
    Push(Frame, Revision),
    /// Everything.
    Snapshot(Snapshot),
}

/// What an agent says; answered when it is applied, so that one that says much waits for itself alone.
#[derive(Message)]
#[rtype(result = "Result<(), Failure>")]
pub struct Heard {
    /// The node it speaks for.
    pub node: NodeName,
    /// Its session.
    pub session: SessionId,
    /// What.
    pub said: Said,
}

/// What an agent can say once its session stands.
#[derive(Debug)]
pub enum Said {
    /// Its kernel holds a revision; and the agent's part in that.
    Holds(Revision, Option<TraceContext>),
    /// Its kernel does not take a revision; and why.
    Behind(Revision, String),
    /// A pod was plugged, or relabelled; and the CNI call.
    Plugged(PodEndpoint, Option<TraceContext>),
    /// An address is free; and the CNI call.
    Unplugged(Ipv4Addr, Option<TraceContext>),
    /// All addresses it has pods for, and their identities.
    Endpoints(Vec<(Ipv4Addr, Identity)>),
    /// It wants to know who has these addresses.
    Who(Vec<Ipv4Addr>),
    /// The session is over.
    Left,
}
