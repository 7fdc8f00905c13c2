//! What the leader is told and asked.

use crate::{
    history::{Next, Snapshot},
    progress::SessionId,
    sequencer::Sequenced,
};
use actix::Message;
use std::{net::Ipv4Addr, sync::Arc, time::Duration};
use tokio::sync::oneshot;
use weft_api::{
    Failure,
    operator::{Answer, Waited},
};
use weft_state::EntryV1;
use weft_types::{Identity, LabelSet, NamespacedName, NodeName, Object, Revision, TraceContext};

/// What of a change is new, and what it needs before it can be proposed.
#[derive(Message)]
#[rtype(result = "Result<Prepared, Failure>")]
pub struct Prepare {
    /// Objects to add or replace.
    pub put: Vec<Object>,
    /// Objects to remove.
    pub remove: Vec<Object>,
}

/// A change without what is so already.
#[derive(Debug)]
pub struct Prepared {
    /// Objects to add or replace.
    pub put: Vec<Object>,
    /// Objects to remove.
    pub remove: Vec<Object>,
    /// Label sets that need a number.
    pub sets: std::collections::BTreeSet<LabelSet>,
    /// The newest revision, in which everything else is.
    pub revision: Revision,
}

/// Puts a command in order; answered when it is applied.
#[derive(Message)]
#[rtype(result = "Result<Revision, Failure>")]
pub struct Propose(pub EntryV1);

/// Brings the state to what the store holds, after a change that came to no end.
#[derive(Message)]
#[rtype(result = "Result<Revision, Failure>")]
pub struct Adopt {
    /// Every number in the store.
    pub identities: Vec<(Identity, LabelSet)>,
    /// Every object in it.
    pub objects: Vec<Object>,
}

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
}

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

/// An agent's session begins.
#[derive(Message)]
#[rtype(result = "Result<Joined, String>")]
pub struct Join {
    /// The node it may speak for.
    pub node: NodeName,
    /// What it holds.
    pub held: Option<Revision>,
}

/// A session stands.
#[derive(Debug)]
pub struct Joined {
    /// Its number.
    pub session: SessionId,
    /// The cluster's name.
    pub cluster: String,
    /// The newest revision.
    pub revision: Revision,
    /// What the agent holds.
    pub held: Option<Revision>,
    /// Ends when the session has to.
    pub over: oneshot::Receiver<()>,
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
    /// A change, or nothing.
    Next(Next),
    /// Everything.
    Snapshot(Arc<Snapshot>),
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
    /// A pod was plugged.
    Plugged {
        /// The pod.
        pod: NamespacedName,
        /// Its address.
        address: Ipv4Addr,
        /// The CNI call.
        trace: Option<TraceContext>,
    },
    /// An address is free; and the CNI call.
    Unplugged(Ipv4Addr, Option<TraceContext>),
    /// All addresses it has pods for.
    Endpoints(Vec<Ipv4Addr>),
    /// The session is over.
    Left,
}
