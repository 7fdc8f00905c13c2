//! Pods, what makes pods, and nodes.

use crate::document::missing;
use k8s_openapi::{
    api::core::v1::{Node, Pod, PodSpec, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::net::Ipv4Addr;
use weft_types::{
    NamespacedName, NodeName, Object, object, policy::Protocol, workload::ContainerPort,
};

type Problems = Vec<(String, String)>;

/// The most replicas that one object may ask for: a lab is one machine.
const REPLICAS_MAX: i32 = 1000;

/// A pod.
pub(crate) fn pod(pod: Pod) -> Result<Vec<Object>, Problems> {
    let spec = pod.spec.ok_or_else(|| missing("spec"))?;
    let address = match pod.status.and_then(|status| status.pod_ip) {
        Some(text) => Some(text.parse::<Ipv4Addr>().map_err(|_| {
            vec![("status.podIP".to_owned(), format!("{text:?} is not an IPv4 address"))]
        })?),
        None => None,
    };
    let name = name_of(&pod.metadata)?;
    Ok(vec![Object::Pod(make(name, &pod.metadata, &spec, address, "spec")?)])
}

/// The pods of a controller: `NAME-0`, `NAME-1`…
pub(crate) fn replicas(
    metadata: ObjectMeta,
    replicas: Option<i32>,
    template: PodTemplateSpec,
) -> Result<Vec<Object>, Problems> {
    let owner = name_of(&metadata)?;
    let spec = template.spec.ok_or_else(|| missing("spec.template.spec"))?;
    let meta = template.metadata.unwrap_or_default();
    let count = replicas.unwrap_or(1);
    if !(0..=REPLICAS_MAX).contains(&count) {
        let problem = format!("must be from 0 to {REPLICAS_MAX}");
        return Err(vec![("spec.replicas".to_owned(), problem)]);
    }
    (0..count)
        .map(|index| {
            let name = NamespacedName::new(&owner.namespace, format!("{}-{index}", owner.name));
            make(name, &meta, &spec, None, "spec.template.spec").map(Object::Pod)
        })
        .collect()
}

/// A node: its InternalIP and pod prefixes.
pub(crate) fn node(node: Node) -> Result<Vec<Object>, Problems> {
    let name = node.metadata.name.ok_or_else(|| missing("metadata.name"))?;
    let internal = node
        .status
        .and_then(|status| status.addresses)
        .into_iter()
        .flatten()
        .find(|address| address.type_ == "InternalIP")
        .ok_or_else(|| missing("status.addresses[type=InternalIP]"))?;
    let field = || "status.addresses".to_owned();
    let address = internal
        .address
        .parse()
        .map_err(|_| vec![(field(), format!("{:?} is not an IPv4 address", internal.address))])?;
    let cidrs = node.spec.map(|spec| (spec.pod_cidrs, spec.pod_cidr));
    let texts = match cidrs {
        Some((Some(cidrs), _)) => cidrs,
        Some((None, Some(cidr))) => vec![cidr],
        _ => Vec::new(),
    };
    let pod_cidrs = texts.iter().filter_map(|text| text.parse().ok()).collect();
    Ok(vec![Object::Node(weft_types::Node { name: NodeName(name), address, pod_cidrs })])
}

fn name_of(metadata: &ObjectMeta) -> Result<NamespacedName, Problems> {
    let name = metadata.name.clone().ok_or_else(|| missing("metadata.name"))?;
    let namespace = metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    Ok(NamespacedName::new(namespace, name))
}

fn make(
    name: NamespacedName,
    metadata: &ObjectMeta,
    spec: &PodSpec,
    address: Option<Ipv4Addr>,
    at: &str,
) -> Result<object::Pod, Problems> {
    let mut ports = Vec::new();
    for (c, container) in spec.containers.iter().enumerate() {
        for (p, port) in container.ports.iter().flatten().enumerate() {
            let field = |name: &str| format!("{at}.containers[{c}].ports[{p}].{name}");
            ports.push(ContainerPort {
                name: port.name.clone(),
                protocol: protocol(port.protocol.as_deref())
                    .map_err(|problem| vec![(field("protocol"), problem)])?,
                port: u16::try_from(port.container_port).ok().filter(|n| *n > 0).ok_or_else(
                    || vec![(field("containerPort"), "must be from 1 to 65535".to_owned())],
                )?,
            });
        }
    }
    Ok(object::Pod {
        name,
        labels: metadata.labels.clone().unwrap_or_default(),
        service_account: spec.service_account_name.clone().unwrap_or_else(|| "default".to_owned()),
        ports,
        node: spec.node_name.clone().map(NodeName),
        address,
        command: spec
            .containers
            .first()
            .map(|c| c.command.iter().chain(&c.args).flatten().cloned().collect())
            .unwrap_or_default(),
    })
}

/// A protocol as the API spells it; TCP when absent.
pub(crate) fn protocol(text: Option<&str>) -> Result<Protocol, String> {
    match text.unwrap_or("TCP") {
        "TCP" => Ok(Protocol::Tcp),
        "UDP" => Ok(Protocol::Udp),
        "SCTP" => Ok(Protocol::Sctp),
        other => Err(format!("{other:?} is not TCP, UDP or SCTP")),
    }
}
