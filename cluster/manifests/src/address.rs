//! Addresses of pods where no cluster gave them one.

use ipnet::Ipv4Net;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};
use weft_types::{NamespacedName, NodeName, Object, object::Pod};

/// Where the pods of no node in particular are.
const POOL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16);

/// The address of every pod: the one it has, else, in the order of names, the next free one of its node's
/// first pod prefix or, without a node, of 10.244.0.0/16 outside every node's prefix. The first two and the
/// last of a prefix (network, gateway, broadcast) are nobody's. The same objects always get the same
/// addresses. A pod for which nothing is left has none.
pub fn addresses(objects: &[Object]) -> BTreeMap<NamespacedName, Ipv4Addr> {
    let mut given = BTreeMap::new();
    let mut taken = BTreeSet::new();
    let mut prefixes: BTreeMap<&NodeName, Ipv4Net> = BTreeMap::new();
    let mut waiting: BTreeMap<&NamespacedName, &Pod> = BTreeMap::new();
    for object in objects {
        match object {
            Object::Node(node) => {
                taken.insert(node.address);
                prefixes.extend(node.pod_cidrs.first().map(|cidr| (&node.name, *cidr)));
            }
            Object::Pod(pod) => match pod.address {
                Some(address) => {
                    taken.insert(address);
                    given.insert(pod.name.clone(), address);
                }
                None => drop(waiting.insert(&pod.name, pod)),
            },
            Object::Namespace(_) | Object::Policy(_) => {}
        }
    }
    let nodes: Vec<Ipv4Net> = prefixes.values().copied().collect();
    let mut pools: BTreeMap<Ipv4Net, Box<dyn Iterator<Item = Ipv4Addr>>> = BTreeMap::new();
    for (name, pod) in waiting {
        let own = pod.node.as_ref().and_then(|node| prefixes.get(node)).copied();
        for prefix in own.into_iter().chain([POOL]) {
            let pool = pools.entry(prefix).or_insert_with(|| {
                let nodes = if own == Some(prefix) { Vec::new() } else { nodes.clone() };
                let of_node = move |a: &Ipv4Addr| nodes.iter().any(|cidr| cidr.contains(a));
                Box::new(prefix.hosts().skip(1).filter(move |address| !of_node(address)))
            });
            if let Some(address) = pool.find(|address| taken.insert(*address)) {
                given.insert(name.clone(), address);
                break;
            }
        }
    }
    given
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]
    use super::*;
    use weft_types::Node;

    fn pod(name: &str, node: Option<&str>, address: Option<&str>) -> Object {
        Object::Pod(Pod {
            name: NamespacedName::new("a", name),
            labels: BTreeMap::new(),
            service_account: "default".to_owned(),
            ports: Vec::new(),
            node: node.map(|node| NodeName(node.to_owned())),
            address: address.map(|address| address.parse().unwrap()),
            command: Vec::new(),
        })
    }

    fn node(name: &str, address: &str, cidr: &str) -> Object {
        let (address, pod_cidrs) = (address.parse().unwrap(), vec![cidr.parse().unwrap()]);
        Object::Node(Node { name: NodeName(name.to_owned()), address, pod_cidrs })
    }

    fn spelled(objects: &[Object]) -> Vec<String> {
        addresses(objects).iter().map(|(pod, at)| format!("{}={at}", pod.name)).collect()
    }

    #[test]
    fn pods_get_the_next_free_address_in_the_order_of_their_names() {
        let mut objects =
            vec![pod("c", None, None), pod("b", None, Some("10.244.0.3")), pod("a", None, None)];
        let expected = ["a=10.244.0.2", "b=10.244.0.3", "c=10.244.0.4"];
        assert_eq!(spelled(&objects), expected);
        objects.reverse();
        assert_eq!(spelled(&objects), expected, "whatever the order of the documents");
    }

    #[test]
    fn a_pod_of_a_node_has_an_address_of_its_prefix_until_that_is_full() {
        let objects = [
            node("n", "10.9.0.3", "10.9.0.0/29"),
            node("m", "192.168.0.1", "10.244.0.0/24"),
            pod("a", Some("n"), None),
            pod("b", Some("n"), None),
            pod("c", Some("n"), None),
            pod("d", Some("n"), None),
            pod("e", Some("n"), None),
            pod("f", None, None),
            pod("g", Some("m"), None),
            pod("h", Some("unknown"), None),
        ];
        // .0 network, .1 gateway, .3 the node itself, .7 broadcast; node m's prefix is its own.
        let expected = [
            "a=10.9.0.2",
            "b=10.9.0.4",
            "c=10.9.0.5",
            "d=10.9.0.6",
            "e=10.244.1.0",
            "f=10.244.1.1",
            "g=10.244.0.2",
            "h=10.244.1.2",
        ];
        assert_eq!(spelled(&objects), expected);
    }

    #[test]
    fn a_pool_has_room_for_every_pod_of_a_file_set() {
        let objects: Vec<Object> =
            (0..crate::set::PODS_MAX).map(|n| pod(&format!("p{n}"), None, None)).collect();
        let given = addresses(&objects);
        let distinct: BTreeSet<_> = given.values().collect();
        assert_eq!(distinct.len(), objects.len());
    }
}
