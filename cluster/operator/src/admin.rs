//! The admin socket.

use crate::leader::{Administer, AwaitRevision, Leader};
use actix::Addr;
use std::time::Duration;
use tokio::sync::oneshot;
use weft_api::{
    Call, Failure, FailureKind,
    operator::{Answer, Request},
};
use weft_types::NodeName;

/// Answers one request.
pub async fn answer(leader: Addr<Leader>, call: Call<Request>) -> Result<Answer, Failure> {
    let gone =
        |_| Failure { kind: FailureKind::TryAgain, message: "the operator is stopping".to_owned() };
    match call.request {
        Request::Wait { revision, timeout_ms, node } => {
            let node = node.map(NodeName);
            let (answer, waited) = oneshot::channel();
            let timeout = Duration::from_millis(timeout_ms);
            leader
                .send(AwaitRevision { revision, node, timeout, answer })
                .await
                .map_err(gone)??;
            waited.await.map(Answer::Waited).map_err(|_| Failure {
                kind: FailureKind::TryAgain,
                message: "the operator is stopping".to_owned(),
            })
        }
        request => leader.send(Administer(request)).await.map_err(gone)?,
    }
}
