//! The local socket that CNI and CLI speak to.

use crate::{
    Refusal,
    endpoints::{Add, Check, Delete, Endpoints, ListEndpoints},
    flows::{Follow, Reader},
    inspect::{DumpMap, Inspector, ListMaps},
    internal,
    ipcache::{Ipcache, ListNodes},
    metrics::Counts,
    observer::Observer,
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
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{Instrument, Span, field::Empty};
use weft_api::{
    Call, FailureKind,
    agent::{Answer, Request, Status},
    cni,
    transport::{Limits, Response},
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
    /// Connections to the local socket at once; more are told to come again.
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 256)]
    pub api_connections: usize,
}

impl Config {
    /// What callers can make the socket hold.
    pub fn limits(&self) -> Limits {
        Limits { connections: self.api_connections, ..Limits::default() }
    }
}

/// How often it looks.
const ADD_PAUSE: Duration = Duration::from_millis(20);
/// How often the folder of DELs that came while the agent was away is looked at.
const DRAIN: Duration = Duration::from_secs(5);

/// What answers are made of besides those of actors.
pub struct Setting {
    /// This node's name.
    pub node: String,
    /// The actors.
    pub runtime: Runtime,
    /// How far the kernel is.
    pub progress: watch::Receiver<Progress>,
    /// Where `weft-cni` leaves DELs while the agent is away.
    pub queue: PathBuf,
    /// How many flows there were.
    pub flows: watch::Receiver<u64>,
    /// What is counted.
    pub counts: Counts,
    /// Whether callers may make actors fail.
    pub faults: Faults,
    /// How long callers wait.
    pub config: Config,
}

/// Whom the socket's requests go to.
#[derive(Clone)]
pub struct Api {
    setting: Rc<Setting>,
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
    observer: Edge<Observer>,
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
    /// Flows.
    pub observer: &'a Seat<Observer>,
}

impl Api {
    /// In front of these actors.
    pub fn new(setting: Setting, answering: &Answering<'_>) -> Self {
        let edges = Rc::new(Edges {
            endpoints: answering.endpoints.edge(),
            policy: answering.policy.edge(),
            ipcache: answering.ipcache.edge(),
            inspector: answering.inspector.edge(),
            observer: answering.observer.edge(),
        });
        Self { setting: Rc::new(setting), edges }
    }

    /// Answers a request, as a part of its caller's trace.
    pub async fn answer(self, call: Call<Request>) -> Response<Answer> {
        let span = trace::adopt(span(&call.request), call.traceparent);
        let answer = async {
            self.dispatch(call).await.unwrap_or_else(|refusal| {
                tracing::info!(kind = ?refusal.kind, "refused: {refusal}");
                Response::One(Err(refusal))
            })
        };
        answer.instrument(span).await
    }

    async fn dispatch(&self, call: Call<Request>) -> Result<Response<Answer>, Refusal> {
        let edges = &self.edges;
        let longest = self.setting.config.cni_patience;
        let patience = call.deadline_ms.map_or(longest, Duration::from_millis);
        let answer = match call.request {
            Request::CniAdd(add) => self.add(add, patience.min(longest)).await?,
            Request::CniDelete(attachment) => self.delete(attachment).await?,
            Request::CniCheck(check) => {
                edges.endpoints.ask(Check(check)).await??;
                Answer::Done
            }
            Request::CniStatus if self.setting.progress.borrow().realised == Revision::ZERO => {
                return Err(try_again("no operator has sent this node its state yet"));
            }
            Request::CniStatus => Answer::Done,
            Request::Status => Answer::Status(self.status()),
            Request::Endpoints => {
                let realised = self.setting.progress.borrow().realised.to_string();
                Answer::Endpoints(edges.endpoints.ask(ListEndpoints { realised }).await?)
            }
            Request::Identities => Answer::Identities(edges.policy.ask(ListIdentities).await?),
            Request::Nodes => Answer::Nodes(edges.ipcache.ask(ListNodes).await?),
            Request::Policies => Answer::Policies(edges.policy.ask(ListPolicies).await?),
            Request::Maps => Answer::Maps(edges.inspector.ask(ListMaps).await??),
            Request::MapDump { name } => {
                Answer::MapDump(edges.inspector.ask(DumpMap(name)).await??)
            }
            Request::Crash { actor } => self.crash(&actor).await?,
            Request::Flows { last, follow } => return Ok(Response::Many(self.flows(last, follow))),
        };
        Ok(Response::One(Ok(answer)))
    }

    /// Flows, on a task of their own.
    fn flows(&self, last: Option<u64>, follow: bool) -> mpsc::Receiver<Result<Answer, Refusal>> {
        let reader = Reader {
            observer: self.edges.observer.seat().edge(),
            end: self.setting.flows.clone(),
            counts: self.setting.counts.clone(),
            follow: if follow { Follow::On } else { Follow::Off },
        };
        reader.start(last.unwrap_or(u64::MAX))
    }

    async fn crash(&self, actor: &str) -> Result<Answer, Refusal> {
        let no = |kind, message| Err(Refusal { kind, message });
        if self.setting.faults == Faults::Refused {
            return no(
                FailureKind::Refused,
                "this agent was not started with --allow-faults".to_owned(),
            );
        }
        if !self.setting.runtime.inject(actor, Fault::Panic).await {
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
        let progress = self.setting.progress.borrow();
        let actors = self.setting.runtime.actors();
        let mut problems: Vec<String> = progress.problem.iter().cloned().collect();
        if progress.operator.is_none() {
            let why = progress.refusal.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            problems.push(format!("no session with an operator{why}"));
        }
        if progress.realised == Revision::ZERO {
            problems.push("no operator has sent this node its state yet".to_owned());
        }
        let down = actors.iter().filter(|actor| actor.state != "running");
        problems.extend(down.map(|actor| format!("actor {} is {}", actor.name, actor.state)));
        Status {
            node: self.setting.node.clone(),
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

    /// What is wrong with this process: what starting it again may mend. Operators that are away are no such thing.
    pub fn healthy(&self) -> Result<(), String> {
        let problem = self.setting.progress.borrow().problem.clone();
        let down = self.setting.runtime.actors().into_iter().filter(|a| a.state != "running");
        let problems: Vec<String> = down
            .map(|actor| format!("actor {} is {}", actor.name, actor.state))
            .chain(problem)
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    /// Does the DELs that came while the agent was away, again and again: one may be left behind at any time.
    pub async fn drain(self) {
        loop {
            for file in queued(&self.setting.queue) {
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
