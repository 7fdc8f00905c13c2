//! `weft lab apply` and `weft lab delete`: changes of a running lab.

use super::{
    desired, group, interrupt,
    pods::{self, Commands},
    process,
    record::{Held, Lab},
    start,
};
use crate::{
    manifests::Labels,
    output::{Outcome, note},
};
use anyhow::{Result, bail};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};
use weft_manifests::Manifests;
use weft_types::{LabelFilter, NamespacedName, Object, object::ObjectKey};

/// Arguments of `weft lab apply`.
#[derive(clap::Args)]
pub(crate) struct Apply {
    /// Manifests: files, folders, or - for standard input.
    #[arg(short, long = "filename", required = true, num_args = 1.., value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Which lab; the only one by default.
    #[arg(long, visible_alias = "lab")]
    name: Option<String>,
    /// Run the commands of the manifests, without privileges and in namespaces of their own.
    #[arg(long)]
    run_commands: bool,
    #[command(flatten)]
    labels: Labels,
}

/// Adds objects to a running lab, or changes them, and waits until they are enforced and served.
pub(crate) fn apply(arguments: &Apply) -> Result<Outcome> {
    interrupt::watch()?;
    let mut lab = Held::of(arguments.name.as_deref())?;
    let filter = arguments.labels.or(lab.filter()?);
    let mut manifests = desired::read(&arguments.file, &filter)?;
    filter_labels(&mut lab, &filter)?;
    let known = desired::objects(&lab)?;
    desired::keep_known_namespaces(&mut manifests, &known);
    let commands = if arguments.run_commands { Commands::Run } else { Commands::Ignore };
    pods::schedule(&mut lab, &mut manifests, commands)?;
    let surplus = pods::surplus(&lab, &manifests);
    desired::submit(&lab, manifests.objects)?;
    lab.save()?;
    remove_pods(&mut lab, &known, &surplus)?;
    pods::plug(&mut lab)?;
    start::servers(&mut lab)?;
    start::commands(&mut lab)?;
    let revision = desired::wait(&lab.release())?;
    note!("revision {revision} is enforced on every node");
    Ok(Outcome::Done)
}

/// Which labels make identities is told to an operator when it starts.
fn filter_labels(lab: &mut Held, filter: &LabelFilter) -> Result<()> {
    if lab.labels == filter.added() {
        return Ok(());
    }
    note!("starting the operator anew, with other labels");
    lab.labels = filter.added().to_vec();
    lab.save()?;
    let processes: Vec<_> = lab.operators.iter().filter_map(|operator| operator.process).collect();
    process::end(&processes, Duration::from_secs(2))?;
    group::start(lab, None)
}

/// Arguments of `weft lab delete`.
#[derive(clap::Args)]
pub(crate) struct Delete {
    /// Manifests whose objects are to go: files, folders, or - for standard input.
    #[arg(short, long = "filename", num_args = 1.., value_name = "FILE", conflicts_with_all = ["kind", "object"], required_unless_present = "kind")]
    file: Vec<PathBuf>,
    /// Or one object: pod, networkpolicy, namespace, deployment, statefulset, replicaset or daemonset, or kubectl's
    /// short names of them.
    #[arg(requires = "object")]
    kind: Option<String>,
    /// Its name: namespace/name, or a name in the namespace `default`.
    object: Option<String>,
    /// Which lab; the only one by default.
    #[arg(long, visible_alias = "lab")]
    name: Option<String>,
}

/// Takes objects out of a running lab, and waits until that is enforced.
pub(crate) fn delete(arguments: &Delete) -> Result<Outcome> {
    interrupt::watch()?;
    let mut lab = Held::of(arguments.name.as_deref())?;
    let manifests = match arguments.file.as_slice() {
        [] => None,
        files => Some(desired::read(files, &lab.filter()?)?),
    };
    let known: BTreeMap<ObjectKey, Object> =
        desired::objects(&lab)?.into_iter().map(|object| (object.key(), object)).collect();
    let mut going = match (manifests, &arguments.kind, &arguments.object) {
        (Some(manifests), _, _) => of_manifests(&lab, &manifests),
        (None, Some(kind), Some(name)) => named(&lab, kind, name)?,
        _ => bail!("say what to delete: -f FILE, or a kind and a name"),
    };
    going.extend(inside(&going, &known));
    let pods: BTreeSet<String> = going.iter().filter_map(pod_name).collect();
    let pods: BTreeSet<String> =
        lab.pods.iter().map(|pod| pod.name.clone()).filter(|name| pods.contains(name)).collect();
    let gone = known.into_iter().filter(|(key, _)| going.contains(key));
    let objects: Vec<Object> = gone.map(|(_, object)| object).collect();
    if objects.is_empty() && pods.is_empty() {
        if let (Some(kind), Some(name)) = (&arguments.kind, &arguments.object) {
            bail!("delete {kind} {name}: lab {} has none of that name", lab.name);
        }
        note!("lab {} has none of these objects", lab.name);
    }
    for object in &objects {
        note!("deleting {}", object.key());
    }
    desired::remove(&lab, objects)?;
    pods::unplug(&mut lab, &pods)?;
    let revision = desired::wait(&lab.release())?;
    note!("revision {revision} is enforced on every node");
    Ok(Outcome::Done)
}

