//! The label set that is a pod's identity: its own labels, filtered, and what the system adds.

use crate::{
    label::{LabelSet, Source, key},
    object::{Namespace, Pod},
};

/// Prefixes of pod labels that make no identity by default: they differ from pod to pod, or belong to
/// the system. The list is Cilium's, so that the same pods share an identity here as there.
const IGNORED: [&str; 14] = [
    "io.kubernetes",
    "kubernetes.io",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/job-completion-index",
    "batch.kubernetes.io/controller-uid",
    "k8s.io",
    "pod-template-generation",
    "pod-template-hash",
    "controller-revision-hash",
    "controller-uid",
    "annotation.",
    "etcd_node",
    "topology.kubernetes.io",
];

/// Labels that the system alone may set.
const RESERVED: &str = "io.cilium.k8s.";

/// The label set of a pod in its namespace.
pub fn identity_labels(pod: &Pod, namespace: &Namespace, cluster: &str) -> LabelSet {
    let mut labels = LabelSet::new();
    for (name, value) in pod.labels.iter().filter(|(name, _)| makes_identity(name)) {
        labels.insert(Source::K8s, name, value);
    }
    labels.insert(Source::K8s, key::NAMESPACE, &pod.name.namespace);
    labels.insert(Source::K8s, key::SERVICE_ACCOUNT, &pod.service_account);
    labels.insert(Source::K8s, key::CLUSTER, cluster);
    for (name, value) in &namespace.labels {
        labels.insert(Source::K8s, format!("{}.{name}", key::NAMESPACE_LABELS), value);
    }
    let ports = named_ports(pod);
    if !ports.is_empty() {
        labels.insert(Source::Gen, key::PORTS, ports);
    }
    labels
}

/// Whether a pod's own label counts.
pub fn makes_identity(name: &str) -> bool {
    !name.starts_with(RESERVED)
        && !IGNORED.iter().any(|prefix| name.starts_with(prefix))
        && !beta(name)
}

/// `*beta.kubernetes.io`: the old spellings of well-known labels.
fn beta(name: &str) -> bool {
    name.contains("beta.kubernetes.io")
}

/// The named ports as the `gen:ports` label spells them.
fn named_ports(pod: &Pod) -> String {
    let mut ports: Vec<String> = pod
        .ports
        .iter()
        .filter_map(|port| {
            port.name.as_ref().map(|name| format!("{name}={}/{}", port.protocol, port.port))
        })
        .collect();
    ports.sort();
    ports.dedup();
    ports.join(";")
}
