//! The leader: turns requests into commands, publishes what they change, counts who holds what.

use crate::sequencer::Sequencer;
use actix::prelude::{Actor, AsyncContext, Context, Handler, Message, MessageResult};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};
use weft_api::{
    Failure, FailureKind,
    agent::IdentityRow,
    operator::{Answer, NodeProgress, Request, Status, Waited},
};
use weft_state::CommandV1;
use weft_store::StoreError;
use weft_types::{Delta, NodeName, Object, PodEndpoint, Revision};
use weft_wire::ToAgent;

/// Revisions whose deltas are kept for agents that come back.
const HISTORY: usize = 1024;

/// What a session sends through; bounded, so a slow agent costs a snapshot and not memory.
pub type Outbox = mpsc::Sender<ToAgent>;

/// The leader.
pub struct Leader {
    sequencer: Box<dyn Sequencer>,
    cluster: String,
    sessions: BTreeMap<NodeName, (u64, Outbox)>,
    acknowledged: BTreeMap<NodeName, Revision>,
    history: VecDeque<(Revision, Vec<Delta>)>,
    waiting: Vec<(Revision, oneshot::Sender<Waited>)>,
    next_session: u64,
}

impl Leader {
    /// A leader over a sequencer.
    pub fn new(sequencer: Box<dyn Sequencer>, cluster: String) -> Self {
        Self {
            sequencer,
            cluster,
            sessions: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            history: VecDeque::new(),
            waiting: Vec::new(),
            next_session: 0,
        }
    }

    fn commit(&mut self, command: &CommandV1) -> Result<Revision, StoreError> {
        let (revision, deltas) = self.sequencer.propose(command)?;
        self.history.push_back((revision, deltas.clone()));
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        let message = ToAgent::Deltas { revision, deltas, trace: None };
        // A session whose queue is full is dropped; its agent comes back for what it missed.
        self.sessions.retain(|node, (_, outbox)| {
            let kept = outbox.try_send(message.clone()).is_ok();
            if !kept {
                tracing::warn!(%node, "session too slow, dropped");
            }
            kept
        });
        Ok(revision)
    }

    fn desire(&mut self, put: Vec<Object>, remove: Vec<Object>) -> Result<Answer, Failure> {
        let changed = put.len() + remove.len();
        let sets = self.sequencer.state().unnumbered(&put, &remove).into_iter().collect();
        let identities = self.sequencer.allocate(sets).map_err(internal)?;
        let command = CommandV1::Desire { put, remove, identities };
        let revision = self.commit(&command).map_err(internal)?;
        Ok(Answer::Accepted { revision, changed })
    }

    fn progress(&self) -> Vec<NodeProgress> {
        self.sequencer
            .state()
            .nodes()
            .keys()
            .map(|node| NodeProgress {
                node: node.0.clone(),
                connected: self.sessions.contains_key(node),
                acknowledged: self.acknowledged.get(node).copied(),
            })
            .collect()
    }

    fn waited(&self, revision: Revision) -> Waited {
        let behind: Vec<NodeProgress> = self
            .progress()
            .into_iter()
            .filter(|node| node.acknowledged.is_none_or(|held| held < revision))
            .collect();
        Waited { revision, enforced: behind.is_empty(), behind }
    }

    fn status(&self) -> Status {
        let state = self.sequencer.state();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: self.sequencer.revision(),
            store: "file".to_owned(),
            nodes: self.progress(),
            identities: state.identities().len(),
            workloads: state.workloads().len(),
            endpoints: state.endpoints().len(),
            policies: state.policies().len(),
        }
    }

    /// What brings an agent from what it holds to now: deltas, or everything.
    fn catch_up(&self, held: Option<Revision>) -> Vec<ToAgent> {
        let now = self.sequencer.revision();
        let known = held.filter(|held| {
            *held == now
                || self.history.front().is_some_and(|(first, _)| *first <= *held)
                    && self.history.iter().any(|(revision, _)| revision == held)
        });
        let mut messages = vec![ToAgent::Welcome { cluster: self.cluster.clone(), revision: now }];
        match known {
            Some(held) => {
                messages.extend(self.history.iter().filter(|(revision, _)| *revision > held).map(
                    |(revision, deltas)| ToAgent::Deltas {
                        revision: *revision,
                        deltas: deltas.clone(),
                        trace: None,
                    },
                ))
            }
            None => messages.extend([
                ToAgent::SnapshotBegin,
                ToAgent::Deltas {
                    revision: now,
                    deltas: self.sequencer.state().snapshot(),
                    trace: None,
                },
                ToAgent::SnapshotEnd { revision: now },
            ]),
        }
        messages
    }
}

fn internal(error: StoreError) -> Failure {
    Failure { kind: FailureKind::Internal, message: error.to_string() }
}

impl Actor for Leader {
    type Context = Context<Self>;
}

/// An admin request other than a wait.
#[derive(Message)]
#[rtype(result = "Result<Answer, Failure>")]
pub struct Administer(pub Request);

impl Handler<Administer> for Leader {
    type Result = MessageResult<Administer>;

