//! The leader: turns requests into commands, publishes what they change, counts who holds what.

use crate::{
    progress::{Progress, SessionId},
    sequencer::Sequencer,
};
use actix::prelude::{Actor, AsyncContext, Context, Handler, Message, MessageResult};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};
use weft_api::{
    Failure, FailureKind,
    agent::IdentityRow,
    operator::{Answer, Request, Status, Waited},
};
use weft_state::CommandV1;
use weft_store::StoreError;
use weft_types::{Delta, Node, NodeName, Object, PodEndpoint, Revision};
use weft_wire::ToAgent;

/// Revisions whose deltas are kept for agents that come back.
const HISTORY: usize = 1024;

/// What a session sends through; bounded, so a slow agent costs a snapshot and not memory.
pub type Outbox = mpsc::Sender<ToAgent>;

/// The leader.
pub struct Leader {
    sequencer: Box<dyn Sequencer>,
    cluster: String,
    progress: Progress<oneshot::Sender<Waited>>,
    outboxes: BTreeMap<NodeName, Outbox>,
    history: VecDeque<(Revision, Vec<Delta>)>,
}

impl Leader {
    /// A leader over a sequencer.
    pub fn new(sequencer: Box<dyn Sequencer>, cluster: String) -> Self {
        Self {
            sequencer,
            cluster,
            progress: Progress::default(),
            outboxes: BTreeMap::new(),
            history: VecDeque::new(),
        }
    }

    /// Commits a command and publishes what it changes; one that changes nothing is left out.
    fn commit(&mut self, command: &CommandV1) -> Result<Revision, StoreError> {
        if !self.sequencer.state().would_change(command) {
            return Ok(self.sequencer.revision());
        }
        let (revision, deltas) = self.sequencer.propose(command)?;
        self.ask_again(&deltas);
        self.history.push_back((revision, deltas.clone()));
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        let message = ToAgent::Deltas { revision, deltas, trace: None };
        // A session whose queue is full is dropped; its agent comes back for what it missed.
        let (outboxes, progress) = (&mut self.outboxes, &mut self.progress);
        outboxes.retain(|node, outbox| {
            let kept = outbox.try_send(message.clone()).is_ok();
            if !kept {
                tracing::warn!(%node, "session too slow, dropped");
                progress.expel(node);
            }
            kept
        });
        Ok(revision)
    }

    /// What a node said before it was registered, or before its prefixes changed, was not taken: its
    /// session ends, so that its agent tells all of it again.
    fn ask_again(&mut self, deltas: &[Delta]) {
        for delta in deltas {
            if let Delta::NodeUpsert(Node { name, .. }) | Delta::NodeDelete(name) = delta {
                self.progress.expel(name);
                self.outboxes.remove(name);
                self.progress.nodes_changed();
            }
        }
    }

    fn desire(&mut self, put: &[Object], remove: &[Object]) -> Result<Answer, Failure> {
        let state = self.sequencer.state();
        let (put, remove) = state.effective(put, remove);
        state.check(&put, &remove).map_err(|conflict| Failure {
            kind: FailureKind::Invalid,
            message: conflict.to_string(),
        })?;
        let changed = put.len() + remove.len();
        let sets = state.unnumbered(&put, &remove).into_iter().collect();
        let identities = self.sequencer.allocate(sets).map_err(internal)?;
        let command = CommandV1::Desire { put, remove, identities };
        let revision = self.commit(&command).map_err(internal)?;
        self.release_waiting();
        Ok(Answer::Accepted { revision, changed })
    }

    fn status(&self) -> Status {
        let state = self.sequencer.state();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: self.sequencer.revision(),
            store: "file".to_owned(),
            nodes: state.nodes().keys().map(|node| self.progress.of(node)).collect(),
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
                    deltas: self.sequencer.state().snapshot().collect(),
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
            Request::Apply { objects } => self.desire(&objects, &[]),
            Request::Delete { objects } => self.desire(&[], &objects),
            Request::Status => Ok(Answer::Status(self.status())),
            Request::Objects => Ok(Answer::Objects(self.sequencer.state().objects().collect())),
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
            Request::Wait { .. } => Err(Failure {
                kind: FailureKind::Internal,
                message: "a wait is not answered at once".to_owned(),
            }),
        })
    }
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

impl Handler<AwaitRevision> for Leader {
    type Result = Result<(), Failure>;

    fn handle(&mut self, wait: AwaitRevision, ctx: &mut Self::Context) -> Self::Result {
        let nodes = self.sequencer.state().nodes();
        if let Some(node) = wait.node.as_ref().filter(|node| !nodes.contains_key(*node)) {
            let known: Vec<&str> = nodes.keys().map(|node| node.0.as_str()).collect();
            let message = format!("wait for node {node}: the cluster has {}", known.join(", "));
            return Err(Failure { kind: FailureKind::NotFound, message });
        }
        let revision = wait.revision.unwrap_or(self.sequencer.revision());
        let waiter = self.progress.wait(revision, wait.node, wait.answer);
        self.release_waiting();
        ctx.run_later(wait.timeout, move |leader, _| {
            let over = leader.progress.expire(waiter, leader.sequencer.state().nodes());
            answer_all(over);
        });
        Ok(())
    }
}

/// Whoever asked may be gone; then nobody needs the answer.
fn answer_all(answers: impl IntoIterator<Item = (oneshot::Sender<Waited>, Waited)>) {
    answers.into_iter().for_each(|(answer, waited)| drop(answer.send(waited)));
}

impl Leader {
    fn release_waiting(&mut self) {
        answer_all(self.progress.settle(self.sequencer.state().nodes()));
    }
}

/// An agent's session begins.
#[derive(Message)]
#[rtype(result = "Result<SessionId, String>")]
pub struct Join {
    /// The node it may speak for.
    pub node: NodeName,
    /// What it holds.
    pub held: Option<Revision>,
    /// Where its messages go.
    pub outbox: Outbox,
}

impl Handler<Join> for Leader {
    type Result = Result<SessionId, String>;

    fn handle(&mut self, join: Join, _: &mut Self::Context) -> Self::Result {
        let newest = self.sequencer.revision();
        let session = self
            .progress
            .join(&join.node, join.held, newest)
            .map_err(|refusal| refusal.to_string())?;
        tracing::info!(node = %join.node, held = ?join.held.map(|r| r.to_string()), "agent joined");
        self.outboxes.remove(&join.node);
        let mut messages = self.catch_up(join.held).into_iter();
        if messages.all(|message| join.outbox.try_send(message).is_ok()) {
            self.outboxes.insert(join.node, join.outbox);
        }
        self.release_waiting();
        Ok(session)
    }
}

/// What an agent says.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Heard {
    /// The node it speaks for.
    pub node: NodeName,
    /// Its session.
    pub session: SessionId,
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
    /// The session is over.
    Left,
}

impl Handler<Heard> for Leader {
    type Result = ();

    fn handle(&mut self, heard: Heard, _: &mut Self::Context) {
        let Heard { node, session, said } = heard;
        if !self.progress.is_current(&node, session) {
            return;
        }
        let command = match said {
            Said::Holds(revision) => {
                self.progress.acknowledge(&node, revision, self.sequencer.revision());
                return self.release_waiting();
            }
            Said::Left => {
                self.progress.leave(&node, session);
                self.outboxes.remove(&node);
                return;
            }
            Said::Plugged(endpoint) if self.may_plug(&node, &endpoint) => {
                CommandV1::Plug(node, endpoint.name, endpoint.address)
            }
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
        endpoint.node == *node && self.sequencer.state().may_plug(node, endpoint.address)
    }
}
