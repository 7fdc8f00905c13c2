//! One document: which kind it is, and whose reader it goes to.

use crate::{
    check, decode,
    finding::{Place, Sink, quoted},
    network_policy,
    set::Made,
    source::Reading,
    workload::{self, Maker},
};
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        core::v1::{Namespace, Node, Pod},
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;
use std::collections::BTreeMap;
use weft_types::{NamespacedName, Object};

/// The kinds that are read, and where they are.
const READ: [(&str, &str); 7] = [
    ("Namespace", "v1"),
    ("Node", "v1"),
    ("Pod", "v1"),
    ("DaemonSet", "apps/v1"),
    ("Deployment", "apps/v1"),
    ("ReplicaSet", "apps/v1"),
    ("StatefulSet", "apps/v1"),
];
const POLICY: (&str, &str) = ("NetworkPolicy", "networking.k8s.io/v1");

/// What else is in the groups that have the kinds above: another name there is a slip of the pen.
const SIBLINGS: [(&str, &[&str]); 3] = [
    (
        "v1",
        &[
            "Binding",
            "ComponentStatus",
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
            "Status",
        ],
    ),
    ("apps/v1", &["ControllerRevision"]),
    ("networking.k8s.io/v1", &["IPAddress", "Ingress", "IngressClass", "ServiceCIDR"]),
];

/// Reads a document, or an item of a list.
pub(crate) fn read(reading: &mut Reading<'_>, mut place: Place, value: Value) {
    if value.is_null() {
        return;
    }
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion").to_owned(), text("kind").to_owned());
    if let Some(field) = ["apiVersion", "kind"].into_iter().find(|field| text(field).is_empty()) {
        let problem = format!("is no Kubernetes object: {field} is missing");
        return reading.findings.error(&place, "", problem);
    }
    if kind.ends_with("List") && value.get("items").is_some() || kind == "List" {
        return list(reading, &place, value, &version, &kind);
    }
    let name = |field: &str| value.get("metadata")?.get(field)?.as_str();
    place.object = match (name("namespace"), name("name")) {
        (_, None) => kind.clone(),
        (_, Some(name)) if matches!(kind.as_str(), "Namespace" | "Node") => {
            format!("{kind} {name}")
        }
        (namespace, Some(name)) => format!("{kind} {}/{name}", namespace.unwrap_or("default")),
    };
    match known(&version, &kind) {
        Known::Yes => object(reading, &place, value, &kind),
        Known::No => skip(reading, &place, kind),
        Known::Wrong(field, problem) => reading.findings.error(&place, field, problem),
    }
}

/// Whether a kind is read.
enum Known {
    Yes,
    /// Somebody else's, or one that Weft does not need.
    No,
    /// No such kind: the field and what is wrong with it.
    Wrong(&'static str, String),
}

fn known(version: &str, kind: &str) -> Known {
    let ours = || READ.iter().chain([&POLICY]);
    if ours().any(|(k, v)| *k == kind && *v == version) {
        return Known::Yes;
    }
    let group = version.split_once('/').map_or("", |(group, _)| group);
    // Groups of others may have kinds of the same name, Calico's NetworkPolicy for one.
    if group.contains('.') && group != "networking.k8s.io" {
        return Known::No;
    }
    if let Some((_, right)) = ours().find(|(k, _)| *k == kind) {
        let problem = format!("a {kind} is of {right}, not of {}", quoted(version));
        return Known::Wrong("apiVersion", problem);
    }
    let Some((_, siblings)) = SIBLINGS.iter().find(|(v, _)| *v == version) else {
        return Known::No;
    };
    if siblings.contains(&kind) {
        return Known::No;
    }
    let close = ours().find(|(k, _)| k.eq_ignore_ascii_case(kind));
    let hint = close.map(|(k, _)| format!("; {k} is meant?")).unwrap_or_default();
    Known::Wrong("kind", format!("{version} has no kind {}{hint}", quoted(kind)))
}

fn list(reading: &mut Reading<'_>, place: &Place, mut value: Value, version: &str, kind: &str) {
    let items = match value.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        None | Some(Value::Null) => Vec::new(),
        Some(_) => return reading.findings.error(place, "items", "must be a list"),
    };
    for (index, mut item) in items.into_iter().enumerate() {
        // The API leaves out of the items of a typed list what the list says already.
        if let (Some(kind), Some(fields)) = (kind.strip_suffix("List"), item.as_object_mut())
            && !kind.is_empty()
        {
            fields.entry("kind").or_insert_with(|| kind.into());
            fields.entry("apiVersion").or_insert_with(|| version.into());
        }
        let at = format!("{}items[{index}].", place.at);
        read(reading, Place { at, ..place.clone() }, item);
    }
}

fn skip(reading: &mut Reading<'_>, place: &Place, kind: String) {
    if kind.ends_with("NetworkPolicy") {
        reading.findings.warning(place, "", "is not enforced: Weft reads NetworkPolicy alone");
    }
    reading.set.skip(kind);
}

