//! The leader: applies what is committed, publishes what that changes, counts who holds what.
//!
//! It is the only one who applies, and it never waits for a disk: proposals go to the [`Sequencer`]'s thread.

use crate::{
    founding::Founded,
    history::{History, Next, Snapshot},
    messages::{
        Adopt, Applied, AwaitRevision, Heard, Join, Joined, Look, Prepare, Prepared, Propose, Pull,
        Pulled, Said,
    },
    metrics::Metrics,
    progress::Progress,
    sequencer::{Committed, NotOrdered, Sequenced, Sequencer, Ticket},
};
use actix::prelude::{Actor, AsyncContext, Context, Handler, MessageResult, ResponseFuture};
use bytesize::ByteSize;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::{oneshot, watch};
use weft_api::{
    Failure, FailureKind,
    agent::IdentityRow,
    operator::{Answer, Status, Waited},
};
use weft_process::trace;
use weft_state::{ClusterState, CommandV1, EntryV1, adoption};
use weft_types::{Delta, Node, NodeName, Revision};

/// What the leader is told.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Changes that are kept for agents that are behind; who needs older ones gets a snapshot.
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    pub history_size: ByteSize,
    /// Size of the log before a snapshot replaces its entries, or as much as the snapshot has.
    #[arg(long, value_name = "SIZE", default_value = "4MiB")]
    pub log_size: ByteSize,
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

/// What sessions watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The newest revision.
    pub newest: Revision,
    /// The oldest that one can go on from.
    pub floor: Revision,
}

type Verdict = oneshot::Sender<Result<Revision, Failure>>;

/// The leader.
pub struct Leader {
    sequencer: Box<dyn Sequencer>,
    state: ClusterState,
    history: History,
    snapshot: Option<Arc<Snapshot>>,
    tip: watch::Sender<Tip>,
    progress: Progress<oneshot::Sender<Waited>>,
    /// What ends each session when it is dropped.
    sessions: BTreeMap<NodeName, oneshot::Sender<()>>,
    pending: BTreeMap<Ticket, (Option<NodeName>, Verdict)>,
    /// Proposals under way of each node.
    under_way: BTreeMap<NodeName, usize>,
    next_ticket: Ticket,
    log_bytes: usize,
    snapshot_bytes: usize,
    metrics: Arc<Metrics>,
    config: Config,
}

impl Leader {
    /// A leader of what was founded; and what sessions watch.
    pub fn new(
        founded: Founded,
        sequencer: Box<dyn Sequencer>,
        metrics: Arc<Metrics>,
        config: Config,
    ) -> (Self, watch::Receiver<Tip>) {
        let before = founded.replayed.first().map_or(founded.revision, |(first, _)| {
            Revision::new(first.generation(), first.index() - 1)
        });
        let mut history = History::new(before, bytes(config.history_size));
        for (revision, deltas) in founded.replayed {
            history.push(revision, deltas, None);
        }
        let newest = Tip { newest: history.newest(), floor: history.floor() };
        let (tip, watched) = watch::channel(newest);
        let leader = Self {
            sequencer,
            state: founded.state,
            history,
            snapshot: None,
            tip,
            progress: Progress::default(),
            sessions: BTreeMap::new(),
            pending: BTreeMap::new(),
            under_way: BTreeMap::new(),
            next_ticket: 0,
            log_bytes: founded.log_bytes,
            snapshot_bytes: 0,
            metrics,
            config,
        };
        leader.count();
        (leader, watched)
    }

    fn newest(&self) -> Revision {
        self.history.newest()
    }

