//! The leader: applies what is committed, publishes what that changes, counts who holds what.
//!
//! It is the only one who applies, and it never waits for a disk: proposals go to the [`Sequencer`]'s thread, questions to
//! the store's.

mod group;
mod invariants;
mod look;
mod sessions;

use crate::{
    elections::Elections,
    founding::Founded,
    history::{History, Pushes},
    leading::{Accepted, Leading, Order},
    messages::{
        Applied, Aside, AwaitRevision, CatchUp, Desire, Number, StoreTold, Trouble, Undone,
    },
    metrics::Metrics,
    progress::Progress,
    sequencer::{Committed, NotOrdered, Proposed, Sequenced, Sequencer, Ticket},
    versions::Versions,
};
use actix::prelude::{Actor, AsyncContext, Context, Handler, ResponseFuture};
use bytesize::ByteSize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{Span, field::Empty};
use weft_api::{
    Failure, FailureKind,
    operator::{Answer, IdentityState, Waited},
};
use weft_process::trace;
use weft_raft::{Refusal, Role, Term};
use weft_state::{
    ClusterState, EntryV1, Stamp,
    interests::{Interests, View},
    leadership::{self, Event},
};
use weft_types::{NodeName, Revision};

/// How often a leader looks whether the store has answered.
pub const TICK: Duration = Duration::from_millis(100);

/// Times at which members replace their logs by a snapshot, a quarter of its size apart.
const TURNS: u64 = 4;

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

/// The revision that has a word, if it needed one.
type Verdict = oneshot::Sender<Result<Option<Revision>, Failure>>;

/// What others watch of the leader's actor.
pub struct Watched {
    /// What is newest.
    pub tip: watch::Receiver<Tip>,
    /// When what is known of the agents here changed last.
    pub agents: watch::Receiver<u64>,
}

/// Who wants to read what was committed when it asked. One question to the group is under way; who comes meanwhile shares the next.
#[derive(Default)]
struct Readers {
    /// The question under way, and whom its answer is for.
    asked: Option<(Ticket, Vec<oneshot::Sender<()>>)>,
    waiting: Vec<oneshot::Sender<()>>,
}

/// Who waits for a proposal's end.
enum Pending {
    /// A node, for its word.
    Word(NodeName, Verdict),
    /// The leader's part in the store, for a change.
    Change(leadership::Ticket, Span),
    /// Whoever changes the group.
    Group(oneshot::Sender<Result<(), Undone>>),
}

/// An agent's session, as it is served.
struct Session {
    /// What it said last.
    said: Stamp,
    /// What its node was told.
    view: View,
    /// What it is told beside what it pulls.
    asides: mpsc::Sender<Aside>,
    /// What ends it when it is dropped.
    _end: oneshot::Sender<()>,
}

/// The leader.
pub struct Leader {
    sequencer: Box<dyn Sequencer>,
    leading: Leading,
    /// The term in which it led when it began, if it did.
    led: Option<Term>,
    state: ClusterState,
    interests: Interests,
    history: History,
    pushes: Pushes,
    tip: watch::Sender<Tip>,
    agents: watch::Sender<u64>,
    readers: Readers,
    progress: Progress<oneshot::Sender<Waited>>,
    elections: Elections,
    sessions: BTreeMap<NodeName, Session>,
    pending: BTreeMap<Ticket, Pending>,
    /// Words under way of each node.
    under_way: BTreeMap<NodeName, usize>,
    next_ticket: Ticket,
    log_bytes: usize,
    snapshot_bytes: usize,
    /// The group, as the member sees it.
    group: watch::Receiver<weft_raft::Status>,
    /// The newest version of the log that other members know, as they said when they connected.
    versions: Versions,
    metrics: Arc<Metrics>,
    config: Config,
    /// What kind it is: `file`, `etcd`.
    store: &'static str,
}