/// Reads an object of a kind that is used.
fn object(reading: &mut Reading<'_>, place: &Place, value: Value, kind: &str) {
    let Reading { filter, set, findings } = reading;
    let mut sink = Sink::new(place, findings);
    let sink = &mut sink;
    let made = match kind {
        "Namespace" => decode::object(value, sink).and_then(|n: Namespace| {
            let labels = n.metadata.labels.clone().unwrap_or_default();
            let name = cluster_wide(n.metadata, sink, check::dns_label)?;
            Some(Made::Object(Object::Namespace(namespace(name, labels))))
        }),
        "Node" => decode::object(value, sink).and_then(|n: Node| {
            let name = cluster_wide(n.metadata, sink, check::dns_subdomain)?;
            Some(workload::node(name, n.spec, n.status, sink))
        }),
        "Pod" => decode::object(value, sink).and_then(|p: Pod| {
            let name = namespaced(&p.metadata, sink)?;
            workload::pod(name, p, sink)
        }),
        "Deployment" => decode::object(value, sink).and_then(|d: Deployment| {
            let Some(spec) = d.spec else { return none(sink, "spec") };
            let (replicas, template) = (spec.replicas, spec.template);
            maker("Deployment", d.metadata, replicas, &spec.selector, template, sink)
        }),
        "ReplicaSet" => decode::object(value, sink).and_then(|d: ReplicaSet| {
            let Some(spec) = d.spec else { return none(sink, "spec") };
            let template = spec.template.unwrap_or_default();
            maker("ReplicaSet", d.metadata, spec.replicas, &spec.selector, template, sink)
        }),
        "StatefulSet" => decode::object(value, sink).and_then(|d: StatefulSet| {
            let Some(spec) = d.spec else { return none(sink, "spec") };
            let (replicas, template) = (spec.replicas, spec.template);
            maker("StatefulSet", d.metadata, replicas, &spec.selector, template, sink)
        }),
        "DaemonSet" => decode::object(value, sink).and_then(|d: DaemonSet| {
            let Some(spec) = d.spec else { return none(sink, "spec") };
            maker("DaemonSet", d.metadata, None, &spec.selector, spec.template, sink)
        }),
        _ => decode::object(value, sink).and_then(|p: NetworkPolicy| {
            let name = namespaced(&p.metadata, sink)?;
            let spec = p.spec.unwrap_or_default();
            Some(Made::Object(Object::Policy(network_policy::policy(name, spec, filter, sink))))
        }),
    };
    if let (true, Some(made)) = (sink.is_clean(), made) {
        set.add(place.clone(), made, findings);
    }
}

fn none<T>(sink: &mut Sink<'_>, field: &str) -> Option<T> {
    sink.missing(field);
    None
}

fn maker(
    kind: &'static str,
    metadata: ObjectMeta,
    replicas: Option<i32>,
    selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector,
    template: k8s_openapi::api::core::v1::PodTemplateSpec,
    sink: &mut Sink<'_>,
) -> Option<Made> {
    let name = namespaced(&metadata, sink)?;
    workload::selects(selector, &template, sink);
    let owners = workload::owners(&metadata);
    let replicas = workload::replicas(replicas, sink);
    let pod = workload::template(&name, template, sink)?;
    Some(Made::Maker(Maker { kind, name, owners, replicas, pod }))
}

/// The name of a namespaced object; `default` is the namespace of those that name none.
fn namespaced(metadata: &ObjectMeta, sink: &mut Sink<'_>) -> Option<NamespacedName> {
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    sink.check("metadata.namespace", namespace, check::dns_label);
    let name = named(metadata, sink, check::dns_subdomain)?;
    Some(NamespacedName::new(namespace, name))
}

fn cluster_wide(
    metadata: ObjectMeta,
    sink: &mut Sink<'_>,
    check: fn(&str) -> Option<&'static str>,
) -> Option<String> {
    if metadata.namespace.as_deref().is_some_and(|namespace| !namespace.is_empty()) {
        sink.error("metadata.namespace", "is not allowed: this kind is in no namespace");
    }
    named(&metadata, sink, check)
}

fn named(
    metadata: &ObjectMeta,
    sink: &mut Sink<'_>,
    check: fn(&str) -> Option<&'static str>,
) -> Option<String> {
    labels(metadata, "metadata", sink);
    match metadata.name.as_deref() {
        None | Some("") => none(sink, "metadata.name"),
        Some(name) => {
            sink.check("metadata.name", name, check);
            Some(name.to_owned())
        }
    }
}

/// Checks the labels of an object or of a pod template.
pub(crate) fn labels(metadata: &ObjectMeta, at: &str, sink: &mut Sink<'_>) {
    for (key, value) in metadata.labels.iter().flatten() {
        sink.check(&format!("{at}.labels"), key, check::label_key);
        sink.check(&format!("{at}.labels.{key}"), value, check::label_value);
    }
}

/// A namespace with the label that the API server gives every one.
pub(crate) fn namespace(
    name: String,
    mut labels: BTreeMap<String, String>,
) -> weft_types::object::Namespace {
    labels.insert("kubernetes.io/metadata.name".to_owned(), name.clone());
    weft_types::object::Namespace { name, labels }
}
