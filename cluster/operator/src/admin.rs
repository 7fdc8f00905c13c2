//! The admin socket.

use crate::{
    keeper::Looks,
    leader::Leader,
    messages::{
        AwaitRevision, CatchUp, ChangeGroup, Desire, Look, Number, Transfer, Trouble, Undone,
    },
    peers::{Asked, Peers},
};
use actix::{Addr, MailboxError};
use std::{
    future::Future,
    time::{Duration, Instant},
};
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};
use tracing::{Instrument, Span, debug_span};
use weft_api::{
    Call, Failure, FailureKind, Reply,
    operator::{Answer, MemberChange, Request, peer_place},
};
use weft_process::trace;
use weft_raft::{Change, MemberId, Status};
use weft_state::leadership;
use weft_types::{NodeName, TraceContext};

/// What is left of a caller's time for the answer's way.
const WAY: Duration = Duration::from_millis(200);
/// How long whoever says nothing of its time waits for somebody to lead, and for the word of most operators.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is said of a change of which nobody knows what became.
const UNKNOWN: &str =
    "it may still be done; asking again does no harm unless somebody changed the same meanwhile";
/// How long one that was deposed has to say so.
const LAST_WORD: Duration = Duration::from_millis(500);
/// How often it is looked who leads.
const LOOK: Duration = Duration::from_millis(100);

/// Answers requests: what the leader alone does is the leader's to answer, wherever it is asked.
#[derive(Clone)]
pub struct Admin {
    /// Who knows, and does.
    pub leader: Addr<Leader>,
    /// Who leads.
    pub group: watch::Receiver<Status>,
    /// By whom others are asked.
    pub peers: Peers,
    /// How the store is.
    pub store: Looks,
}

impl Admin {
    /// Answers one request.
    pub async fn answer(self, call: Call<Request>) -> Result<Answer, Failure> {
        let span = trace::adopt(span(&call), call.traceparent);
        let cause = trace::of(&span).or(call.traceparent);
        let call = Call { traceparent: cause, ..call };
        async move {
            if call.request.is_look() { self.show(call).await } else { self.find(call).await }
        }
        .instrument(span)
        .await
    }

    /// Answers what another operator passed on; nothing when that is the leader's and this one does not lead.
    pub async fn answer_here(&self, call: Call<Request>) -> Option<Reply<Answer>> {
        let span = trace::adopt(span(&call), call.traceparent);
        let cause = trace::of(&span).or(call.traceparent);
        if call.request.is_look() {
            let call = Call { traceparent: cause, ..call };
            return Some(self.show(call).instrument(span).await.into());
        }
        let patience = patience(&call);
        match self.lead(call.request, cause, patience).instrument(span).await {
            Ok(answer) => Some(Reply::Ok(answer)),
            Err(Undone::Failed(failure)) => Some(Reply::Error(failure)),
            Err(Undone::NotLeading) => None,
        }
    }

    /// Has the leader do it, whoever that is: as long as nothing was begun, by whoever leads next.
    async fn find(&self, call: Call<Request>) -> Result<Answer, Failure> {
        let patience = patience(&call);
        let until = Instant::now() + patience.unwrap_or(PATIENCE);
        let mut group = self.group.clone();
        loop {
            let left = patience.map(|_| until.saturating_duration_since(Instant::now()));
            let leader = group.borrow_and_update().leader;
            let here = group.borrow().member;
            let done = match leader {
                Some(leader) if leader != here => self.pass_to_leader(leader, &call, left).await,
                _ => self.lead(call.request.clone(), call.traceparent, left).await,
            };
            match done {
                Ok(answer) => return Ok(answer),
                Err(Undone::Failed(failure)) => return Err(failure),
                Err(Undone::NotLeading) if Instant::now() >= until => {
                    return Err(Undone::NotLeading.into());
                }
                // Somebody will be elected.
                Err(Undone::NotLeading) => drop(timeout(LOOK, group.changed()).await),
            }
        }
    }

