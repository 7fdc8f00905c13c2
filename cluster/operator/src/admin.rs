//! The admin socket.

use crate::{
    leader::Leader,
    messages::{AwaitRevision, ChangeGroup, Desire, Look, Transfer, Trouble},
};
use actix::{Addr, MailboxError};
use std::time::Duration;
use tokio::{sync::oneshot, time::timeout};
use tracing::{Instrument, Span, debug_span};
use weft_api::{
    Call, Failure, FailureKind,
    operator::{Answer, MemberChange, Request, peer_place},
};
use weft_process::trace;
use weft_raft::{Change, MemberId};
use weft_state::leadership;
use weft_types::NodeName;

/// What is left of a caller's time for the answer's way.
const WAY: Duration = Duration::from_millis(200);

/// Answers requests.
#[derive(Clone)]
pub struct Admin {
    /// Who knows, and does.
    pub leader: Addr<Leader>,
}

impl Admin {
    /// Answers one request.
    pub async fn answer(self, call: Call<Request>) -> Result<Answer, Failure> {
        let span = trace::adopt(span(&call.request), call.traceparent);
        // A caller that says nothing of its time has as much as the store takes.
        let patience = call.deadline_ms.map(Duration::from_millis);
        let patience = patience.map(|all| all.saturating_sub(WAY.min(all / 2)));
        let cause = trace::of(&span).or(call.traceparent);
        async move {
            match call.request {
                Request::Apply { objects: put } => {
                    let change = leadership::Change { put, remove: Vec::new() };
                    self.desire(Desire { change, cause }, patience).await
                }
                Request::Delete { objects: remove } => {
                    let change = leadership::Change { put: Vec::new(), remove };
                    self.desire(Desire { change, cause }, patience).await
                }
                Request::Status => self.look(Look::Status).await,
                Request::Identities => self.look(Look::Identities).await,
                Request::Objects => self.look(Look::Objects).await,
                Request::Cluster => self.look(Look::Cluster).await,
                Request::Member(change) => self.change(change, patience).await,
                Request::Transfer { to } => {
                    self.leader.send(Transfer(to.map(MemberId))).await.map_err(gone)?
                }
                Request::Wait { revision, timeout_ms, node } => {
                    let (answer, waited) = oneshot::channel();
                    let timeout = Duration::from_millis(timeout_ms);
                    let node = node.map(NodeName);
                    let wait = AwaitRevision { revision, node, timeout, answer };
                    self.leader.send(wait).await.map_err(gone)??;
                    waited.await.map(Answer::Waited).map_err(|_| stopping())
                }
            }
        }
        .instrument(span)
        .await
    }

    async fn look(&self, look: Look) -> Result<Answer, Failure> {
        self.leader.send(look).await.map_err(gone)
    }

    async fn desire(&self, desire: Desire, patience: Option<Duration>) -> Result<Answer, Failure> {
        let done = self.leader.send(desire);
        let answer = match patience {
            Some(patience) => match timeout(patience, done).await {
                Ok(answer) => answer,
                Err(_) => return Err(self.late().await),
            },
            None => done.await,
        }
        .map_err(gone)??;
        if let Answer::Accepted { revision, changed } = &answer {
            tracing::info!(%revision, changed, "accepted");
        }
        Ok(answer)
    }

    async fn change(
        &self,
        change: MemberChange,
        patience: Option<Duration>,
    ) -> Result<Answer, Failure> {
        let change = match change {
            MemberChange::Add { member, address } => {
                let place = peer_place(&address).map_err(|why| Failure {
                    kind: FailureKind::Invalid,
                    message: format!("add member {member}: {why}"),
                })?;
                Change::AddLearner(MemberId(member), place)
            }
            MemberChange::Promote { member } => Change::Promote(MemberId(member)),
            MemberChange::Remove { member } => Change::Remove(MemberId(member)),
        };
        let done = self.leader.send(ChangeGroup(change));
        let late = || {
            Failure {
            kind: FailureKind::TryAgain,
            message: "change the operators' group: most of its voters do not answer; it may still be done".to_owned(),
        }
        };
        match patience {
            Some(patience) => timeout(patience, done).await.map_err(|_| late())?.map_err(gone)?,
            None => done.await.map_err(gone)?,
        }
    }

    /// Why nothing was answered in time.
    async fn late(&self) -> Failure {
        let why = self.leader.send(Trouble).await.ok().flatten();
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let message = format!(
            "change the cluster: it was not done in time{why}; it may still be done, and asking again does no harm"
        );
        Failure { kind: FailureKind::TryAgain, message }
    }
}

/// What is asked, as a span: a change is worth a line, a look is not.
fn span(request: &Request) -> Span {
    let request_name = request.name();
    match request {
        Request::Apply { objects } | Request::Delete { objects } => {
            tracing::info_span!("admin", request = request_name, objects = objects.len())
        }
        Request::Wait { revision, .. } => {
            let revision = revision.map(tracing::field::display);
            debug_span!("admin", request = request_name, revision)
        }
        Request::Member(_) | Request::Transfer { .. } => {
            tracing::info_span!("admin", request = request_name)
        }
        Request::Status | Request::Identities | Request::Objects | Request::Cluster => {
            debug_span!("admin", request = request_name)
        }
    }
}

fn gone(_: MailboxError) -> Failure {
    stopping()
}

fn stopping() -> Failure {
    Failure { kind: FailureKind::TryAgain, message: "the operator is stopping".to_owned() }
}