    /// Queues a command. One that would change nothing needs no entry, unless something of the same
    /// speaker is under way that it may undo.
    fn propose(
        &mut self,
        speaker: Option<NodeName>,
        entry: EntryV1,
    ) -> oneshot::Receiver<Result<Revision, Failure>> {
        let (verdict, told) = oneshot::channel();
        let alone = speaker.as_ref().is_none_or(|node| !self.under_way.contains_key(node));
        if alone && !self.state.would_change(&entry.command) {
            drop(verdict.send(Ok(self.newest())));
            return told;
        }
        self.next_ticket += 1;
        if self.sequencer.propose(self.next_ticket, entry) {
            if let Some(node) = &speaker {
                *self.under_way.entry(node.clone()).or_default() += 1;
            }
            self.pending.insert(self.next_ticket, (speaker, verdict));
        } else {
            let message = "change the cluster: too much waits for the log; try again".to_owned();
            drop(verdict.send(Err(Failure { kind: FailureKind::TryAgain, message })));
        }
        told
    }

    fn resolve(&mut self, ticket: Ticket, outcome: Result<Revision, Failure>) {
        let Some((speaker, verdict)) = self.pending.remove(&ticket) else { return };
        if let Some(node) = speaker {
            match self.under_way.get_mut(&node) {
                Some(count) if *count > 1 => *count -= 1,
                _ => _ = self.under_way.remove(&node),
            }
        }
        // Whoever asked may be gone.
        drop(verdict.send(outcome));
    }

    fn apply(&mut self, committed: Committed) {
        let Committed { revision, ticket, size, entry } = committed;
        let Some(EntryV1 { trace: cause, command }) = entry else {
            // Agents are at a new revision, and that is nobody's doing.
            return self.history.push(revision, Vec::new(), None);
        };
        let span = trace::adopt(tracing::debug_span!("commit", %revision), cause);
        let _inside = span.enter();
        let deltas = self.state.apply(&command);
        self.ask_again(&deltas);
        tracing::info!(deltas = deltas.len(), "committed");
        // What agents do about it is this commit's doing.
        self.history.push(revision, deltas, trace::of(&span).or(cause));
        self.log_bytes += size;
        if let Some(ticket) = ticket {
            self.resolve(ticket, Ok(revision));
        }
    }

    /// What a node said before it was registered, or before its prefixes changed, was not taken: its
    /// session ends, so that its agent tells all of it again.
    fn ask_again(&mut self, deltas: &[Delta]) {
        for delta in deltas {
            if let Delta::NodeUpsert(Node { name, .. }) | Delta::NodeDelete(name) = delta {
                self.progress.expel(name);
                self.sessions.remove(name);
                self.progress.nodes_changed();
            }
        }
    }

    /// The cost of a snapshot is that of the entries it replaces.
    fn compact(&mut self) {
        if self.log_bytes < bytes(self.config.log_size).max(self.snapshot_bytes) {
            return;
        }
        match self.state.encode() {
            Ok(snapshot) => {
                self.snapshot_bytes = snapshot.len();
                self.sequencer.compact(self.newest(), snapshot);
            }
            Err(error) => tracing::error!("compact the log: {error}"),
        }
        self.log_bytes = 0;
    }

    fn settle(&mut self) {
        answer_all(self.progress.settle(self.state.nodes()));
        self.count();
    }

    fn count(&self) {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.revision.set(i64::try_from(self.newest().index()).unwrap_or(i64::MAX));
        self.metrics.generation.set(i64::from(self.newest().generation()));
        self.metrics.sessions.set(gauge(self.progress.sessions()));
        self.metrics.waiters.set(gauge(self.progress.waiters()));
    }

    /// The newest snapshot that can be gone on from; made when there is none.
    fn snapshot(&mut self) -> Option<Arc<Snapshot>> {
        let usable = self.snapshot.take().filter(|s| s.revision >= self.history.floor());
        let made = || Snapshot::new(self.newest(), self.state.snapshot()).map(Arc::new);
        match usable.map_or_else(made, Ok) {
            Ok(snapshot) => {
                self.snapshot = Some(Arc::clone(&snapshot));
                Some(snapshot)
            }
            Err(error) => {
                tracing::error!("make a snapshot: {error}");
                None
            }
        }
    }