impl Leader {
    /// A leader of what was founded; and what sessions watch.
    pub fn new(
        founded: Founded,
        sequencer: Box<dyn Sequencer>,
        leading: Leading,
        group: watch::Receiver<weft_raft::Status>,
        (metrics, config, store): (Arc<Metrics>, Config, &'static str),
    ) -> (Self, Watched) {
        let before = founded.replayed.first().map_or(founded.revision, |(first, _)| {
            Revision::new(first.generation(), first.index() - 1)
        });
        let mut history = History::new(before, bytes(config.history_size));
        for (revision, changes) in founded.replayed {
            history.push(revision, changes, None);
        }
        let newest = Tip { newest: history.newest(), floor: history.floor() };
        let (tip, tips) = watch::channel(newest);
        let (agents, changes) = watch::channel(0);
        let member = group.borrow().member;
        let leader = Self {
            sequencer,
            leading,
            led: founded.led,
            state: founded.state,
            interests: founded.interests,
            history,
            pushes: Pushes::default(),
            tip,
            agents,
            readers: Readers::default(),
            progress: Progress::new(member),
            elections: Elections::new(member),
            sessions: BTreeMap::new(),
            pending: BTreeMap::new(),
            under_way: BTreeMap::new(),
            next_ticket: 0,
            log_bytes: founded.log_bytes,
            snapshot_bytes: 0,
            group,
            versions: Versions::default(),
            metrics,
            config,
            store,
        };
        leader.count();
        (leader, Watched { tip: tips, agents: changes })
    }

    fn newest(&self) -> Revision {
        self.history.newest()
    }

    /// Queues a command; false when there is no room.
    fn propose(&mut self, entry: EntryV1, only_in: Option<Term>, pending: Pending) -> bool {
        self.next_ticket += 1;
        let proposed = Proposed { ticket: self.next_ticket, entry, only_in };
        let queued = self.sequencer.propose(proposed);
        if queued {
            self.pending.insert(self.next_ticket, pending);
        }
        queued
    }

    fn resolve(&mut self, ticket: Ticket, outcome: Result<Revision, Undone>) {
        match self.pending.remove(&ticket) {
            Some(Pending::Word(node, verdict)) => {
                self.answer_word(&node, verdict, outcome.map(Some).map_err(Failure::from));
            }
            Some(Pending::Change(ticket, span)) => {
                if let Ok(revision) = &outcome {
                    span.record("revision", tracing::field::display(revision));
                }
                drop(span);
                self.lead(match outcome {
                    Ok(revision) => Event::Ordered(ticket, revision),
                    Err(_) => Event::Refused(ticket),
                });
            }
            Some(Pending::Group(answer)) => drop(answer.send(outcome.map(drop))),
            None => {}
        }
    }

    /// One step of its part in the store, and all that follows.
    fn lead(&mut self, event: Event) {
        let was_broken = self.leading.core().fault().is_some();
        let mut next = Some(event);
        while let Some(event) = next.take() {
            for order in self.leading.step(&self.state, self.newest(), event) {
                next = self.order(order).or(next);
            }
        }
        if self.leading.yields() {
            self.hand_over();
        }
        if !was_broken {
            self.look_at_store();
        }
    }

    /// Puts a change in order; the event that it cannot be.
    fn order(&mut self, order: Order) -> Option<Event> {
        let Order { ticket, fence, command, cause } = order;
        let span = tracing::debug_span!(parent: None, "propose", revision = Empty);
        let span = trace::adopt(span, cause);
        let entry = EntryV1 { trace: trace::of(&span).or(cause), command, fence: Some(fence) };
        let queued = self.propose(entry, Some(fence.term), Pending::Change(ticket, span));
        (!queued).then_some(Event::Refused(ticket))
    }

    fn apply(&mut self, committed: Committed) {
        let Committed { revision, ticket, size, entry } = committed;
        let Some(entry) = entry else {
            // Agents are at a new revision, and that is nobody's doing.
            self.history.push(revision, Vec::new(), None);
            if let Some(ticket) = ticket {
                self.resolve(ticket, Ok(revision));
            }
            return;
        };
        let cause = entry.trace;
        let span = trace::adopt(tracing::debug_span!("commit", %revision), cause);
        let inside = span.enter();
        self.look_at_entry(revision, &entry.command);
        let deltas = self.state.apply_entry(&entry);
        self.ask_again(&deltas);
        tracing::info!(deltas = deltas.len(), "committed");
        let changes = self.interests.take(deltas);
        // What agents do about it is this commit's doing.
        self.history.push(revision, changes, trace::of(&span).or(cause));
        drop(inside);
        self.log_bytes += size;
        if let Some(ticket) = ticket {
            self.resolve(ticket, Ok(revision));
        }
    }

    /// Asks the group what is committed, when nobody asks and somebody wants to know.
    fn read(&mut self) {
        let waiting = &mut self.readers.waiting;
        // Some gave up.
        waiting.retain(|reader| !reader.is_closed());
        if self.readers.asked.is_none() && !waiting.is_empty() {
            self.next_ticket += 1;
            // With a full queue, at the next tick.
            if self.sequencer.read(self.next_ticket) {
                self.readers.asked = Some((self.next_ticket, std::mem::take(waiting)));
            }
        }
    }

    /// A leader's snapshot takes the place of the state. Sessions begin anew: their agents tell all again.
    fn restore(&mut self, revision: Revision, state: ClusterState) {
        self.interests = Interests::new(state.snapshot());
        self.state = state;
        self.history = History::new(revision, bytes(self.config.history_size));
        self.log_bytes = 0;
        for node in std::mem::take(&mut self.sessions).into_keys() {
            self.progress.expel(&node, revision);
        }
        self.progress.nodes_changed();
    }

    /// The cost of a snapshot is that of the entries it replaces. Members write theirs at different times: who writes a large
    /// one answers nobody meanwhile, and a majority has to.
    fn compact_when_due(&mut self) {
        let size = bytes(self.config.log_size).max(self.snapshot_bytes);
        let member = self.group.borrow().member.0;
        let turn = usize::try_from(member.saturating_sub(1) % TURNS).unwrap_or_default();
        if self.log_bytes >= size.saturating_add(size / 4 * turn) {
            self.compact();
        }
    }

    fn compact(&mut self) {
        match self.state.encode() {
            Ok(snapshot) => {
                self.snapshot_bytes = snapshot.len();
                self.sequencer.compact(self.newest(), snapshot);
            }
            Err(error) => tracing::error!("compact the log: {error}"),
        }
        self.log_bytes = 0;
    }

    /// Everyone who watches is told.
    fn publish(&mut self) {
        let (newest, floor) = (self.newest(), self.history.floor());
        self.tip.send_replace(Tip { newest, floor });
        self.settle();
    }

    /// Answers when all nodes, or these, hold a revision, or the time is over.
    fn wait(
        &mut self,
        revision: Revision,
        nodes: Option<BTreeSet<NodeName>>,
        (timeout, answer): (Duration, oneshot::Sender<Waited>),
        ctx: &mut Context<Self>,
    ) {
        let waiter = self.progress.wait(revision, nodes, answer);
        self.settle();
        ctx.run_later(timeout, move |leader, _| {
            answer_all(leader.progress.expire(waiter, leader.state.nodes()));
            leader.count();
        });
    }

    fn settle(&mut self) {
        answer_all(self.progress.settle(self.state.nodes()));
        self.tell_of_agents();
        self.count();
    }

    fn count(&self) {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.revision.set(i64::try_from(self.newest().index()).unwrap_or(i64::MAX));
        self.metrics.generation.set(i64::from(self.newest().generation()));
        self.metrics.sessions.set(gauge(self.sessions.len()));
        self.metrics.waiters.set(gauge(self.progress.waiters()));
    }

    /// What its group is, for whoever watches.
    fn count_group(&self) {
        let group = self.group.borrow();
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        if self.metrics.term.set(number(group.term)) != number(group.term) {
            self.metrics.terms.inc();
        }
        self.metrics.leads.set(i64::from(group.role == Role::Leader));
        self.metrics.serves.set(i64::from(self.leading.is_serving()));
        self.metrics.committed.set(number(group.committed));
        let references = self.state.references();
        let (unused, retiring) = (references.idle().len(), references.retiring().len());
        let used = self.state.identities().len().saturating_sub(unused + retiring);
        self.metrics.identities([
            (IdentityState::Used, used),
            (IdentityState::Unused, unused),
            (IdentityState::Retiring, retiring),
        ]);
    }
}

impl Actor for Leader {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(term) = self.led {
            self.lead(Event::Led(term));
        }
        ctx.run_interval(TICK, |leader, _| {
            leader.know_members();
            for (node, seen) in leader.progress.news() {
                leader.lead(Event::Node(node, seen));
            }
            let everywhere = leader.group.borrow().everywhere();
            let known = leader.known_by_all();
            leader.lead(Event::Tick { everywhere, known });
            leader.read();
            leader.count_group();
        });
    }
}

