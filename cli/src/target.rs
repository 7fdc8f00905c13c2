//! Whom a command speaks to: the agents and operators of a lab, or of this node.

use crate::lab::{
    group,
    process::ProcessId,
    record::{self, Lab, Node, Operator},
};
use crate::output::{Usage, note};
use anyhow::{Context, Result, bail, ensure};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use weft_api::{
    operator::{self, Waited},
    transport::{CallError, Client, Options, Request},
};
use weft_process::trace;
use weft_types::Revision;

const PATIENCE: Duration = Duration::from_secs(5);
/// Where the sockets of a fabric that is no lab are.
const RUN_DIR: &str = "/run/weft";

/// `--lab` and `--node`.
#[derive(clap::Args)]
pub(crate) struct Target {
    /// Which lab; the only one by default, and without any lab this machine's own fabric.
    #[arg(long, value_name = "NAME")]
    lab: Option<String>,
    /// Ask this machine's own fabric, whose sockets are in this folder (/run/weft), and no lab.
    #[arg(long, value_name = "DIR", env = "WEFT_RUN_DIR")]
    run_dir: Option<PathBuf>,
    /// Ask this node's agent alone; all agents' answers are merged without it.
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
}

/// Somebody who answers at a socket.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Where.
    pub(crate) socket: PathBuf,
    /// `node1`, or `operator1`; the socket's path where nobody has named it.
    pub(crate) name: String,
    /// What is known of its process, in a lab.
    own: Option<Own>,
}

/// A process of a lab.
#[derive(Clone, Debug)]
struct Own {
    process: Option<ProcessId>,
    log: PathBuf,
    /// The command that starts it.
    start: String,
}

impl Server {
    /// The agent of a lab's node.
    pub(crate) fn agent(lab: &Lab, node: &Node) -> Self {
        let start = format!("weft lab agent start --lab {} --node {}", lab.name, node.name);
        let log = lab.dir().join(format!("{}.log", node.name));
        let own = Some(Own { process: node.process, log, start });
        Self { socket: node.agent_socket.clone(), name: node.name.clone(), own }
    }

    /// An operator of a lab.
    pub(crate) fn operator(lab: &Lab, operator: &Operator) -> Self {
        let mut start = format!("weft lab operator start --lab {}", lab.name);
        if lab.operators.len() > 1 {
            start += &format!(" --operator {}", operator.name);
        }
        let log = lab.dir().join(format!("{}.log", operator.file()));
        let own = Some(Own { process: operator.process, log, start });
        Self { socket: operator.admin_socket.clone(), name: operator.name.clone(), own }
    }

    /// One of this machine.
    fn here(socket: PathBuf) -> Self {
        Self { name: socket.display().to_string(), socket, own: None }
    }

    /// The error of a call, and what to do about one that is no answer.
    pub(crate) fn advised(&self, error: CallError) -> anyhow::Error {
        match &error {
            CallError::Unreachable { .. } | CallError::Broken { .. } => {
                anyhow::anyhow!("{error}; {}", self.advice())
            }
            CallError::Failed(_) => error.into(),
        }
    }

    fn advice(&self) -> String {
        match &self.own {
            None => "is it running on this machine? `weft lab list` names the labs".to_owned(),
            Some(own) if own.process.is_some_and(ProcessId::runs) => {
                format!("its process runs; its log is {}", own.log.display())
            }
            Some(own) => format!("it does not run: start it with `{}`", own.start),
        }
    }
}

impl Target {
    /// The agents that are meant, in the nodes' order.
    pub(crate) fn agents(&self) -> Result<Vec<Server>> {
        if let Some(dir) = self.this_machine()? {
            if let Some(node) = &self.node {
                let problem = format!(
                    "--node {node}: that chooses a node of a lab; leave it out to ask this machine's agent"
                );
                return Err(Usage(problem).into());
            }
            return Ok(vec![Server::here(dir.join("agent.sock"))]);
        }
        let lab = record::find(self.lab.as_deref())?;
        match &self.node {
            Some(node) => Ok(vec![Server::agent(&lab, lab.node(node)?)]),
            None => Ok(lab.nodes.iter().map(|node| Server::agent(&lab, node)).collect()),
        }
    }