    fn status(&self) -> Status {
        Status {
            version: weft_process::version::short(),
            revision: self.newest(),
            store: "file".to_owned(),
            nodes: self.state.nodes().keys().map(|node| self.progress.of(node)).collect(),
            identities: self.state.identities().len(),
            workloads: self.state.workloads().len(),
            endpoints: self.state.endpoints().len(),
            policies: self.state.policies().len(),
        }
    }
}

impl Actor for Leader {
    type Context = Context<Self>;
}

impl Handler<Prepare> for Leader {
    type Result = Result<Prepared, Failure>;

    fn handle(&mut self, change: Prepare, _: &mut Self::Context) -> Self::Result {
        let (put, remove) = self.state.effective(&change.put, &change.remove);
        self.state.check(&put, &remove).map_err(|conflict| Failure {
            kind: FailureKind::Invalid,
            message: conflict.to_string(),
        })?;
        let sets = self.state.unnumbered(&put, &remove);
        Ok(Prepared { put, remove, sets, revision: self.newest() })
    }
}

impl Handler<Propose> for Leader {
    type Result = ResponseFuture<Result<Revision, Failure>>;

    fn handle(&mut self, proposal: Propose, _: &mut Self::Context) -> Self::Result {
        Box::pin(verdict(self.propose(None, proposal.0)))
    }
}

impl Handler<Adopt> for Leader {
    type Result = ResponseFuture<Result<Revision, Failure>>;

    fn handle(&mut self, stored: Adopt, _: &mut Self::Context) -> Self::Result {
        let nothing = CommandV1::Desire { put: vec![], remove: vec![], identities: vec![] };
        let command = adoption(&self.state, stored.identities, stored.objects).unwrap_or(nothing);
        Box::pin(verdict(self.propose(None, EntryV1 { trace: None, command })))
    }
}

async fn verdict(told: oneshot::Receiver<Result<Revision, Failure>>) -> Result<Revision, Failure> {
    let stopping =
        Failure { kind: FailureKind::TryAgain, message: "the operator is stopping".to_owned() };
    told.await.unwrap_or(Err(stopping))
}

impl Handler<Applied> for Leader {
    type Result = ();

    fn handle(&mut self, applied: Applied, _: &mut Self::Context) {
        match applied.0 {
            Sequenced::Committed(entries) => {
                entries.into_iter().for_each(|entry| self.apply(entry));
                let (newest, floor) = (self.newest(), self.history.floor());
                self.tip.send_replace(Tip { newest, floor });
                self.compact();
                self.settle();
            }
            Sequenced::Refused(ticket, why) => {
                let kind = match why {
                    NotOrdered::Refused(_) => FailureKind::TryAgain,
                    NotOrdered::Unencodable(_) => FailureKind::Internal,
                };
                let message = format!("change the cluster: {why}");
                self.resolve(ticket, Err(Failure { kind, message }));
            }
            // A lone operator leads from before it serves to its end.
            Sequenced::Role(..) => {}
        }
    }
}

impl Handler<Look> for Leader {
    type Result = MessageResult<Look>;

    fn handle(&mut self, look: Look, _: &mut Self::Context) -> Self::Result {
        let state = &self.state;
        MessageResult(match look {
            Look::Status => Answer::Status(self.status()),
            Look::Objects => Answer::Objects(state.objects().collect()),
            Look::Identities => {
                let row = |(labels, number): (&weft_types::LabelSet, &weft_types::Identity)| {
                    let labels = labels.iter().map(|label| label.to_string()).collect();
                    IdentityRow { identity: number.0, labels }
                };
                Answer::Identities(state.identities().iter().map(row).collect())
            }
        })
    }
}

impl Handler<AwaitRevision> for Leader {
    type Result = Result<(), Failure>;