fn pod_name(key: &ObjectKey) -> Option<String> {
    match key {
        ObjectKey::Pod(name) => Some(name.to_string()),
        ObjectKey::Namespace(_) | ObjectKey::Node(_) | ObjectKey::Policy(_) => None,
    }
}

fn remove_pods(lab: &mut Held, known: &[Object], names: &BTreeSet<String>) -> Result<()> {
    let gone = known.iter().filter(
        |object| matches!(object, Object::Pod(pod) if names.contains(&pod.name.to_string())),
    );
    let gone: Vec<Object> = gone.cloned().collect();
    if !gone.is_empty() {
        desired::remove(lab, gone)?;
    }
    pods::unplug(lab, names)
}

/// What manifests describe, and the pods that their controllers made. Namespaces that they only imply stay.
fn of_manifests(lab: &Lab, manifests: &Manifests) -> BTreeSet<ObjectKey> {
    let controllers: BTreeSet<String> =
        manifests.controllers.iter().map(ToString::to_string).collect();
    let described = manifests.objects.iter().filter(|object| match object {
        Object::Namespace(namespace) => !manifests.implied.contains(&namespace.name),
        _ => true,
    });
    described.map(Object::key).chain(made_by(lab, |name| controllers.contains(name))).collect()
}

/// The pods that a controller made.
fn made_by(lab: &Lab, is_meant: impl Fn(&str) -> bool) -> Vec<ObjectKey> {
    let made = lab.pods.iter().filter(|pod| pod.controller.as_deref().is_some_and(&is_meant));
    made.filter_map(|pod| Some(ObjectKey::Pod(pod.name.parse().ok()?))).collect()
}

/// One object by kind and name; the pods of a controller.
fn named(lab: &Lab, kind: &str, name: &str) -> Result<BTreeSet<ObjectKey>> {
    let namespaced = || match name.split_once('/') {
        Some((namespace, name)) => NamespacedName::new(namespace, name),
        None => NamespacedName::new("default", name),
    };
    let made = |kind: &str| {
        let wanted = format!("{kind} {}", namespaced());
        made_by(lab, |name| name == wanted)
    };
    let keys = match kind.to_ascii_lowercase().as_str() {
        "pod" | "pods" | "po" => vec![ObjectKey::Pod(namespaced())],
        "networkpolicy" | "networkpolicies" | "netpol" => {
            vec![ObjectKey::Policy(weft_types::policy::PolicyId {
                kind: weft_types::policy::PolicyKind::NetworkPolicy,
                name: namespaced(),
            })]
        }
        "namespace" | "namespaces" | "ns" => vec![ObjectKey::Namespace(name.to_owned())],
        "deployment" | "deployments" | "deploy" => made("Deployment"),
        "statefulset" | "statefulsets" | "sts" => made("StatefulSet"),
        "replicaset" | "replicasets" | "rs" => made("ReplicaSet"),
        "daemonset" | "daemonsets" | "ds" => made("DaemonSet"),
        _ => bail!(
            "delete {kind} {name}: a lab has pods, networkpolicies, namespaces, deployments, \
             statefulsets, replicasets and daemonsets"
        ),
    };
    Ok(keys.into_iter().collect())
}

/// What goes with the namespaces that go.
fn inside(going: &BTreeSet<ObjectKey>, known: &BTreeMap<ObjectKey, Object>) -> Vec<ObjectKey> {
    let goes =
        |name: &NamespacedName| going.contains(&ObjectKey::Namespace(name.namespace.clone()));
    let inside = known.keys().filter(|key| match key {
        ObjectKey::Pod(name) => goes(name),
        ObjectKey::Policy(id) => goes(&id.name),
        ObjectKey::Namespace(_) | ObjectKey::Node(_) => false,
    });
    inside.cloned().collect()
}