impl Handler<Desire> for Leader {
    type Result = ResponseFuture<Result<Answer, Undone>>;

    fn handle(&mut self, desire: Desire, _: &mut Self::Context) -> Self::Result {
        let (event, answer) = self.leading.ask(&self.state, desire.change, desire.cause);
        self.lead(event);
        Box::pin(async {
            let accepted = answer.await.map_err(|_| stopping())??;
            Ok(Answer::Accepted { revision: accepted.revision, changed: accepted.changed })
        })
    }
}

impl Handler<Number> for Leader {
    type Result = ResponseFuture<Result<Answer, Undone>>;

    fn handle(&mut self, Number { labels, cause }: Number, _: &mut Self::Context) -> Self::Result {
        let (event, answer) = self.leading.number(labels, cause);
        self.lead(event);
        Box::pin(async {
            let Accepted { revision, number, .. } = answer.await.map_err(|_| stopping())??;
            let identity = number.ok_or_else(|| Failure {
                kind: FailureKind::TryAgain,
                message: "give a label set a number: it has none any more; try again".to_owned(),
            })?;
            Ok(Answer::Number { identity: identity.0, revision })
        })
    }
}

impl Handler<StoreTold> for Leader {
    type Result = ();

    fn handle(&mut self, StoreTold(told): StoreTold, _: &mut Self::Context) {
        let event = self.leading.hear(told);
        self.lead(event);
    }
}

