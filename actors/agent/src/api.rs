//! The local socket that CNI and CLI speak to.

use crate::{
    Refusal,
    endpoints::{Add, Check, Delete, Endpoints, ListEndpoints},
    inspect::{DumpMap, Inspector, ListMaps},
    internal,
    ipcache::{Ipcache, ListNodes},
    policy::{ListIdentities, ListPolicies, Policy},
    runtime::{Edge, Fault, Runtime, Seat},
    try_again,
    uplink::Progress,
};
use std::{
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::sync::{oneshot, watch};
use tracing::{Instrument, Span, field::Empty};
use weft_api::{
    Call, FailureKind,
    agent::{Answer, Request, Status},
    cni,
};
use weft_process::{trace, version};
use weft_types::Revision;

/// What the local socket is told.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// How long CNI ADD waits for a pod to become known, unless its caller waits less.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub cni_patience: Duration,
}

/// How often it looks.
const ADD_PAUSE: Duration = Duration::from_millis(20);
/// How often the folder of DELs that came while the agent was away is looked at.
const DRAIN: Duration = Duration::from_secs(5);

/// Whom the socket's requests go to.
#[derive(Clone)]
pub struct Api {
    /// This node's name.
    pub node: String,
    /// The actors.
    pub runtime: Runtime,
    /// How far the kernel is.
    pub progress: watch::Receiver<Progress>,
    /// Where `weft-cni` leaves DELs while the agent is away.
    pub queue: PathBuf,
    /// Whether callers may make actors fail.
    pub faults: Faults,
    /// How long callers wait.
    pub config: Config,
    edges: Rc<Edges>,
}

/// Whether callers of the socket may make actors fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Every cluster.
    Refused,
    /// Labs and tests.
    Allowed,
}

struct Edges {
    endpoints: Edge<Endpoints>,
    policy: Edge<Policy>,
    ipcache: Edge<Ipcache>,
    inspector: Edge<Inspector>,
}

/// The actors that answer.
pub struct Answering<'a> {
    /// Pods.
    pub endpoints: &'a Seat<Endpoints>,
    /// Policies and identities.
    pub policy: &'a Seat<Policy>,
    /// Nodes.
    pub ipcache: &'a Seat<Ipcache>,
    /// Maps.
    pub inspector: &'a Seat<Inspector>,
}

impl Api {
    /// In front of these actors.
    pub fn new(
        node: String,
        runtime: Runtime,
        progress: watch::Receiver<Progress>,
        queue: PathBuf,
        (config, answering): (Config, &Answering<'_>),
    ) -> Self {
        let edges = Rc::new(Edges {
            endpoints: answering.endpoints.edge(),
            policy: answering.policy.edge(),
            ipcache: answering.ipcache.edge(),
            inspector: answering.inspector.edge(),
        });
        Self { node, runtime, progress, queue, faults: Faults::Refused, config, edges }
    }

    /// Answers one request, as a part of its caller's trace.
    pub async fn answer(self, call: Call<Request>) -> Result<Answer, Refusal> {
        let span = trace::adopt(span(&call.request), call.traceparent);
        let answer = async {
            let answer = self.dispatch(call).await;
            if let Err(refusal) = &answer {
                tracing::info!(kind = ?refusal.kind, "refused: {refusal}");
            }
            answer
        };
        answer.instrument(span).await
    }

    async fn dispatch(&self, call: Call<Request>) -> Result<Answer, Refusal> {
        let longest = self.config.cni_patience;
        let patience = call.deadline_ms.map_or(longest, Duration::from_millis);
        match call.request {
            Request::CniAdd(add) => self.add(add, patience.min(longest)).await,
            Request::CniDelete(attachment) => self.delete(attachment).await,
            Request::CniCheck(check) => {
                self.edges.endpoints.ask(Check(check)).await??;
                Ok(Answer::Done)
            }
            Request::CniStatus if self.progress.borrow().realised == Revision::ZERO => {
                Err(try_again("no operator has sent this node its state yet"))
            }
            Request::CniStatus => Ok(Answer::Done),
            Request::Status => Ok(Answer::Status(self.status())),
            Request::Endpoints => {
                let realised = self.progress.borrow().realised.to_string();
                let rows = self.edges.endpoints.ask(ListEndpoints { realised }).await?;
                Ok(Answer::Endpoints(rows))
            }
            Request::Identities => {
                Ok(Answer::Identities(self.edges.policy.ask(ListIdentities).await?))
            }
            Request::Nodes => Ok(Answer::Nodes(self.edges.ipcache.ask(ListNodes).await?)),
            Request::Policies => Ok(Answer::Policies(self.edges.policy.ask(ListPolicies).await?)),
            Request::Maps => Ok(Answer::Maps(self.edges.inspector.ask(ListMaps).await??)),
            Request::MapDump { name } => {
                Ok(Answer::MapDump(self.edges.inspector.ask(DumpMap(name)).await??))
            }
            Request::Crash { actor } => self.crash(&actor).await,
            Request::Flows { .. } => Err(Refusal {
                kind: FailureKind::Invalid,
                message: "this agent does not read the datapath's events yet; \
                          `weft policy explain` says what a verdict is made of"
                    .to_owned(),
            }),
        }
    }

    async fn crash(&self, actor: &str) -> Result<Answer, Refusal> {
        let no = |kind, message| Err(Refusal { kind, message });
        if self.faults == Faults::Refused {
            return no(
                FailureKind::Refused,
                "this agent was not started with --allow-faults".to_owned(),
            );
        }
        if !self.runtime.inject(actor, Fault::Panic).await {
            return no(FailureKind::NotFound, format!("no actor {actor:?} is running here"));
        }
        Ok(Answer::Done)
    }

    /// ADD; a pod that is not known yet is waited for.
    async fn add(&self, add: cni::Add, patience: Duration) -> Result<Answer, Refusal> {
        let start = Instant::now();
        loop {
            let (answer, answered) = oneshot::channel();
            self.edges.endpoints.ask(Add(add.clone(), answer)).await?;
            let left = patience.saturating_sub(start.elapsed());
            let added = tokio::time::timeout(left, answered)
                .await
                .map_err(|_| try_again(format!("not plugged after {patience:?}")))?
                // The actor was made anew meanwhile; the same ADD goes on from its file.
                .unwrap_or_else(|_| Err(try_again("interrupted")));
            match added {
                Err(refusal)
                    if refusal.kind == FailureKind::TryAgain && start.elapsed() < patience =>
                {
                    tokio::time::sleep(ADD_PAUSE).await;
                }
                result => return result.map(Answer::Added),
            }
        }
    }

    async fn delete(&self, attachment: cni::Attachment) -> Result<Answer, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.edges.endpoints.ask(Delete(attachment, answer)).await?;
        answered.await.map_err(|_| try_again("interrupted"))??;
        Ok(Answer::Done)
    }

