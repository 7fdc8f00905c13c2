//! Agents' sessions, as the leader serves them: who joins, what each is sent, what each says.

use super::{Leader, Pending, Session, Verdict};
use crate::{
    history::{Next, Run, Snapshot},
    messages::{
        Aside, AwaitSpread, Heard, Join, Joined, OthersAgents, OwnAgents, Pull, Pulled, Said,
    },
    progress::{NotJoined, Rows},
    session::ASKED_MAX,
};
use actix::{
    Addr, AsyncContext,
    prelude::{Handler, MessageResult, ResponseFuture},
    spawn,
};
use std::{net::Ipv4Addr, time::Duration};
use tokio::sync::{mpsc, oneshot};
use weft_api::{Failure, FailureKind};
use weft_process::trace;
use weft_state::{CommandV1, EntryV1, Stamp, Word};
use weft_types::{Delta, Identity, Node, NodeName, PodEndpoint, Revision};
use weft_wire::ToAgent;

/// What a session may be told beside what it pulls, before it has said what came before.
const ASIDES: usize = 64;
/// How long nodes have to take a new address; its agent waits a little longer ([`weft_wire::SPREAD_MAX`]).
const SPREAD: Duration = Duration::from_millis(80);

impl Leader {
    /// Other operators are told what is known of the agents here.
    pub(super) fn tell_of_agents(&self) {
        let last = self.progress.last_change();
        self.agents.send_if_modified(|told| std::mem::replace(told, last) != last);
    }

    /// Queues what a node says. What would change nothing needs no entry, unless something that it said before is under way
    /// that it may undo.
    fn take_word(
        &mut self,
        node: NodeName,
        entry: EntryV1,
    ) -> oneshot::Receiver<Result<Option<Revision>, Failure>> {
        let (verdict, told) = oneshot::channel();
        if !self.under_way.contains_key(&node) && !self.state.would_change(&entry.command) {
            drop(verdict.send(Ok(None)));
            return told;
        }
        *self.under_way.entry(node.clone()).or_default() += 1;
        // Without room the verdict is dropped, which is an answer too.
        if !self.propose(entry, None, Pending::Word(node.clone(), verdict)) {
            self.word_ended(&node);
        }
        told
    }

    /// What comes next of a node.
    fn stamp(&mut self, node: &NodeName) -> Stamp {
        let Some(session) = self.sessions.get_mut(node) else { return Stamp::default() };
        session.said.sequence += 1;
        session.said
    }

    pub(super) fn answer_word(
        &mut self,
        node: &NodeName,
        verdict: Verdict,
        outcome: Result<Option<Revision>, Failure>,
    ) {
        self.word_ended(node);
        // Whoever asked may be gone.
        drop(verdict.send(outcome));
    }

    fn word_ended(&mut self, node: &NodeName) {
        match self.under_way.get_mut(node) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = self.under_way.remove(node),
        }
    }

    /// What a node said before it was registered, or before its prefixes changed, was not taken: its
    /// session ends, so that its agent tells all of it again.
    pub(super) fn ask_again(&mut self, deltas: &[Delta]) {
        for delta in deltas {
            if let Delta::NodeUpsert(Node { name, .. }) | Delta::NodeDelete(name) = delta {
                self.progress.expel(name, self.history.newest());
                self.sessions.remove(name);
                self.progress.nodes_changed();
            }
        }
    }

    /// What comes next for a session that was sent a revision; nothing when it is over.
    fn next(&mut self, node: &NodeName, sent: Option<Revision>) -> Option<Pulled> {
        let Session { view, .. } = self.sessions.get_mut(node)?;
        let newest = self.history.newest();
        let run = match sent.map_or(Next::Snapshot, |sent| self.history.after(sent)) {
            Next::Run(run) => Some(run),
            // It may want to know more than it did.
            Next::Nothing => Some(Run { revision: newest, ..Run::default() }),
            Next::Snapshot => None,
        };
        if let Some(Run { revision, changes, trace: cause }) = run {
            let deltas = view.advance(&*changes, &self.state, &self.interests);
            if deltas.is_empty() && sent == Some(revision) {
                return Some(Pulled::Nothing);
            }
            let span = trace::adopt(tracing::debug_span!("push", %node, %revision), cause);
            if let Some(frame) = self.pushes.frame(revision, deltas, cause) {
                span.in_scope(|| tracing::debug!(bytes = frame.len(), "pushed"));
                return Some(Pulled::Push(frame, revision));
            }
        }
        let whole = view.whole(&self.state, &self.interests);
        match Snapshot::new(newest, whole.into_iter()) {
            Ok(snapshot) => Some(Pulled::Snapshot(snapshot)),
            Err(error) => {
                tracing::error!("make a snapshot: {error}");
                None
            }
        }
    }
}

/// A new address, of which its node is told when those that have to know it do.
struct Spread {
    leader: Addr<Leader>,
    to: mpsc::Sender<Aside>,
    address: Ipv4Addr,
    identity: Identity,
}

impl Spread {
    async fn tell(self, node: NodeName, revision: Revision) {
        let (answer, waited) = oneshot::channel();
        let Self { leader, to, address, identity } = self;
        let wait = AwaitSpread { revision, identity, node, timeout: SPREAD, answer };
        let Ok(mut behind) = leader.send(wait).await else { return };
        if let Ok(waited) = waited.await {
            behind.extend(waited.behind.into_iter().map(|node| NodeName(node.node)));
            // Without room its agent waits no longer than it would have.
            drop(to.try_send(Aside::Tell(ToAgent::Spread { address, behind })));
        }
    }
}

impl Handler<AwaitSpread> for Leader {
    type Result = MessageResult<AwaitSpread>;

