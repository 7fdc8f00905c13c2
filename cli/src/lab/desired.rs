//! What the operator is told of a lab, and asked about it.

use super::{group, interrupt, record::Lab, start::PATIENCE};
use crate::{
    manifests,
    output::note,
    target::{Server, ask, ask_any, wait_at},
};
use anyhow::{Context, Result, bail};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, Instant},
};
use weft_api::{
    agent,
    operator::{Answer, Request},
};
use weft_manifests::Manifests;
use weft_types::{
    LabelFilter, NodeName, Object, Revision,
    object::{Namespace, ObjectKey},
};

/// One answer of a wait: short, so that Ctrl-C is heard.
const SLICE: Duration = Duration::from_millis(300);
/// A wait that takes longer says for what.
const LONG: Duration = Duration::from_secs(1);

/// Reads manifests for a lab; what it does not use is said on standard error.
pub(crate) fn read(files: &[PathBuf], filter: &LabelFilter) -> Result<Manifests> {
    let mut manifests = manifests::read(files, filter)?;
    let before = manifests.objects.len();
    manifests.objects.retain(|object| !matches!(object, Object::Node(_)));
    let nodes = before - manifests.objects.len();
    if nodes > 0 {
        note!("skipped {nodes} Node: the lab has nodes of its own");
    }
    Ok(manifests)
}

/// Adds or replaces objects.
pub(crate) fn submit(lab: &Lab, objects: Vec<Object>) -> Result<Revision> {
    accepted(call(lab, &Request::Apply { objects })?)
}

/// Takes objects away; absent ones are no error.
pub(crate) fn remove(lab: &Lab, objects: Vec<Object>) -> Result<Revision> {
    accepted(call(lab, &Request::Delete { objects })?)
}

fn accepted(answer: Answer) -> Result<Revision> {
    match answer {
        Answer::Accepted { revision, .. } => Ok(revision),
        other => bail!("the operator answered a change with {other:?}"),
    }
}

/// Everything that is desired now.
pub(crate) fn objects(lab: &Lab) -> Result<Vec<Object>> {
    match call(lab, &Request::Objects)? {
        Answer::Objects(objects) => Ok(objects),
        other => bail!("the operator answered a question for its objects with {other:?}"),
    }
}

/// Puts what a lab has beside what manifests say, as `apply` would: its pods with their nodes and addresses.
pub(crate) fn beside(lab: &Lab, manifests: &mut Manifests) -> Result<()> {
    let known = objects(lab)?;
    keep_known_namespaces(manifests, &known);
    let mut all: BTreeMap<ObjectKey, Object> =
        known.into_iter().map(|object| (object.key(), object)).collect();
    let own: Vec<NodeName> = lab.nodes.iter().map(|node| NodeName(node.name.clone())).collect();
    manifests.spread_daemons(&own);
    let mut said = std::mem::take(&mut manifests.objects);
    // The lab has nodes of its own.
    said.retain(|object| !matches!(object, Object::Node(_)));
    all.extend(said.into_iter().map(|object| (object.key(), object)));
    for object in all.values_mut() {
        if let Object::Pod(pod) = object
            && let Some(known) = lab.pods.iter().find(|known| known.name == pod.name.to_string())
        {
            pod.address = known.address;
            pod.node = Some(NodeName(known.node.clone()));
        }
    }
    manifests.objects = all.into_values().collect();
    Ok(())
}

/// A namespace that the manifests only imply stays as the operator has it.
pub(crate) fn keep_known_namespaces(manifests: &mut Manifests, known: &[Object]) {
    let known: BTreeSet<ObjectKey> = known.iter().map(Object::key).collect();
    let Manifests { objects, implied, .. } = manifests;
    objects.retain(|object| match object {
        Object::Namespace(Namespace { name, .. }) => {
            !(implied.contains(name) && known.contains(&object.key()))
        }
        _ => true,
    });
}

/// A node whose kernel does not hold a revision.
struct Behind {
    /// Its name, with what its agent says is wrong.
    words: String,
    /// Whether it has no room for the revision, and waits for another.
    refuses: bool,
}

impl Behind {
    fn of(lab: &Lab, node: &str, revision: Revision) -> Self {
        let asked =
            lab.nodes.iter().find(|known| known.name == node).map(|known| {
                ask(&Server::agent(lab, known), agent::Request::Status, Duration::ZERO)
            });
        match asked {
            Some(Ok(agent::Answer::Status(status))) => {
                let refused = status.refused.and_then(|refused| refused.parse::<Revision>().ok());
                let words = match status.problems.as_slice() {
                    [] => node.to_owned(),
                    problems => format!("{node} ({})", problems.join("; ")),
                };
                Self { words, refuses: refused.is_some_and(|refused| refused >= revision) }
            }
            Some(Err(error)) => Self { words: format!("{node} ({error:#})"), refuses: false },
            _ => Self { words: node.to_owned(), refuses: false },
        }
    }
}

/// Waits until every node's kernel holds the newest revision there is now, which it gives back. What keeps it is
/// said as soon as it takes long; that all who do not hold it refuse it, at once.
pub(crate) fn wait(lab: &Lab) -> Result<Revision> {
    let (mut begun, mut revision) = (Some(Instant::now()), None);
    let until = Instant::now() + PATIENCE;
    loop {
        let waited = wait_at(&group::servers(lab), revision, None, SLICE)
            .with_context(|| format!("ask the operators of lab {}", lab.name))?;
        if waited.enforced {
            return Ok(waited.revision);
        }
        let newest = waited.revision;
        let behind = waited.behind.iter().map(|node| Behind::of(lab, &node.node, newest));
        let behind: Vec<Behind> = behind.collect();
        let nodes: Vec<&str> = behind.iter().map(|node| &*node.words).collect();
        let nodes = nodes.join(", ");
        if behind.iter().all(|node| node.refuses) {
            bail!("revision {newest} is made, but finds no room on {nodes}")
        }
        if begun.take_if(|begun| begun.elapsed() > LONG).is_some() {
            note!("waiting until revision {newest} is enforced on {nodes}");
        }
        interrupt::check()
            .with_context(|| format!("revision {newest} is made, but not known to be enforced"))?;
        if Instant::now() >= until {
            bail!(
                "revision {newest} is made, but after {} s not enforced on {nodes}; `weft policy wait` waits on",
                PATIENCE.as_secs(),
            )
        }
        revision = Some(newest);
    }
}

/// Asks the operators of a lab.
fn call(lab: &Lab, request: &Request) -> Result<Answer> {
    ask_any(&group::servers(lab), PATIENCE * 2, |_| request.clone())
        .with_context(|| format!("ask the operators of lab {}", lab.name))
}
