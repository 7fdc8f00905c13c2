//! Pods, what makes pods, and nodes.

use crate::{
    check,
    document::labels,
    finding::{Findings, Place, Sink, quoted},
    set::{Made, Owner, PODS_MAX},
};
use k8s_openapi::{
    api::core::v1::{NodeSpec, NodeStatus, Pod, PodSpec, PodStatus, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};
use weft_types::{NamespacedName, Node, NodeName, Object, object, workload::ContainerPort};

/// What makes pods, with the pod it makes.
#[derive(Clone, Debug)]
pub(crate) struct Maker {
    pub(crate) kind: &'static str,
    pub(crate) name: NamespacedName,
    pub(crate) owners: Vec<Owner>,
    pub(crate) replicas: usize,
    /// The pod, named as its controller; none when its pods use the host's network.
    pub(crate) pod: Option<object::Pod>,
}

impl Maker {
    /// Its pods, `NAME-0`, `NAME-1`…, if there is room for them.
    pub(crate) fn expand(
        &self,
        room: usize,
        place: &Place,
        findings: &mut Findings,
    ) -> Vec<object::Pod> {
        let Some(pod) = &self.pod else { return Vec::new() };
        if self.replicas > room {
            let problem = format!(
                "asks for {} pods; with the others that is more than the {PODS_MAX} of a file set",
                self.replicas
            );
            findings.error(place, "spec.replicas", problem);
            return Vec::new();
        }
        let numbered = |index: usize| {
            let name = format!("{}-{index}", self.name.name);
            let name = NamespacedName::new(&self.name.namespace, name);
            object::Pod { name, ..pod.clone() }
        };
        (0..self.replicas).map(numbered).collect()
    }
}

/// A pod. Those on their host's network, and those that have ended, are no endpoints.
pub(crate) fn pod(name: NamespacedName, pod: Pod, sink: &mut Sink<'_>) -> Option<Made> {
    let Some(spec) = pod.spec else {
        sink.missing("spec");
        return None;
    };
    let status = pod.status.unwrap_or_default();
    let owners = owners(&pod.metadata);
    let host_network = spec.host_network == Some(true);
    let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let mut made = make(name, &pod.metadata, spec, "spec", sink);
    if host_network {
        return Some(Made::Nothing("Pod (host network)".to_owned(), owners));
    }
    if ended {
        return Some(Made::Nothing("Pod (ended)".to_owned(), owners));
    }
    made.address = address(&status, sink);
    Some(Made::Owned(made, owners))
}

/// `status.podIP`, or the IPv4 one of `status.podIPs`.
fn address(status: &PodStatus, sink: &mut Sink<'_>) -> Option<Ipv4Addr> {
    let others = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let others = others.enumerate().map(|(at, ip)| (format!("status.podIPs[{at}].ip"), ip));
    let first = status.pod_ip.as_deref().map(|ip| ("status.podIP".to_owned(), ip));
    let mut six = None;
    for (field, text) in first.into_iter().chain(others).filter(|(_, text)| !text.is_empty()) {
        match text.parse() {
            Ok(IpAddr::V4(address)) => return Some(address),
            Ok(IpAddr::V6(_)) => six = six.or(Some((field, text))),
            Err(_) => sink.error(&field, format!("{} is not an IP address", quoted(text))),
        }
    }
    if let Some((field, text)) = six {
        sink.warning(
            &field,
            format!("{text} is not used: Weft speaks IPv4; the pod gets an address"),
        );
    }
    None
}

/// The pod of a template, named as its controller; `Some(None)` when it is no endpoint.
#[allow(
    clippy::option_option,
    reason = "no template, and a template of no endpoint, are not the same"
)]
pub(crate) fn template(
    name: &NamespacedName,
    template: PodTemplateSpec,
    sink: &mut Sink<'_>,
) -> Option<Option<object::Pod>> {
    let Some(spec) = template.spec else {
        sink.missing("spec.template.spec");
        return None;
    };
    let metadata = template.metadata.unwrap_or_default();
    labels(&metadata, "spec.template.metadata", sink);
    let host_network = spec.host_network == Some(true);
    let pod = make(name.clone(), &metadata, spec, "spec.template.spec", sink);
    Some((!host_network).then_some(pod))
}

/// Checks that a controller selects the pods that it makes.
pub(crate) fn selects(selector: &LabelSelector, template: &PodTemplateSpec, sink: &mut Sink<'_>) {
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    for (key, value) in selector.match_labels.iter().flatten() {
        if labels.and_then(|labels| labels.get(key)) != Some(value) {
            let problem = format!(
                "the labels of spec.template do not have {}",
                quoted(&format!("{key}: {value}"))
            );
            sink.error(&format!("spec.selector.matchLabels.{key}"), problem);
        }
    }
}

/// How many pods a controller asks for.
pub(crate) fn replicas(replicas: Option<i32>, sink: &mut Sink<'_>) -> usize {
    usize::try_from(replicas.unwrap_or(1)).unwrap_or_else(|_| {
        sink.error("spec.replicas", "must not be below 0");
        0
    })
}

