//! The label set that is a pod's identity: its own labels, filtered, and what the system adds.

use crate::{
    label::{LabelSet, Source, key},
    label_filter::LabelFilter,
    object::{Namespace, Pod},
};
use std::collections::BTreeMap;

/// Labels that the system alone may set.
const RESERVED: &str = "io.cilium.k8s.";

impl LabelFilter {
    /// The label set of a pod in its namespace: what the pod may set itself and what the system adds, both
    /// filtered; and its named ports, which are not.
    pub fn identity_labels(&self, pod: &Pod, namespace: &Namespace, cluster: &str) -> LabelSet {
        let mut labels = LabelSet::new();
        let mut add = |key: &str, value: &str| {
            if self.keeps(Source::K8s, key) {
                labels.insert(Source::K8s, key, value);
            }
        };
        for (name, value) in pod.labels.iter().filter(|(name, _)| !name.starts_with(RESERVED)) {
            add(name, value);
        }
        add(key::NAMESPACE, &pod.name.namespace);
        add(key::SERVICE_ACCOUNT, &pod.service_account);
        add(key::CLUSTER, cluster);
        for (name, value) in &namespace.labels {
            add(&format!("{}.{name}", key::NAMESPACE_LABELS), value);
        }
        let ports = named_ports(pod);
        if !ports.is_empty() {
            labels.insert(Source::Gen, key::PORTS, ports);
        }
        labels
    }
}

/// Whether a pod's own label counts by default.
pub fn makes_identity(name: &str) -> bool {
    !name.starts_with(RESERVED) && LabelFilter::default().keeps(Source::K8s, name)
}

/// The named ports as the `gen:ports` label spells them. Of two ports of one name and protocol, in two
/// containers, the first counts, as in Kubernetes.
fn named_ports(pod: &Pod) -> String {
    let mut ports = BTreeMap::new();
    for port in &pod.ports {
        if let Some(name) = &port.name {
            ports.entry((name, port.protocol)).or_insert(port.port);
        }
    }
    let spelled = ports.iter().map(|((name, protocol), port)| format!("{name}={protocol}/{port}"));
    spelled.collect::<Vec<_>>().join(";")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{name::NamespacedName, policy::Protocol, workload::ContainerPort};

    fn pod(labels: &[(&str, &str)], ports: &[(&str, Protocol, u16)]) -> Pod {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Pod {
            name: NamespacedName::new("shop", "cart-0"),
            labels: labels.iter().map(own).collect(),
            service_account: "default".to_owned(),
            ports: ports
                .iter()
                .map(|(name, protocol, port)| ContainerPort {
                    name: Some((*name).to_owned()),
                    protocol: *protocol,
                    port: *port,
                })
                .collect(),
            node: None,
            address: None,
            command: Vec::new(),
        }
    }

    fn labels_of(pod: &Pod) -> String {
        let labels = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
        let namespace = Namespace { name: "shop".to_owned(), labels };
        LabelFilter::default().identity_labels(pod, &namespace, "blue").to_string()
    }

    #[test]
    fn the_system_adds_namespace_account_and_cluster() {
        let expected = "k8s:app=cart,k8s:io.cilium.k8s.namespace.labels.team=shop,\
             k8s:io.cilium.k8s.policy.cluster=blue,k8s:io.cilium.k8s.policy.serviceaccount=default,\
             k8s:io.kubernetes.pod.namespace=shop";
        assert_eq!(labels_of(&pod(&[("app", "cart")], &[])), expected);
    }

    #[test]
    fn a_pod_cannot_set_what_the_system_sets() {
        let honest = labels_of(&pod(&[], &[]));
        for key in [
            "io.kubernetes.pod.namespace",
            "io.cilium.k8s.namespace.labels.team",
            "io.cilium.k8s.namespace.labels.pci",
            "io.cilium.k8s.policy.serviceaccount",
            "io.cilium.k8s.policy.cluster",
        ] {
            assert_eq!(labels_of(&pod(&[(key, "forged")], &[])), honest, "{key}");
        }
    }

    #[test]
    fn labels_that_differ_from_pod_to_pod_make_no_identity() {
        for key in
            ["pod-template-hash", "controller-uid", "kubernetes.io/x", "x.beta.kubernetes.io/y"]
        {
            assert!(!makes_identity(key), "{key}");
        }
        for key in ["app", "app.kubernetes.io/name", "tier", "example.org/k8s.io"] {
            assert!(makes_identity(key), "{key}");
        }
    }

    #[test]
    fn the_first_port_of_a_name_and_protocol_counts() {
        let ports = [
            ("http", Protocol::Tcp, 8080),
            ("dns", Protocol::Udp, 53),
            ("http", Protocol::Tcp, 9090),
            ("dns", Protocol::Tcp, 5353),
        ];
        let spelled = "gen:ports=dns=TCP/5353;dns=UDP/53;http=TCP/8080";
        assert!(labels_of(&pod(&[], &ports)).ends_with(spelled));
    }
}
