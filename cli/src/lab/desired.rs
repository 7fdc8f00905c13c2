//! What the operator is told of a lab, and asked about it.

use super::{interrupt, record::Lab, start::PATIENCE};
use crate::{output::note, target};
use anyhow::{Context, Result, bail};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};
use weft_api::{
    agent,
    operator::{Answer, Request},
    transport::{Client, Options},
};
use weft_manifests::Manifests;
use weft_process::trace;
use weft_types::{Object, Revision};

/// One answer of a wait: short, so that Ctrl-C is heard.
const SLICE_MS: u64 = 300;

/// Reads manifests for a lab; what it does not use is said on standard error.
pub(crate) fn read(files: &[PathBuf]) -> Result<Manifests> {
    let mut manifests = weft_manifests::read(files).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the manifests cannot be used:\n  {}", lines.join("\n  "))
    })?;
    let before = manifests.objects.len();
    manifests.objects.retain(|object| !matches!(object, Object::Node(_)));
    let nodes = before - manifests.objects.len();
    if nodes > 0 {
        manifests.skipped.insert("Node".to_owned(), nodes);
    }
    for (kind, count) in &manifests.skipped {
        note!("skipped {count} of kind {kind}: the lab does not use them");
    }
    for warning in &manifests.warnings {
        note!("warning: {warning}");
    }
    Ok(manifests)
}

/// Adds or replaces objects.
pub(crate) fn submit(lab: &Lab, objects: Vec<Object>) -> Result<Revision> {
    accepted(ask(lab, Request::Apply { objects })?)
}

/// Takes objects away; absent ones are no error.
pub(crate) fn remove(lab: &Lab, objects: Vec<Object>) -> Result<Revision> {
    accepted(ask(lab, Request::Delete { objects })?)
}

fn accepted(answer: Answer) -> Result<Revision> {
    match answer {
        Answer::Accepted { revision, .. } => Ok(revision),
        other => bail!("the operator answered a change with {other:?}"),
    }
}

/// Everything that is desired now.
pub(crate) fn objects(lab: &Lab) -> Result<Vec<Object>> {
    match ask(lab, Request::Objects)? {
        Answer::Objects(objects) => Ok(objects),
        other => bail!("the operator answered a question for its objects with {other:?}"),
    }
}

/// A node, with what its agent says is wrong.
fn why(lab: &Lab, node: &str) -> String {
    let asked = lab
        .nodes
        .iter()
        .find(|known| known.name == node)
        .map(|known| target::ask(&known.agent_socket, agent::Request::Status, Duration::ZERO));
    match asked {
        Some(Ok(agent::Answer::Status(status))) if !status.problems.is_empty() => {
            format!("{node} ({})", status.problems.join("; "))
        }
        Some(Err(error)) => format!("{node} ({error:#})"),
        _ => node.to_owned(),
    }
}

/// Waits until every node's kernel holds the newest revision there is now, which it gives back.
pub(crate) fn wait(lab: &Lab) -> Result<Revision> {
    let until = Instant::now() + PATIENCE;
    let mut revision = None;
    loop {
        let request = Request::Wait { revision, timeout_ms: SLICE_MS, node: None };
        let waited = match ask(lab, request)? {
            Answer::Waited(waited) => waited,
            other => bail!("the operator answered wait with {other:?}"),
        };
        if waited.enforced {
            return Ok(waited.revision);
        }
        interrupt::check()?;
        if Instant::now() >= until {
            let behind: Vec<String> =
                waited.behind.into_iter().map(|node| why(lab, &node.node)).collect();
            bail!(
                "revision {} is not enforced on {}; see `weft lab status` and the logs in {}",
                waited.revision,
                behind.join(", "),
                lab.dir().display()
            )
        }
        revision = Some(waited.revision);
    }
}

fn ask(lab: &Lab, request: Request) -> Result<Answer> {
    let operator = lab.operators.first().context("the lab has no operator")?;
    let options = Options { traceparent: trace::current(), ..Options::within(PATIENCE * 2) };
    Client::connect(&operator.admin_socket, PATIENCE)
        .and_then(|mut client| client.call(request, options))
        .with_context(|| {
            format!(
                "ask {} of lab {}; `weft lab status` says whether it runs",
                operator.name, lab.name
            )
        })
}
