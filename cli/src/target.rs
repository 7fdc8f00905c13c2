//! Whom a command speaks to: the agents and operators of a lab, or of this node.

use crate::lab::record;
use crate::output::{Usage, note};
use anyhow::{Context, Result};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use weft_api::transport::{CallError, Client, Options, Request};
use weft_process::trace;

const PATIENCE: Duration = Duration::from_secs(5);

/// `--lab` and `--node`.
#[derive(clap::Args)]
pub(crate) struct Target {
    /// Which lab; the only one by default, and without any lab this machine's own fabric.
    #[arg(long, value_name = "NAME")]
    lab: Option<String>,
    /// Folder of this machine's sockets, for a fabric that is no lab.
    #[arg(long, value_name = "DIR", env = "WEFT_RUN_DIR", default_value = "/run/weft")]
    run_dir: PathBuf,
    /// Ask this node's agent alone; all agents' answers are merged without it.
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
}

impl Target {
    /// The sockets of the agents that are meant, in the nodes' order.
    pub(crate) fn agents(&self) -> Result<Vec<PathBuf>> {
        if self.is_this_machine()? {
            if let Some(node) = &self.node {
                let problem = format!(
                    "--node {node}: no lab is up; leave it out to ask this machine's agent"
                );
                return Err(Usage(problem).into());
            }
            return Ok(vec![self.run_dir.join("agent.sock")]);
        }
        let lab = record::find(self.lab.as_deref())?;
        match &self.node {
            Some(node) => Ok(vec![lab.node(node)?.agent_socket.clone()]),
            None => Ok(lab.nodes.into_iter().map(|node| node.agent_socket).collect()),
        }
    }

    /// The node that `--node` names.
    pub(crate) fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// The admin socket of the first operator.
    pub(crate) fn operator(&self) -> Result<PathBuf> {
        if self.is_this_machine()? {
            return Ok(self.run_dir.join("operator.sock"));
        }
        let lab = record::find(self.lab.as_deref())?;
        let operator = lab.operators.into_iter().next();
        operator
            .map(|operator| operator.admin_socket)
            .with_context(|| format!("find an operator of lab {}: it has none", lab.name))
    }

    fn is_this_machine(&self) -> Result<bool> {
        Ok(self.lab.is_none() && record::names()?.is_empty())
    }
}

/// Asks one socket; `work` is the time that the request itself may take.
pub(crate) fn ask<R: Request>(socket: &Path, request: R, work: Duration) -> Result<R::Answer> {
    let options = Options { traceparent: trace::current(), ..Options::within(PATIENCE + work) };
    Client::connect(socket, PATIENCE)
        .and_then(|mut client| client.call(request, options))
        .map_err(advised)
}

/// The error, and what to do about one that is no answer.
pub(crate) fn advised(error: CallError) -> anyhow::Error {
    let advice = match &error {
        CallError::Unreachable { .. } => "; is the fabric up? `weft lab list` names the labs",
        CallError::Broken { .. } => "; `weft lab status` says whether it still runs",
        CallError::Failed(_) => "",
    };
    anyhow::anyhow!("{error}{advice}")
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
    let sockets = target.agents()?;
    for socket in &sockets {
        let answer = ask(socket, request.clone(), Duration::ZERO).and_then(|answer| {
            take(answer).context("it answered something else; is it of another version?")
        });
        match answer.with_context(|| format!("{what} of {}", socket.display())) {
            Ok(some) => rows.extend(some),
            Err(error) => failures.push(error),
        }
    }
    if failures.len() == sockets.len()
        && let Some(error) = failures.pop()
    {
        return Err(error);
    }
    for failure in failures {
        note!("weft: warning: {failure:#}");
    }
    Ok(rows)
}