    /// Has a leader do it, as long as it leads: one that stands still may never say that it does not any more.
    async fn pass_to_leader(
        &self,
        leader: MemberId,
        call: &Call<Request>,
        left: Option<Duration>,
    ) -> Result<Answer, Undone> {
        let mut group = self.group.clone();
        let another_leads = async {
            let another = |status: &Status| status.leader.is_some_and(|other| other != leader);
            if group.wait_for(another).await.is_err() {
                // This operator ends, and all that it asks with it.
                std::future::pending::<()>().await;
            }
            // Whoever was deposed says what became of what it had begun.
            sleep(LAST_WORD).await;
        };
        tokio::select! {
            done = self.pass_on(leader, call, left) => done,
            () = another_leads => Err(unheard(&call.request, leader).into()),
        }
    }

    /// Has another member answer.
    async fn pass_on(
        &self,
        member: MemberId,
        call: &Call<Request>,
        left: Option<Duration>,
    ) -> Result<Answer, Undone> {
        let deadline_ms = left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        let Call { version, traceparent, caller, ref request, .. } = *call;
        let passed = Call { version, traceparent, caller, deadline_ms, request };
        let json = serde_json::to_vec(&passed).map_err(|error| {
            let message = format!("{}, asked of member {member}: {error}", call.request.name());
            failure(FailureKind::Internal, message)
        })?;
        let asked = self.peers.ask(member, json);
        let asked = match left {
            Some(left) => timeout(left, asked).await.unwrap_or(Asked::Lost),
            None => asked.await,
        };
        match asked {
            Asked::Answered(reply) => match *reply {
                Reply::Ok(answer) => Ok(answer),
                Reply::Error(failure) => Err(failure.into()),
                Reply::End => Err(Undone::NotLeading),
            },
            Asked::Nothing => Err(Undone::NotLeading),
            Asked::Lost => Err(unheard(&call.request, member).into()),
        }
    }

    /// Does what a leader does, as long as this operator is one.
    async fn lead(
        &self,
        request: Request,
        cause: Option<TraceContext>,
        patience: Option<Duration>,
    ) -> Result<Answer, Undone> {
        match request {
            Request::Apply { objects: put } => {
                let change = leadership::Change { put, remove: Vec::new() };
                self.desire(Desire { change, cause }, patience).await
            }
            Request::Delete { objects: remove } => {
                let change = leadership::Change { put: Vec::new(), remove };
                self.desire(Desire { change, cause }, patience).await
            }
            Request::Number { labels } => {
                let labels = labels.into_iter().collect();
                self.in_time(self.leader.send(Number { labels, cause }), patience).await
            }
            Request::Member(change) => self.change(change, patience).await,
            Request::Transfer { to } => {
                self.leader.send(Transfer(to.map(MemberId))).await.map_err(gone)?
            }
            other => {
                let message = format!("{} is not the leader's to answer", other.name());
                Err(failure(FailureKind::Invalid, message).into())
            }
        }
    }

    /// Answers what every operator can.
    async fn show(&self, call: Call<Request>) -> Result<Answer, Failure> {
        let patience = patience(&call);
        match call.request {
            Request::Status => self.look(Look::Status).await,
            Request::Cluster { of: Some(member) } if member != self.group.borrow().member.0 => {
                let left = patience.unwrap_or(PATIENCE);
                let call = Call { request: Request::Cluster { of: None }, ..call };
                let told = self.pass_on(MemberId(member), &call, Some(left)).await;
                told.map_err(|undone| match undone {
                    Undone::Failed(failure) => failure,
                    Undone::NotLeading => {
                        let message = format!("ask member {member}: it is not connected");
                        failure(FailureKind::TryAgain, message)
                    }
                })
            }
            Request::Cluster { .. } => self.cluster().await,
            Request::Identities => {
                self.catch_up(patience).await?;
                self.look(Look::Identities).await
            }
            Request::Objects => {
                self.catch_up(patience).await?;
                self.look(Look::Objects).await
            }
            Request::Wait { revision, timeout_ms, node } => {
                if revision.is_none() {
                    self.catch_up(patience).await?;
                }
                let (answer, waited) = oneshot::channel();
                let timeout = Duration::from_millis(timeout_ms);
                let node = node.map(NodeName);
                let wait = AwaitRevision { revision, node, timeout, answer };
                self.leader.send(wait).await.map_err(gone)??;
                waited.await.map(Answer::Waited).map_err(|_| stopping())
            }
            other => {
                let message = format!("{} is the leader's to answer", other.name());
                Err(failure(FailureKind::Invalid, message))
            }
        }
    }