/// Who owns an object. A pod whose ReplicaSet is a Deployment's is the Deployment's too, also where the
/// ReplicaSet itself was not dumped: its name is the Deployment's and the hash that the pod has as a label.
pub(crate) fn owners(metadata: &ObjectMeta) -> Vec<Owner> {
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    let hash = metadata.labels.as_ref().and_then(|labels| labels.get("pod-template-hash"));
    let mut owners = Vec::new();
    for owner in metadata.owner_references.iter().flatten() {
        let of = |kind: &str, name: &str| (kind.to_owned(), NamespacedName::new(namespace, name));
        owners.push(of(&owner.kind, &owner.name));
        let deployment = hash
            .filter(|_| owner.kind == "ReplicaSet")
            .and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
        owners.extend(deployment.map(|name| of("Deployment", name)));
    }
    owners
}

/// A node: its InternalIP and pod prefixes. One without an IPv4 InternalIP is no endpoint.
pub(crate) fn node(
    name: String,
    spec: Option<NodeSpec>,
    status: Option<NodeStatus>,
    sink: &mut Sink<'_>,
) -> Made {
    let spec = spec.unwrap_or_default();
    let mut pod_cidrs = Vec::new();
    let cidrs = spec.pod_cidrs.or(spec.pod_cidr.map(|cidr| vec![cidr])).unwrap_or_default();
    for (at, text) in cidrs.iter().enumerate() {
        match text.parse() {
            Ok(ipnet::IpNet::V4(cidr)) => pod_cidrs.push(cidr),
            Ok(ipnet::IpNet::V6(_)) => {}
            Err(_) => sink
                .error(&format!("spec.podCIDRs[{at}]"), format!("{} is not a CIDR", quoted(text))),
        }
    }
    let addresses = status.and_then(|status| status.addresses).unwrap_or_default();
    let mut internal = None;
    for (at, address) in addresses.iter().enumerate().filter(|(_, a)| a.type_ == "InternalIP") {
        match address.address.parse() {
            Ok(IpAddr::V4(address)) => internal = internal.or(Some(address)),
            Ok(IpAddr::V6(_)) => {}
            Err(_) => sink.error(
                &format!("status.addresses[{at}].address"),
                format!("{} is not an IP address", quoted(&address.address)),
            ),
        }
    }
    match internal {
        Some(address) => {
            Made::Object(Object::Node(Node { name: NodeName(name), address, pod_cidrs }))
        }
        None => {
            sink.warning("status.addresses", "has no IPv4 InternalIP: the node is left out");
            Made::Nothing("Node (no address)".to_owned(), Vec::new())
        }
    }
}

fn make(
    name: NamespacedName,
    metadata: &ObjectMeta,
    spec: PodSpec,
    at: &str,
    sink: &mut Sink<'_>,
) -> object::Pod {
    let service_account = spec.service_account_name.or(spec.service_account);
    let service_account =
        service_account.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned());
    sink.check(&format!("{at}.serviceAccountName"), &service_account, check::dns_subdomain);
    let node = spec.node_name.filter(|name| !name.is_empty());
    if let Some(name) = &node {
        sink.check(&format!("{at}.nodeName"), name, check::dns_subdomain);
    }
    let mut ports = Vec::new();
    for (c, container) in spec.containers.iter().enumerate() {
        let mut names = BTreeMap::new();
        for (p, port) in container.ports.iter().flatten().enumerate() {
            let field = |name: &str| format!("{at}.containers[{c}].ports[{p}].{name}");
            let name = port.name.clone().filter(|name| !name.is_empty());
            if let Some(name) = &name {
                sink.check(&field("name"), name, check::port_name);
                if names.insert(name.clone(), p).is_some() {
                    sink.error(
                        &field("name"),
                        format!("{} is there twice in this container", quoted(name)),
                    );
                }
            }
            let number = check::port_number(port.container_port);
            if number.is_none() {
                sink.error(
                    &field("containerPort"),
                    format!("{} is not from 1 to 65535", port.container_port),
                );
            }
            let protocol = check::protocol(port.protocol.as_deref());
            if protocol.is_none() {
                let text = port.protocol.as_deref().unwrap_or_default();
                sink.error(&field("protocol"), format!("{} is not TCP, UDP or SCTP", quoted(text)));
            }
            if let (Some(protocol), Some(port)) = (protocol, number) {
                ports.push(ContainerPort { name, protocol, port });
            }
        }
    }
    let first = spec.containers.into_iter().next();
    object::Pod {
        name,
        labels: metadata.labels.clone().unwrap_or_default(),
        service_account,
        ports,
        node: node.map(NodeName),
        address: None,
        command: first
            .map(|c| c.command.into_iter().chain(c.args).flatten().collect())
            .unwrap_or_default(),
    }
}