    fn handle(&mut self, wait: AwaitRevision, ctx: &mut Self::Context) -> Self::Result {
        let nodes = self.state.nodes();
        if let Some(node) = wait.node.as_ref().filter(|node| !nodes.contains_key(*node)) {
            let known: Vec<&str> = nodes.keys().map(|node| node.0.as_str()).collect();
            let message = format!("wait for node {node}: the cluster has {}", known.join(", "));
            return Err(Failure { kind: FailureKind::NotFound, message });
        }
        let revision = wait.revision.unwrap_or(self.newest());
        let waiter = self.progress.wait(revision, wait.node, wait.answer);
        self.settle();
        ctx.run_later(wait.timeout, move |leader, _| {
            answer_all(leader.progress.expire(waiter, leader.state.nodes()));
            leader.count();
        });
        Ok(())
    }
}

/// Whoever asked may be gone; then nobody needs the answer.
fn answer_all(answers: impl IntoIterator<Item = (oneshot::Sender<Waited>, Waited)>) {
    answers.into_iter().for_each(|(answer, waited)| drop(answer.send(waited)));
}

impl Handler<Join> for Leader {
    type Result = Result<Joined, String>;

    fn handle(&mut self, join: Join, _: &mut Self::Context) -> Self::Result {
        let revision = self.newest();
        let session = self
            .progress
            .join(&join.node, join.held, revision)
            .map_err(|refusal| refusal.to_string())?;
        tracing::info!(node = %join.node, held = ?join.held.map(|r| r.to_string()), "agent joined");
        let (end, over) = oneshot::channel();
        self.sessions.insert(join.node, end);
        self.settle();
        let cluster = self.state.cluster().to_owned();
        Ok(Joined { session, cluster, revision, held: join.held, over })
    }
}

impl Handler<Pull> for Leader {
    type Result = Option<Pulled>;

    fn handle(&mut self, pull: Pull, _: &mut Self::Context) -> Self::Result {
        if !self.progress.is_current(&pull.node, pull.session) {
            return None;
        }
        let next = match pull.sent.map_or(Next::Snapshot, |sent| self.history.after(sent)) {
            Next::Snapshot => return self.snapshot().map(Pulled::Snapshot),
            next => next,
        };
        if let Next::Push(frame, revision) = &next {
            let span = tracing::debug_span!("push", node = %pull.node, %revision);
            let span = trace::adopt(span, self.history.cause(*revision));
            span.in_scope(|| tracing::debug!(bytes = frame.len(), "pushed"));
        }
        Some(Pulled::Next(next))
    }
}

impl Handler<Heard> for Leader {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, heard: Heard, _: &mut Self::Context) -> Self::Result {
        let Heard { node, session, said } = heard;
        if !self.progress.is_current(&node, session) {
            return Box::pin(async { Ok(()) });
        }
        let (command, trace) = match said {
            Said::Holds(revision, trace) => {
                let span = tracing::debug_span!("acknowledge", %node, %revision);
                let span = trace::adopt(span, trace.or_else(|| self.history.cause(revision)));
                span.in_scope(|| tracing::debug!("the node's kernel holds it"));
                self.progress.acknowledge(&node, revision, self.newest());
                self.settle();
                return Box::pin(async { Ok(()) });
            }
            Said::Behind(revision, reason) => {
                tracing::warn!(%node, %revision, reason, "the node's kernel does not take it");
                self.progress.refuse(&node, revision, &reason);
                return Box::pin(async { Ok(()) });
            }
            Said::Left => {
                self.progress.leave(&node, session);
                self.sessions.remove(&node);
                self.count();
                return Box::pin(async { Ok(()) });
            }
            Said::Plugged { pod, address, trace } => {
                if !self.state.may_plug(&node, address) {
                    tracing::warn!(%node, %pod, %address,
                        "not taken: a node speaks only for addresses of its own prefixes");
                    return Box::pin(async { Ok(()) });
                }
                (CommandV1::Plug(node.clone(), pod, address), trace)
            }
            Said::Unplugged(address, trace) => (CommandV1::Unplug(node.clone(), address), trace),
            Said::Endpoints(addresses) => (CommandV1::EndpointsAre(node.clone(), addresses), None),
        };
        let told = self.propose(Some(node), EntryV1 { trace, command });
        Box::pin(async { verdict(told).await.map(drop) })
    }
}
