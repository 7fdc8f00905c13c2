//! The admin socket.

use crate::{
    allocator::Allocator,
    leader::Leader,
    messages::{Adopt, AwaitRevision, Look, Prepare, Propose},
};
use actix::{Addr, MailboxError};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};
use tracing::{Instrument, Span, debug_span, field::Empty};
use weft_api::{
    Call, Failure, FailureKind,
    operator::{Answer, Request},
};
use weft_process::trace;
use weft_state::{CommandV1, EntryV1};
use weft_types::{NodeName, Object, TraceContext};

/// Answers requests. Changes of the desired state go one after another: each is prepared on what the
/// one before it left, written to the store, and only then proposed.
#[derive(Clone)]
pub struct Admin {
    /// Who applies.
    pub leader: Addr<Leader>,
    /// Who writes the store.
    pub allocator: Arc<Mutex<Allocator>>,
}

impl Admin {
    /// Answers one request.
    pub async fn answer(self, call: Call<Request>) -> Result<Answer, Failure> {
        let cause = call.traceparent;
        let span = trace::adopt(span(&call.request), cause);
        async move {
            match call.request {
                Request::Apply { objects } => self.desire(objects, Vec::new(), cause).await,
                Request::Delete { objects } => self.desire(Vec::new(), objects, cause).await,
                Request::Status => self.look(Look::Status).await,
                Request::Identities => self.look(Look::Identities).await,
                Request::Objects => self.look(Look::Objects).await,
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

    async fn desire(
        &self,
        put: Vec<Object>,
        remove: Vec<Object>,
        cause: Option<TraceContext>,
    ) -> Result<Answer, Failure> {
        let allocator = self.mend(Arc::clone(&self.allocator).lock_owned().await).await?;
        let prepare = self.leader.send(Prepare { put, remove });
        let prepared = prepare.instrument(debug_span!("prepare")).await.map_err(gone)??;
        let changed = prepared.put.len() + prepared.remove.len();
        if changed == 0 {
            return Ok(Answer::Accepted { revision: prepared.revision, changed });
        }
        let (mut allocator, command) = on_disk(allocator, move |allocator| {
            let _inside = debug_span!("store.write", changed).entered();
            let identities = allocator.record(&prepared.put, &prepared.remove, prepared.sets)?;
            let (put, remove) = (prepared.put, prepared.remove);
            Ok(CommandV1::Desire { put, remove, identities })
        })
        .await?;
        let numbered = match &command {
            CommandV1::Desire { identities, .. } => identities.clone(),
            _ => Vec::new(),
        };
        let propose = debug_span!("propose", revision = Empty);
        let entry = EntryV1 { trace: trace::of(&propose).or(cause), command };
        let proposed = self.leader.send(Propose(entry)).instrument(propose.clone()).await;
        let revision = proposed.map_err(gone)??;
        propose.record("revision", tracing::field::display(revision));
        drop(propose);
        allocator.settled(&numbered);
        tracing::info!(%revision, changed, "accepted");
        Ok(Answer::Accepted { revision, changed })
    }

    /// After a change that came to no end the log is brought to what the store holds.
    async fn mend(&self, allocator: Locked) -> Result<Locked, Failure> {
        if !allocator.is_torn() {
            return Ok(allocator);
        }
        let (mut allocator, (identities, objects)) =
            on_disk(allocator, |allocator| allocator.contents()).await?;
        let numbered = identities.clone();
        self.leader.send(Adopt { identities, objects }).await.map_err(gone)??;
        allocator.settled(&numbered);
        Ok(allocator)
    }
}

type Locked = OwnedMutexGuard<Allocator>;

/// Runs what waits for a disk on a thread that may.
async fn on_disk<T: Send + 'static>(
    mut allocator: Locked,
    work: impl FnOnce(&mut Allocator) -> Result<T, weft_store::StoreError> + Send + 'static,
) -> Result<(Locked, T), Failure> {
    let span = Span::current();
    let done = tokio::task::spawn_blocking(move || {
        let done = span.in_scope(|| work(&mut allocator));
        (allocator, done)
    });
    let (allocator, done) = done.await.map_err(|error| internal(&error))?;
    done.map(|done| (allocator, done)).map_err(|error| internal(&error))
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
        Request::Status | Request::Identities | Request::Objects => {
            debug_span!("admin", request = request_name)
        }
    }
}

fn internal(error: &dyn std::fmt::Display) -> Failure {
    let message = format!("change the cluster: {error}");
    Failure { kind: FailureKind::Internal, message }
}

fn gone(_: MailboxError) -> Failure {
    stopping()
}

fn stopping() -> Failure {
    Failure { kind: FailureKind::TryAgain, message: "the operator is stopping".to_owned() }
}
