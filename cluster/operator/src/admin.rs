//! The admin socket.

use crate::{
    allocator::Allocator,
    leader::Leader,
    messages::{Adopt, AwaitRevision, Look, Prepare, Propose},
};
use actix::{Addr, MailboxError};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};
use tracing::Instrument;
use weft_api::{
    Call, Failure, FailureKind,
    operator::{Answer, Request},
};
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
        let trace = call.traceparent;
        let span = match trace {
            Some(trace) => tracing::info_span!("admin", %trace),
            None => tracing::Span::none(),
        };
        async move {
            match call.request {
                Request::Apply { objects } => self.desire(objects, Vec::new(), trace).await,
                Request::Delete { objects } => self.desire(Vec::new(), objects, trace).await,
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
        trace: Option<TraceContext>,
    ) -> Result<Answer, Failure> {
        let allocator = self.mend(Arc::clone(&self.allocator).lock_owned().await).await?;
        let prepared = self.leader.send(Prepare { put, remove }).await.map_err(gone)??;
        let changed = prepared.put.len() + prepared.remove.len();
        if changed == 0 {
            return Ok(Answer::Accepted { revision: prepared.revision, changed });
        }
        let (mut allocator, command) = on_disk(allocator, move |allocator| {
            let identities = allocator.record(&prepared.put, &prepared.remove, prepared.sets)?;
            let (put, remove) = (prepared.put, prepared.remove);
            Ok(CommandV1::Desire { put, remove, identities })
        })
        .await?;
        let numbered = match &command {
            CommandV1::Desire { identities, .. } => identities.clone(),
            _ => Vec::new(),
        };
        let proposal = Propose(EntryV1 { trace, command });
        let revision = self.leader.send(proposal).await.map_err(gone)??;
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
    let done = tokio::task::spawn_blocking(move || {
        let done = work(&mut allocator);
        (allocator, done)
    });
    let (allocator, done) = done.await.map_err(|error| internal(&error))?;
    done.map(|done| (allocator, done)).map_err(|error| internal(&error))
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