    fn status(&self) -> Status {
        let progress = self.progress.borrow();
        let actors = self.runtime.actors();
        let mut problems: Vec<String> = progress.problem.iter().cloned().collect();
        if progress.operator.is_none() {
            problems.push("no session with an operator".to_owned());
        }
        if progress.realised == Revision::ZERO {
            problems.push("no operator has sent this node its state yet".to_owned());
        }
        let down = actors.iter().filter(|actor| actor.state != "running");
        problems.extend(down.map(|actor| format!("actor {} is {}", actor.name, actor.state)));
        Status {
            node: self.node.clone(),
            version: version::short(),
            healthy: problems.is_empty() && progress.realised == progress.received,
            received: progress.received.to_string(),
            realised: progress.realised.to_string(),
            epoch: progress.epoch,
            operator: progress.operator.map(|address| address.to_string()),
            actors,
            problems,
        }
    }

    /// Does the DELs that came while the agent was away, again and again: one may be left behind at any time.
    pub async fn drain(self) {
        loop {
            for file in queued(&self.queue) {
                self.drain_one(&file).await;
            }
            tokio::time::sleep(DRAIN).await;
        }
    }

    async fn drain_one(&self, file: &Path) {
        let read = std::fs::read(file)
            .map_err(internal)
            .and_then(|bytes| serde_json::from_slice::<cni::Attachment>(&bytes).map_err(internal));
        let done = match read {
            Ok(attachment) => self.delete(attachment).await.map(drop),
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => drop(std::fs::remove_file(file)),
            Err(error) => tracing::warn!(file = %file.display(), %error, "queued DEL"),
        }
    }
}

/// What is asked, as a span: what the kubelet waits for is worth a line, what people look at is not.
fn span(request: &Request) -> Span {
    let plugged = |command: &'static str, attachment: &cni::Attachment| {
        let (container, interface) = (&*attachment.container_id, &*attachment.interface);
        tracing::info_span!("cni", command, container, interface, pod = Empty)
    };
    match request {
        Request::CniAdd(add) => {
            let span = plugged("ADD", &add.attachment);
            span.record("pod", format_args!("{}/{}", add.pod_namespace, add.pod_name));
            span
        }
        Request::CniDelete(attachment) => plugged("DEL", attachment),
        Request::CniCheck(check) => plugged("CHECK", &check.attachment),
        other => tracing::debug_span!("api", request = other.name()),
    }
}

fn queued(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let files = entries.flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|e| e == "json")).collect()
}
