//! The local socket that CNI and CLI speak to.

use crate::{
    Refusal,
    endpoints::{Add, Check, Delete, Endpoints, Rowed},
    internal, try_again,
    uplink::Progress,
};
use actix::Addr;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::sync::watch;
use weft_api::{
    Call, FailureKind,
    agent::{Answer, Request, Status},
    cni,
};

/// How long ADD waits for a pod to become known, unless its caller waits less.
const ADD_PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks.
const ADD_PAUSE: Duration = Duration::from_millis(20);

/// Whom the socket's requests go to.
#[derive(Clone)]
pub struct Api {
    /// This node's name.
    pub node: String,
    /// The endpoints.
    pub endpoints: Addr<Endpoints>,
    /// How far the kernel is.
    pub progress: watch::Receiver<Progress>,
    /// Where `weft-cni` leaves DELs while the agent is away.
    pub queue: PathBuf,
}

impl Api {
    /// Answers one request.
    pub async fn answer(self, call: Call<Request>) -> Result<Answer, Refusal> {
        let patience = call.deadline_ms.map_or(ADD_PATIENCE, Duration::from_millis);
        match call.request {
            Request::CniAdd(add) => self.add(add, patience.min(ADD_PATIENCE)).await,
            Request::CniDelete(attachment) => self.ask(Delete(attachment)).await,
            Request::CniCheck(check) => self.ask(Check(check)).await,
            Request::CniStatus if self.progress.borrow().realised.0 == 0 => {
                Err(try_again("no operator has sent this node its state yet"))
            }
            Request::CniStatus => Ok(Answer::Done),
            Request::Status => Ok(Answer::Status(self.status())),
            Request::Endpoints => {
                let realised = self.progress.borrow().realised.to_string();
                self.endpoints
                    .send(Rowed { realised })
                    .await
                    .map(Answer::Endpoints)
                    .map_err(internal)
            }
            other => Err(Refusal {
                kind: FailureKind::Invalid,
                message: format!("this agent cannot answer {other:?}"),
            }),
        }
    }

    async fn ask<M>(&self, message: M) -> Result<Answer, Refusal>
    where
        M: actix::Message<Result = Result<(), Refusal>> + Send + 'static,
        Endpoints: actix::Handler<M>,
    {
        self.endpoints.send(message).await.map_err(internal)??;
        Ok(Answer::Done)
    }

    /// ADD; a pod that is not known yet is waited for.
    async fn add(&self, add: cni::Add, patience: Duration) -> Result<Answer, Refusal> {
        let start = Instant::now();
        loop {
            match self.endpoints.send(Add(add.clone())).await.map_err(internal)? {
                Err(refusal)
                    if refusal.kind == FailureKind::TryAgain && start.elapsed() < patience =>
                {
                    tokio::time::sleep(ADD_PAUSE).await;
                }
                result => return result.map(Answer::Added),
            }
        }
    }

    fn status(&self) -> Status {
        let progress = self.progress.borrow();
        Status {
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            healthy: progress.operator.is_some() && progress.realised == progress.received,
            received: progress.received.to_string(),
            realised: progress.realised.to_string(),
            epoch: progress.epoch,
            operator: progress.operator.map(|address| address.to_string()),
            actors: Vec::new(),
            problems: match progress.operator {
                Some(_) => Vec::new(),
                None => vec!["no session with an operator".to_owned()],
            },
        }
    }

    /// Does the DELs that came while the agent was away.
    pub async fn drain(&self) {
        for file in queued(&self.queue) {
            let Some(attachment) = std::fs::read(&file)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<cni::Attachment>(&bytes).ok())
            else {
                tracing::warn!(file = %file.display(), "queued DEL cannot be read");
                continue;
            };
            match self.ask(Delete(attachment)).await {
                Ok(_) => drop(std::fs::remove_file(&file)),
                Err(error) => tracing::warn!(%error, "queued DEL"),
            }
        }
    }
}

fn queued(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let files = entries.flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|e| e == "json")).collect()
}