impl Handler<Trouble> for Leader {
    type Result = Option<String>;

    fn handle(&mut self, _: Trouble, _: &mut Self::Context) -> Self::Result {
        self.leading.trouble()
    }
}

fn stopping() -> Failure {
    Failure { kind: FailureKind::TryAgain, message: "the operator is stopping".to_owned() }
}

impl From<Undone> for Failure {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::NotLeading => {
                let message = "change the cluster: no operator leads now; try again".to_owned();
                Self { kind: FailureKind::TryAgain, message }
            }
            Undone::Failed(failure) => failure,
        }
    }
}

impl Handler<Applied> for Leader {
    type Result = ();

    fn handle(&mut self, applied: Applied, _: &mut Self::Context) {
        if let Sequenced::Role(role, term) = &applied.0 {
            self.look_at_role(*role, *term);
        }
        match applied.0 {
            Sequenced::Committed(entries) => {
                entries.into_iter().for_each(|entry| self.apply(entry));
                self.compact_when_due();
                self.publish();
            }
            Sequenced::Restored(revision, state) => {
                self.restore(revision, *state);
                self.publish();
            }
            Sequenced::SnapshotWanted => self.compact(),
            Sequenced::Readable(ticket) => {
                let asked = self.readers.asked.take_if(|(asked, _)| *asked == ticket);
                let readers = asked.into_iter().flat_map(|(_, readers)| readers);
                // Whoever asked may be gone.
                readers.for_each(|reader| _ = reader.send(()));
                self.read();
            }
            Sequenced::Refused(ticket, why) => {
                let what = match self.pending.get(&ticket) {
                    Some(Pending::Group(_)) => "change the operators' group",
                    _ => "change the cluster",
                };
                let failed = |kind| Failure { kind, message: format!("{what}: {why}") }.into();
                let undone = match &why {
                    NotOrdered::Refused(Refusal::NoLeader | Refusal::NotLeading) => {
                        Undone::NotLeading
                    }
                    NotOrdered::Refused(_) => failed(FailureKind::TryAgain),
                    NotOrdered::Unencodable(_) => failed(FailureKind::Internal),
                };
                self.resolve(ticket, Err(undone));
            }
            Sequenced::Role(Role::Leader, term) => self.lead(Event::Led(term)),
            Sequenced::Role(Role::Elected, _) => {}
            Sequenced::Role(Role::Follower(_) | Role::Candidate, _) => self.lead(Event::Deposed),
        }
    }
}

impl Handler<CatchUp> for Leader {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, _: CatchUp, _: &mut Self::Context) -> Self::Result {
        let (reader, may_read) = oneshot::channel();
        self.readers.waiting.push(reader);
        self.read();
        Box::pin(async { may_read.await.map_err(|_| stopping()) })
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
        let nodes = wait.node.map(|node| BTreeSet::from([node]));
        self.wait(revision, nodes, (wait.timeout, wait.answer), ctx);
        Ok(())
    }
}

/// Whoever asked may be gone; then nobody needs the answer.
fn answer_all(answers: impl IntoIterator<Item = (oneshot::Sender<Waited>, Waited)>) {
    answers.into_iter().for_each(|(answer, waited)| drop(answer.send(waited)));
}
