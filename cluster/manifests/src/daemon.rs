//! A DaemonSet has a pod on each node: how many that is, the nodes say.

use crate::{Controller, Manifests};
use std::collections::BTreeSet;
use weft_types::{NamespacedName, NodeName, Object, object::Pod};

impl Manifests {
    /// Gives every DaemonSet a pod on each of these nodes, `NAME-0` on the first. Without nodes it keeps the one it has.
    pub fn spread_daemons(&mut self, nodes: &[NodeName]) {
        for controller in &mut self.controllers {
            if controller.kind == "DaemonSet" && !nodes.is_empty() {
                spread(controller, &mut self.objects, nodes);
            }
        }
    }
}

fn spread(controller: &mut Controller, objects: &mut Vec<Object>, nodes: &[NodeName]) {
    let own: BTreeSet<NamespacedName> = controller.pods.iter().cloned().collect();
    let is_own = |object: &Object| matches!(object, Object::Pod(pod) if own.contains(&pod.name));
    let Some(Object::Pod(template)) = objects.iter().find(|object| is_own(object)).cloned() else {
        return;
    };
    objects.retain(|object| !is_own(object));
    let taken: BTreeSet<NamespacedName> = objects.iter().filter_map(pod_name).cloned().collect();
    let on = |(number, node): (usize, &NodeName)| Pod {
        name: NamespacedName::new(
            controller.name.namespace.clone(),
            format!("{}-{number}", controller.name.name),
        ),
        node: Some(node.clone()),
        ..template.clone()
    };
    let pods = nodes.iter().enumerate().map(on).filter(|pod| !taken.contains(&pod.name));
    let pods: Vec<Pod> = pods.collect();
    controller.pods = pods.iter().map(|pod| pod.name.clone()).collect();
    objects.extend(pods.into_iter().map(Object::Pod));
}

fn pod_name(object: &Object) -> Option<&NamespacedName> {
    match object {
        Object::Pod(pod) => Some(&pod.name),
        Object::Namespace(_) | Object::Node(_) | Object::Policy(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAEMON: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: log, namespace: ops}
spec:
  selector: {matchLabels: {app: log}}
  template: {metadata: {labels: {app: log}}, spec: {containers: [{name: c, image: i}]}}
";

    fn pods(manifests: &Manifests) -> Vec<String> {
        let node = |pod: &Pod| pod.node.as_ref().map_or("", |node| &*node.0).to_owned();
        let pods = manifests.objects.iter().filter_map(|object| match object {
            Object::Pod(pod) => Some(format!("{} {}", pod.name, node(pod))),
            _ => None,
        });
        pods.collect()
    }

    #[test]
    fn a_daemon_set_has_a_pod_on_each_node_that_there_is() {
        let mut manifests = crate::parse("x", DAEMON).expect("valid");
        assert_eq!(pods(&manifests), ["ops/log-0 "], "no node is described: one pod, anywhere");
        let nodes = |names: &[&str]| names.iter().map(|n| NodeName((*n).to_owned())).collect();
        let two: Vec<NodeName> = nodes(&["a", "b"]);
        manifests.spread_daemons(&two);
        assert_eq!(pods(&manifests), ["ops/log-0 a", "ops/log-1 b"]);
        assert_eq!(manifests.controllers[0].pods.len(), 2);
        manifests.spread_daemons(&nodes(&["c"]));
        assert_eq!(pods(&manifests), ["ops/log-0 c"], "as many as there are nodes");
        manifests.spread_daemons(&[]);
        assert_eq!(pods(&manifests), ["ops/log-0 c"]);
    }

    #[test]
    fn nodes_of_the_manifests_are_nodes() {
        let node = |name: &str, at: u8| {
            format!(
                "---\n{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}, \
                 status: {{addresses: [{{type: InternalIP, address: 10.0.0.{at}}}]}}}}\n"
            )
        };
        let text = [DAEMON, &node("n1", 1), &node("n2", 2)].concat();
        let manifests = crate::parse("x", &text).expect("valid");
        assert_eq!(pods(&manifests), ["ops/log-0 n1", "ops/log-1 n2"]);
    }

    #[test]
    fn another_pod_of_the_name_stays_what_it_is() {
        let other = "---\n{apiVersion: v1, kind: Pod, metadata: {name: log-1, namespace: ops}, \
                     spec: {containers: [{name: c, image: i}]}}\n";
        let mut manifests = crate::parse("x", &[DAEMON, other].concat()).expect("valid");
        let nodes = ["a", "b", "c"].map(|name| NodeName(name.to_owned()));
        manifests.spread_daemons(&nodes);
        assert_eq!(pods(&manifests), ["ops/log-1 ", "ops/log-0 a", "ops/log-2 c"]);
    }
}
