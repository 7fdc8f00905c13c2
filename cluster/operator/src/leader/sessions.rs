//! Agents' sessions, as the leader serves them: who joins, what each is sent, what each says.

use super::{Leader, Pending, Session, Verdict};
use crate::{
    history::{Next, Run, Snapshot, push},
    messages::{Heard, Join, Joined, OthersAgents, OwnAgents, Pull, Pulled, Said},
    progress::{NotJoined, Rows},
    session::ASKED_MAX,
};
use actix::prelude::{Handler, MessageResult, ResponseFuture};
use tokio::sync::oneshot;
use weft_api::{Failure, FailureKind};
use weft_process::trace;
use weft_state::{CommandV1, EntryV1, Stamp, Word};
use weft_types::{Delta, Node, NodeName, PodEndpoint, Revision};

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
    ) -> oneshot::Receiver<Result<Revision, Failure>> {
        let (verdict, told) = oneshot::channel();
        if !self.under_way.contains_key(&node) && !self.state.would_change(&entry.command) {
            drop(verdict.send(Ok(self.newest())));
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
        outcome: Result<Revision, Failure>,
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
        let run = match sent.map_or(Next::Snapshot, |sent| self.history.after(sent)) {
            Next::Run(run) => Some(run),
            // It may want to know more than it did.
            Next::Nothing => match view.advance(&[], &self.state, &self.interests) {
                deltas if deltas.is_empty() => return Some(Pulled::Nothing),
                deltas => {
                    let newest = self.history.newest();
                    return push(newest, deltas, None).map(|frame| Pulled::Push(frame, newest));
                }
            },
            Next::Snapshot => None,
        };
        let pushed = run.and_then(|Run { revision, changes, trace: cause }| {
            let span = tracing::debug_span!("push", %node, %revision);
            let span = trace::adopt(span, cause);
            let deltas = view.advance(&*changes, &self.state, &self.interests);
            let frame = push(revision, deltas, cause)?;
            span.in_scope(|| tracing::debug!(bytes = frame.len(), "pushed"));
            Some(Pulled::Push(frame, revision))
        });
        pushed.or_else(|| {
            let whole = view.whole(&self.state, &self.interests);
            match Snapshot::new(self.history.newest(), whole.into_iter()) {
                Ok(snapshot) => Some(Pulled::Snapshot(snapshot)),
                Err(error) => {
                    tracing::error!("make a snapshot: {error}");
                    None
                }
            }
        })
    }
}

fn no_room() -> Failure {
    let message = "change the cluster: too much waits for the log; try again".to_owned();
    Failure { kind: FailureKind::TryAgain, message }
}

impl Handler<Join> for Leader {
    type Result = Result<Joined, NotJoined>;

    fn handle(&mut self, join: Join, _: &mut Self::Context) -> Self::Result {
        let revision = self.newest();
        let joined = match join.from.filter(|from| *from > revision) {
            Some(held) => Err(NotJoined::Ahead { node: join.node.clone(), held, newest: revision }),
            None => self.progress.join(&join.node, join.session, join.held, revision),
        };
        joined.map_err(|why| match why {
            NotJoined::Ahead { held, newest, .. }
                if self.group.borrow().group.members.len() > 1 =>
            {
                NotJoined::NotYet { held, newest }
            }
            why => why,
        })?;
        tracing::info!(node = %join.node, held = ?join.held.map(|r| r.to_string()), "agent joined");
        let (end, over) = oneshot::channel();
        let said = Stamp { session: join.session.0, sequence: 0 };
        self.sessions.insert(join.node, Session { said, view: join.view, _end: end });
        self.settle();
        let cluster = self.state.cluster().to_owned();
        Ok(Joined { cluster, revision, over })
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

    fn handle(&mut self, heard: Heard, _: &mut Self::Context) -> Self::Result {
        let Heard { node, session, said } = heard;
        if !self.progress.is_current(&node, session) {
            return Box::pin(async { Ok(()) });
        }
        let (word, trace) = match said {
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
                self.tell_of_agents();
                return Box::pin(async { Ok(()) });
            }
            Said::Who(addresses) => {
                if let Some(Session { view, .. }) = self.sessions.get_mut(&node)
                    && view.ask(addresses, ASKED_MAX)
                {
                    // It is looked at again, though nothing is newer.
                    self.tip.send_modify(|_| {});
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
                (Word::Plug { pod, address, identity }, trace)
            }
            Said::Unplugged(address, trace) => (Word::Unplug(address), trace),
            Said::Endpoints(endpoints) => (Word::Are(endpoints), None),
        };
        let stamp = self.stamp(&node);
        let command = CommandV1::Said(node.clone(), stamp, word);
        let told = self.take_word(node, EntryV1 { trace, command });
        Box::pin(async { told.await.unwrap_or_else(|_| Err(no_room())).map(drop) })
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