    /// How the group is seen here, and the store: who leads knows that, others look.
    async fn cluster(&self) -> Result<Answer, Failure> {
        let mut answer = self.look(Look::Cluster).await?;
        if let Answer::Cluster(seen) = &mut answer
            && seen.role != "leader"
        {
            seen.store_problem = self.store.problem().await;
        }
        Ok(answer)
    }

    async fn look(&self, look: Look) -> Result<Answer, Failure> {
        self.leader.send(look).await.map_err(gone)
    }

    /// Until everything is here that was committed when it was asked: an answer is never older than another before it.
    async fn catch_up(&self, patience: Option<Duration>) -> Result<(), Failure> {
        match timeout(patience.unwrap_or(PATIENCE), self.leader.send(CatchUp)).await {
            Ok(caught) => caught.map_err(gone)?,
            Err(_) => {
                let message = "read what is newest: most of the group's operators do not answer; `weft cluster status` shows which are there";
                Err(failure(FailureKind::TryAgain, message.to_owned()))
            }
        }
    }

    async fn desire(&self, desire: Desire, patience: Option<Duration>) -> Result<Answer, Undone> {
        let answer = self.in_time(self.leader.send(desire), patience).await?;
        if let Answer::Accepted { revision, changed } = &answer {
            tracing::info!(%revision, changed, "accepted");
        }
        Ok(answer)
    }

    /// What the leader answers, or why it did not within a caller's time.
    async fn in_time(
        &self,
        done: impl Future<Output = Result<Result<Answer, Undone>, MailboxError>>,
        patience: Option<Duration>,
    ) -> Result<Answer, Undone> {
        match patience {
            Some(patience) => match timeout(patience, done).await {
                Ok(answer) => answer.map_err(gone)?,
                Err(_) => Err(self.late().await.into()),
            },
            None => done.await.map_err(gone)?,
        }
    }

    async fn change(
        &self,
        change: MemberChange,
        patience: Option<Duration>,
    ) -> Result<Answer, Undone> {
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
        let message = format!("change the cluster: it was not done in time{why}; {UNKNOWN}");
        Failure { kind: FailureKind::TryAgain, message }
    }
}

/// The caller's time, without the answer's way. One that says nothing of it has as much as the store takes.
fn patience(call: &Call<Request>) -> Option<Duration> {
    let all = call.deadline_ms.map(Duration::from_millis)?;
    Some(all.saturating_sub(WAY.min(all / 2)))
}

/// Nobody knows what became of what was passed on.
fn unheard(request: &Request, member: MemberId) -> Failure {
    let unknown = if request.is_look() { "ask again" } else { UNKNOWN };
    let message =
        format!("{}, asked of member {member}: nothing was heard of it; {unknown}", request.name());
    failure(FailureKind::TryAgain, message)
}

fn failure(kind: FailureKind, message: String) -> Failure {
    Failure { kind, message }
}

/// What is asked, as a span: a change is worth a line, a look is not.
fn span(Call { request, traceparent, .. }: &Call<Request>) -> Span {
    let request_name = request.name();
    match request {
        // These come by the thousand.
        Request::Number { .. } if traceparent.is_none() => Span::none(),
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
        Request::Number { .. } => debug_span!("admin", request = request_name),
        Request::Status | Request::Identities | Request::Objects | Request::Cluster { .. } => {
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