    /// The node that `--node` names.
    pub(crate) fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// All operators that are known here.
    pub(crate) fn operators(&self) -> Result<Vec<Server>> {
        if let Some(dir) = self.this_machine()? {
            return Ok(vec![Server::here(dir.join("operator.sock"))]);
        }
        let lab = record::find(self.lab.as_deref())?;
        let operators = group::servers(&lab);
        ensure!(!operators.is_empty(), "find an operator of lab {}: it has none", lab.name);
        Ok(operators)
    }

    /// The folder of this machine's sockets, when no lab is meant.
    fn this_machine(&self) -> Result<Option<PathBuf>> {
        match (&self.lab, &self.run_dir) {
            (Some(_), _) => Ok(None),
            (None, Some(dir)) => Ok(Some(dir.clone())),
            (None, None) => {
                Ok(record::names()?.is_empty().then(|| Path::new(RUN_DIR).to_path_buf()))
            }
        }
    }
}

/// Asks the operators in turn until one answers, which it does for all of them. What is asked may depend on the time that is
/// left of `work`. When one ends before it answers, the next is asked what changes nothing; nobody knows what became of the rest.
pub(crate) fn ask_any(
    operators: &[Server],
    work: Duration,
    request: impl Fn(Duration) -> operator::Request,
) -> Result<operator::Answer> {
    let until = Instant::now() + work;
    let mut last = None;
    for server in operators {
        let left = until.saturating_duration_since(Instant::now());
        let request = request(left);
        let is_look = request.is_look();
        match call(server, request, left) {
            Err(error) if is_gone(&error, is_look) => last = Some(server.advised(error)),
            answered => return answered.map_err(|error| server.advised(error)),
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("find an operator: there is none")))
}

/// Whether another can be asked: there was nobody, or nobody any more, and it does no harm to be asked twice.
fn is_gone(error: &CallError, is_look: bool) -> bool {
    match error {
        CallError::Unreachable { .. } => true,
        CallError::Broken { source, .. } => {
            is_look && source.kind() != std::io::ErrorKind::WouldBlock
        }
        CallError::Failed(_) => false,
    }
}

/// Waits until every node's kernel, or one node's, holds a revision, or the newest that there is.
pub(crate) fn wait_at(
    operators: &[Server],
    revision: Option<Revision>,
    node: Option<&str>,
    timeout: Duration,
) -> Result<Waited> {
    let answer = ask_any(operators, timeout, |left| {
        let timeout_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        operator::Request::Wait { revision, timeout_ms, node: node.map(str::to_owned) }
    })?;
    match answer {
        operator::Answer::Waited(waited) => Ok(waited),
        other => bail!("an operator answered {other:?}; is it of another version?"),
    }
}

/// Asks one server; `work` is the time that the request itself may take.
pub(crate) fn ask<R: Request>(server: &Server, request: R, work: Duration) -> Result<R::Answer> {
    call(server, request, work).map_err(|error| server.advised(error))
}

fn call<R: Request>(server: &Server, request: R, work: Duration) -> Result<R::Answer, CallError> {
    let options = Options { traceparent: trace::current(), ..Options::within(PATIENCE + work) };
    Client::connect(&server.socket, PATIENCE)?.call(request, options)
}

/// Asks every agent that is meant and takes their answers together. One that cannot be reached is warned of;
/// it is an error only when none answered.
pub(crate) fn ask_all<T>(
    target: &Target,
    request: &weft_api::agent::Request,
    what: &str,
    take: impl Fn(weft_api::agent::Answer) -> Option<Vec<T>>,
) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    let servers = target.agents()?;
    for server in &servers {
        let answer = ask(server, request.clone(), Duration::ZERO).and_then(|answer| {
            take(answer).context("it answered something else; is it of another version?")
        });
        match answer.with_context(|| format!("{what} of {}", server.name)) {
            Ok(some) => rows.extend(some),
            Err(error) => failures.push(error),
        }
    }
    let none_answered = failures.len() == servers.len();
    let last = failures.pop_if(|_| none_answered);
    for failure in failures {
        note!("weft: warning: {failure:#}");
    }
    last.map_or(Ok(rows), Err)
}