    fn handle(&mut self, wait: AwaitSpread, ctx: &mut Self::Context) -> Self::Result {
        let AwaitSpread { revision, identity, node, timeout, answer } = wait;
        let others = self.interests.nodes_that_know(identity).into_iter();
        let others = others.filter(|other| *other != node);
        let (there, away) = self.progress.apart(others);
        self.wait(revision, Some(there), (timeout, answer), ctx);
        MessageResult(away)
    }
}

fn no_room() -> Failure {
    let message = "change the cluster: too much waits for the log; try again".to_owned();
    Failure { kind: FailureKind::TryAgain, message }
}

impl Handler<Join> for Leader {
    type Result = Result<Joined, NotJoined>;

    fn handle(&mut self, join: Join, _: &mut Self::Context) -> Self::Result {
        let (revision, before) = (self.newest(), self.progress.held(&join.node));
        let joined = match join.from.filter(|from| *from > revision) {
            Some(held) => Err(NotJoined::Ahead { node: join.node.clone(), held, newest: revision }),
            None => self.progress.join(&join.node, join.session, join.held, revision),
        };
        let joined = joined.map_err(|why| match why {
            NotJoined::Ahead { held, newest, .. }
                if self.group.borrow().group.members.len() > 1 =>
            {
                NotJoined::NotYet { held, newest }
            }
            why => why,
        });
        joined.inspect_err(|why| self.look_at_refused(why))?;
        if let Some(held) = join.held {
            self.look_at_held(&join.node, before, held);
        }
        tracing::info!(node = %join.node, held = ?join.held.map(|r| r.to_string()), "agent joined");
        let (end, over) = oneshot::channel();
        let said = Stamp { session: join.session.0, sequence: 0 };
        let (told, asides) = mpsc::channel(ASIDES);
        let session = Session { said, view: join.view, asides: told, _end: end };
        self.sessions.insert(join.node, session);
        self.settle();
        let cluster = self.state.cluster().to_owned();
        Ok(Joined { cluster, revision, asides, over })
    }
}

impl Handler<Pull> for Leader {
    type Result = Option<Pulled>;

    fn handle(&mut self, pull: Pull, _: &mut Self::Context) -> Self::Result {
        if !self.progress.is_current(&pull.node, pull.session) {
            return None;
        }
        self.next(&pull.node, pull.sent)
    }
}

impl Handler<Heard> for Leader {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, heard: Heard, ctx: &mut Self::Context) -> Self::Result {
        let Heard { node, session, said } = heard;
        if !self.progress.is_current(&node, session) {
            return Box::pin(async { Ok(()) });
        }
        let mut spread = None;
        let (word, trace) = match said {
            Said::Holds(revision, trace) => {
                let span = tracing::debug_span!("acknowledge", %node, %revision);
                let span = trace::adopt(span, trace.or_else(|| self.history.cause(revision)));
                span.in_scope(|| tracing::debug!("the node's kernel holds it"));
                self.look_at_held(&node, self.progress.held(&node), revision);
                self.progress.acknowledge(&node, revision, self.newest());
                self.settle();
                return Box::pin(async { Ok(()) });
            }
            Said::Behind(revision, reason) => {
                tracing::warn!(%node, %revision, reason, "the node's kernel does not take it");
                self.progress.refuse(&node, revision, &reason);
                self.tell_of_agents();
                return Box::pin(async { Ok(()) });
            }
            Said::Who(addresses) => {
                if let Some(Session { view, asides, .. }) = self.sessions.get_mut(&node)
                    && view.ask(addresses, ASKED_MAX)
                {
                    // Where much waits for it, it looks anyhow.
                    drop(asides.try_send(Aside::Pull));
                }
                return Box::pin(async { Ok(()) });
            }
            Said::Left => {
                self.progress.leave(&node, session, self.newest());
                self.sessions.remove(&node);
                self.tell_of_agents();
                self.count();
                return Box::pin(async { Ok(()) });
            }
            Said::Plugged(PodEndpoint { name: pod, address, identity, .. }, trace) => {
                if !self.state.may_plug(&node, address) {
                    tracing::warn!(%node, %pod, %address,
                        "not taken: a node speaks only for addresses of its own prefixes");
                    return Box::pin(async { Ok(()) });
                }
                let session = self.sessions.get(&node).map(|session| session.asides.clone());
                spread = session.map(|to| Spread { leader: ctx.address(), to, address, identity });
                (Word::Plug { pod, address, identity }, trace)
            }
            Said::Unplugged(address, trace) => (Word::Unplug(address), trace),
            Said::Endpoints(endpoints) => (Word::Are(endpoints), None),
        };
        let stamp = self.stamp(&node);
        let command = CommandV1::Said(node.clone(), stamp, word);
        let told = self.take_word(node.clone(), EntryV1 { trace, command, fence: None });
        Box::pin(async {
            let revision = told.await.unwrap_or_else(|_| Err(no_room()))?;
            if let Some((spread, revision)) = spread.zip(revision) {
                // Whoever says more does not wait for it.
                spawn(spread.tell(node, revision));
            }
            Ok(())
        })
    }
}

impl Handler<OwnAgents> for Leader {
    type Result = MessageResult<OwnAgents>;

    fn handle(&mut self, OwnAgents { since }: OwnAgents, _: &mut Self::Context) -> Self::Result {
        let told: (Rows, u64) = self.progress.since(since);
        MessageResult(told)
    }
}

impl Handler<OthersAgents> for Leader {
    type Result = ();

    fn handle(&mut self, told: OthersAgents, _: &mut Self::Context) -> Self::Result {
        for node in self.progress.hear(told.member, told.rows) {
            self.sessions.remove(&node);
        }
        self.settle();
    }
}