    fn handle(&mut self, message: Administer, _: &mut Self::Context) -> Self::Result {
        MessageResult(match message.0 {
            Request::Apply { objects } => self.desire(objects, Vec::new()),
            Request::Delete { objects } => self.desire(Vec::new(), objects),
            Request::Status => Ok(Answer::Status(self.status())),
            Request::Objects => Ok(Answer::Objects(self.sequencer.state().objects())),
            Request::Identities => Ok(Answer::Identities(
                self.sequencer
                    .state()
                    .identities()
                    .iter()
                    .map(|(labels, number)| IdentityRow {
                        identity: number.0,
                        labels: labels.iter().map(|label| label.to_string()).collect(),
                    })
                    .collect(),
            )),
            Request::Wait { revision, .. } => {
                let revision = revision.unwrap_or(self.sequencer.revision());
                Ok(Answer::Waited(self.waited(revision)))
            }
        })
    }
}

/// Tell when every node holds a revision, or what is missing when the time is over.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AwaitRevision {
    /// The revision; the newest when absent.
    pub revision: Option<Revision>,
    /// How long.
    pub timeout: Duration,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Waited>,
}

impl Handler<AwaitRevision> for Leader {
    type Result = ();

    fn handle(&mut self, message: AwaitRevision, ctx: &mut Self::Context) {
        let revision = message.revision.unwrap_or(self.sequencer.revision());
        self.waiting.push((revision, message.answer));
        self.release_waiting();
        ctx.run_later(message.timeout, move |leader, _| {
            let (over, rest) =
                std::mem::take(&mut leader.waiting).into_iter().partition(|(r, _)| *r == revision);
            leader.waiting = rest;
            let over: Vec<(Revision, oneshot::Sender<Waited>)> = over;
            for (revision, answer) in over {
                // Whoever asked may be gone; then nobody needs the answer.
                let _ = answer.send(leader.waited(revision));
            }
        });
    }
}

impl Leader {
    fn release_waiting(&mut self) {
        for (revision, answer) in std::mem::take(&mut self.waiting) {
            let waited = self.waited(revision);
            if waited.enforced {
                let _ = answer.send(waited);
            } else {
                self.waiting.push((revision, answer));
            }
        }
    }
}

/// An agent's session begins.
#[derive(Message)]
#[rtype(result = "u64")]
pub struct Join {
    /// The node it may speak for.
    pub node: NodeName,
    /// What it holds.
    pub held: Option<Revision>,
    /// Where its messages go.
    pub outbox: Outbox,
}

impl Handler<Join> for Leader {
    type Result = u64;

    fn handle(&mut self, join: Join, _: &mut Self::Context) -> u64 {
        self.next_session += 1;
        tracing::info!(node = %join.node, held = ?join.held.map(|r| r.to_string()), "agent joined");
        let complete = self
            .catch_up(join.held)
            .into_iter()
            .all(|message| join.outbox.try_send(message).is_ok());
        if complete {
            self.sessions.insert(join.node, (self.next_session, join.outbox));
        }
        self.next_session
    }
}

/// What an agent says.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Heard {
    /// The node it speaks for.
    pub node: NodeName,
    /// What.
    pub said: Said,
}

/// What an agent can say once its session stands.
pub enum Said {
    /// Its kernel holds a revision.
    Holds(Revision),
    /// A pod was plugged.
    Plugged(PodEndpoint),
    /// An address is free.
    Unplugged(std::net::Ipv4Addr),
    /// All addresses it has pods for.
    Endpoints(Vec<std::net::Ipv4Addr>),
    /// The session of this number is over.
    Left(u64),
}

impl Handler<Heard> for Leader {
    type Result = ();

    fn handle(&mut self, heard: Heard, _: &mut Self::Context) {
        let node = heard.node;
        let command = match heard.said {
            Said::Holds(revision) => {
                self.acknowledged.insert(node, revision);
                return self.release_waiting();
            }
            Said::Left(session) => {
                if self.sessions.get(&node).is_some_and(|(number, _)| *number == session) {
                    self.sessions.remove(&node);
                }
                return;
            }
            Said::Plugged(endpoint) if self.may_plug(&node, &endpoint) => CommandV1::Plug(endpoint),
            Said::Plugged(endpoint) => {
                tracing::warn!(%node, pod = %endpoint.name, address = %endpoint.address,
                    "refused: a node speaks only for its own pods and prefixes");
                return;
            }
            Said::Unplugged(address) => CommandV1::Unplug(node, address),
            Said::Endpoints(addresses) => CommandV1::EndpointsAre(node, addresses),
        };
        if let Err(error) = self.commit(&command) {
            tracing::error!(%error, "what an agent said is not recorded");
        }
    }
}

impl Leader {
    fn may_plug(&self, node: &NodeName, endpoint: &PodEndpoint) -> bool {
        endpoint.node == *node
            && self
                .sequencer
                .state()
                .nodes()
                .get(node)
                .is_some_and(|n| n.pod_cidrs.iter().any(|cidr| cidr.contains(&endpoint.address)))
    }
}
