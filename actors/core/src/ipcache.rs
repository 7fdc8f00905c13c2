//! Who has an address: the desired rows of the two address maps.

use ipnet::Ipv4Net;
use std::{collections::BTreeMap, net::Ipv4Addr};
use weft_abi::{
    address::{Addr, Addr4},
    ipcache::{AddressEntry, HOST, LOCAL, PrefixEntry, REMOTE_NODE, REMOTE_POD},
};
use weft_types::{Identity, Node, NodeName, PodEndpoint};

/// Everything the rows depend on.
#[derive(Clone, Debug)]
pub struct Ipcache {
    own: NodeName,
    nodes: BTreeMap<NodeName, Node>,
    pods: BTreeMap<Ipv4Addr, PodEndpoint>,
    local: BTreeMap<Ipv4Addr, LocalPod>,
    prefixes: BTreeMap<Ipv4Net, u32>,
}

/// A pod of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalPod {
    /// Its identity.
    pub identity: Identity,
    /// Host side of its link.
    pub ifindex: u32,
}

/// The rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Exact addresses.
    pub addresses: BTreeMap<Ipv4Addr, AddressEntry>,
    /// Prefixes.
    pub prefixes: BTreeMap<Ipv4Net, PrefixEntry>,
}

impl Ipcache {
    /// Of this node.
    pub fn new(own: NodeName) -> Self {
        Self {
            own,
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            local: BTreeMap::new(),
            prefixes: BTreeMap::new(),
        }
    }

    /// Adds or replaces a node.
    pub fn upsert_node(&mut self, node: Node) {
        self.nodes.insert(node.name.clone(), node);
    }

    /// A node left.
    pub fn delete_node(&mut self, name: &NodeName) {
        self.nodes.remove(name);
    }

    /// A pod has an address, here or elsewhere.
    pub fn upsert_pod(&mut self, pod: PodEndpoint) {
        self.pods.insert(pod.address, pod);
    }

    /// An address is nobody's.
    pub fn delete_pod(&mut self, address: Ipv4Addr) {
        self.pods.remove(&address);
    }

    /// A pod of this node has a link; it counts before what operators say.
    pub fn upsert_local(&mut self, address: Ipv4Addr, pod: LocalPod) {
        self.local.insert(address, pod);
    }

    /// A pod of this node is gone.
    pub fn delete_local(&mut self, address: Ipv4Addr) {
        self.local.remove(&address);
    }

    /// The prefixes that policies name.
    pub fn set_prefixes(&mut self, prefixes: BTreeMap<Ipv4Net, u32>) {
        self.prefixes = prefixes;
    }

    /// Forgets nodes and pods, for a snapshot that says all of them anew.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.pods.clear();
    }

    /// Every node.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// This node, once it is known.
    pub fn own(&self) -> Option<&Node> {
        self.nodes.get(&self.own)
    }

    /// Who has an address, as operators say.
    pub fn pod(&self, address: Ipv4Addr) -> Option<&PodEndpoint> {
        self.pods.get(&address)
    }

    /// The rows as they should be.
    pub fn rows(&self) -> Rows {
        Rows { addresses: self.address_rows(), prefixes: self.prefix_rows() }
    }

    fn address_rows(&self) -> BTreeMap<Ipv4Addr, AddressEntry> {
        let mut rows = BTreeMap::new();
        for node in self.nodes.values() {
            let (identity, flags) = if node.name == self.own {
                (Identity::HOST, HOST)
            } else {
                (Identity::REMOTE_NODE, REMOTE_NODE)
            };
            rows.insert(node.address, row(identity, flags, 0, None));
        }
        for pod in self.pods.values().filter(|pod| pod.node != self.own) {
            let node = self.nodes.get(&pod.node).map(|node| node.address);
            rows.insert(pod.address, row(pod.identity, REMOTE_POD, 0, node));
        }
        for (address, pod) in &self.local {
            rows.insert(*address, row(pod.identity, LOCAL, pod.ifindex, None));
        }
        rows
    }

    fn prefix_rows(&self) -> BTreeMap<Ipv4Net, PrefixEntry> {
        let mut rows = BTreeMap::new();
        rows.insert(Ipv4Net::default(), PrefixEntry::zeroed());
        for prefix in self.prefixes.keys() {
            rows.insert(*prefix, PrefixEntry::zeroed());
        }
        for node in self.nodes.values() {
            for cidr in &node.pod_cidrs {
                rows.insert(*cidr, PrefixEntry::zeroed());
            }
        }
        for (prefix, entry) in &mut rows {
            self.fill(prefix, entry);
        }
        rows
    }

    /// What is known of a prefix's addresses: whose pods they would be, and the closest policy prefix around.
    fn fill(&self, prefix: &Ipv4Net, entry: &mut PrefixEntry) {
        let node = self
            .nodes
            .values()
            .find(|node| node.pod_cidrs.iter().any(|cidr| cidr.contains(prefix)));
        match node {
            Some(node) if node.name == self.own => entry.flags = LOCAL,
            Some(node) => {
                entry.flags = REMOTE_POD;
                entry.node = address(node.address);
            }
            None => entry.identity = Identity::WORLD.0,
        }
        entry.cidr = self
            .prefixes
            .iter()
            .filter(|(around, _)| around.contains(prefix))
            .max_by_key(|(around, _)| around.prefix_len())
            .map_or(0, |(_, identity)| *identity);
    }
}

fn address(address: Ipv4Addr) -> Addr {
    Addr::from4(Addr4::new(address.octets()))
}

fn row(identity: Identity, flags: u32, ifindex: u32, node: Option<Ipv4Addr>) -> AddressEntry {
    AddressEntry {
        identity: identity.0,
        flags,
        ifindex,
        node: node.map_or(Addr::zeroed(), address),
        ..AddressEntry::zeroed()
    }
}
