//! The local socket that CNI and CLI speak to.

use crate::{
    Refusal,
    cni::Cni,
    endpoints::{Endpoints, ListEndpoints, PluggedPods},
    flows::{Follow, Reader},
    inspect::{DumpMap, Inspector, ListMaps},
    ipcache::{Ipcache, ListNodes},
    leftovers::Leftovers,
    metrics::Counts,
    observer::Observer,
    policy::{ListIdentities, ListPolicies, Policy},
    runtime::{Edge, Fault, Runtime, Seat},
    uplink::Progress,
};
use std::{
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use tracing::{Instrument, Span, field::Empty};
use weft_api::{
    Call, Caller, FailureKind,
    agent::{Answer, Request, Status},
    cni::Attachment,
    transport::{Limits, Response},
};
use weft_process::{otlp, trace, version};
use weft_types::{Revision, TraceContext};

/// What the local socket is told.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
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

/// What answers are made of besides those of actors.
pub struct Setting {
    /// This node's name.
    pub node: String,
    /// The actors.
    pub runtime: Runtime,
    /// How far the kernel is.
    pub progress: watch::Receiver<Progress>,
    /// CNI calls.
    pub cni: Cni,
    /// What is left over of pods that are gone.
    pub leftovers: Leftovers,
    /// Who is plugged here.
    pub plugged: watch::Receiver<Option<PluggedPods>>,
    /// How many flows there were.
    pub flows: watch::Receiver<u64>,
    /// What is counted.
    pub counts: Counts,
    /// Whether callers may make actors fail.
    pub faults: Faults,
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
        let (cause, _caller) = caused(&call);
        let span = trace::adopt(span(&call.request), cause);
        let answer = async {
            self.dispatch(call).await.unwrap_or_else(|refusal| {
                tracing::info!(kind = ?refusal.kind, "refused: {refusal}");
                Response::One(Err(refusal))
            })
        };
        answer.instrument(span).await
    }

    async fn dispatch(&self, call: Call<Request>) -> Result<Response<Answer>, Refusal> {
        let (edges, cni) = (&self.edges, &self.setting.cni);
        let patience = call.deadline_ms.map(Duration::from_millis);
        let answer = match call.request {
            Request::CniAdd(add) => cni.add(add, patience).await?,
            Request::CniDelete(attachment) => cni.delete(attachment, patience).await?,
            Request::CniCheck(check) => cni.check(check).await?,
            Request::CniStatus => cni.status().await?,
            Request::CniCollect(valid) => cni.collect(valid).await?,
            Request::Status => Answer::Status(self.status().await),
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
            Request::Crash { actor } => self.inject(&actor, Fault::Panic).await?,
            Request::Stall { actor, ms } => {
                self.inject(&actor, Fault::Stall(Duration::from_millis(ms))).await?
            }
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

    async fn inject(&self, actor: &str, fault: Fault) -> Result<Answer, Refusal> {
        let no = |kind, message| Err(Refusal { kind, message });
        if self.setting.faults == Faults::Refused {
            return no(
                FailureKind::Refused,
                "this agent was not started with --allow-faults".to_owned(),
            );
        }
        if !self.setting.runtime.inject(actor, fault).await {
            return no(FailureKind::NotFound, format!("no actor {actor:?} is running here"));
        }
        Ok(Answer::Done)
    }

    async fn status(&self) -> Status {
        let left = self.setting.leftovers.look().await;
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
        if let Some(why) = &progress.unkept {
            problems.push(format!(
                "what was published is not on disk ({why}): an agent that starts without operators knows nothing; make room"
            ));
        }
        if let Some(plugged) = &*self.setting.plugged.borrow() {
            problems.extend(plugged.damaged.values().cloned());
        }
        match left {
            Ok(left) => problems.extend(left.iter().map(ToString::to_string)),
            Err(error) => problems.push(format!("look for what is left over of pods: {error}")),
        }
        let down = actors.iter().filter(|actor| actor.state != "running");
        problems.extend(down.map(|actor| format!("actor {} is {}", actor.name, actor.state)));
        Status {
            node: self.setting.node.clone(),
            version: version::short(),
            healthy: problems.is_empty() && progress.realised == progress.received,
            received: progress.received.to_string(),
            realised: progress.realised.to_string(),
            refused: progress.refused.map(|revision| revision.to_string()),
            epoch: progress.epoch,
            operator: progress.operator.map(|address| address.to_string()),
            actors,
            problems,
            notices: self.setting.counts.notices().recent(Instant::now()),
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
}

/// What a call is a part of; with the span of a caller that sends none itself, until the answer is there.
fn caused(call: &Call<Request>) -> (Option<TraceContext>, Option<Span>) {
    let (Some(own), Some(Caller { begun_ns, parent })) = (call.traceparent, call.caller) else {
        return (call.traceparent, None);
    };
    if !otlp::is_on() {
        return (Some(own), None);
    }
    let span =
        tracing::debug_span!(parent: None, "weft-cni", request = call.request.name(), begun_ns);
    let span = trace::stand_for(span, own, parent.map(|parent| parent.span_id));
    // Who began the trace did not decide whether it is recorded.
    (trace::of(&span), Some(span))
}

/// What is asked, as a span: what the kubelet waits for is worth a line, what people look at is not.
fn span(request: &Request) -> Span {
    let plugged = |command: &'static str, attachment: &Attachment| {
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
