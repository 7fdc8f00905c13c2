//! Who has an address: the desired rows of the two address maps and the routes to other nodes. A change costs the rows it touches.

use ipnet::Ipv4Net;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
};
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
    node_at: BTreeMap<Ipv4Addr, NodeName>,
    cidrs: BTreeMap<Ipv4Net, NodeName>,
    pods: BTreeMap<Ipv4Addr, PodEndpoint>,
    local: BTreeMap<Ipv4Addr, LocalPod>,
    prefixes: BTreeMap<Ipv4Net, u32>,
    changed: Changed,
    /// Whose address found no room first.
    newcomer: Option<Ipv4Addr>,
}

/// More addresses than there is room for. Nothing of what changed was committed, and what was there before goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crowded {
    /// How many there would be.
    pub wanted: usize,
    /// How many there may be.
    pub room: usize,
    /// One of those that came last, with its address.
    pub newcomer: String,
}

impl fmt::Display for Crowded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, room, newcomer } = self;
        write!(
            f,
            "pods and nodes would have {wanted} addresses and may have {room}: {newcomer} finds no room, and what was in \
             force stays so. Remove pods, or raise --address-entries"
        )
    }
}

/// What may differ from the last commit.
#[derive(Clone, Debug, Default)]
struct Changed {
    addresses: BTreeSet<Ipv4Addr>,
    prefixes: BTreeSet<Ipv4Net>,
    routes: bool,
}

/// A pod of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalPod {
    /// Its identity.
    pub identity: Identity,
    /// Host side of its link.
    pub ifindex: u32,
}

/// All rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Exact addresses.
    pub addresses: BTreeMap<Ipv4Addr, AddressEntry>,
    /// Prefixes.
    pub prefixes: BTreeMap<Ipv4Net, PrefixEntry>,
}

/// Rows as they are now, where they may differ from the last commit; none where there is no row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Exact addresses.
    pub addresses: BTreeMap<Ipv4Addr, Option<AddressEntry>>,
    /// Prefixes.
    pub prefixes: BTreeMap<Ipv4Net, Option<PrefixEntry>>,
    /// Whether routes changed.
    pub routes: bool,
}

impl Ipcache {
    /// Of this node.
    pub fn new(own: NodeName) -> Self {
        let mut changed = Changed::default();
        changed.prefixes.insert(Ipv4Net::default());
        Self {
            own,
            nodes: BTreeMap::new(),
            node_at: BTreeMap::new(),
            cidrs: BTreeMap::new(),
            pods: BTreeMap::new(),
            local: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            changed,
            newcomer: None,
        }
    }

    /// Adds or replaces a node.
    pub fn upsert_node(&mut self, node: Node) {
        self.delete_node(&node.name);
        self.node_at.insert(node.address, node.name.clone());
        self.cidrs.extend(node.pod_cidrs.iter().map(|cidr| (*cidr, node.name.clone())));
        self.touch_node(&node);
        self.nodes.insert(node.name.clone(), node);
    }

    /// A node left.
    pub fn delete_node(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.remove(name) else { return };
        // Another may have taken its address or prefix already.
        if self.node_at.get(&node.address) == Some(name) {
            self.node_at.remove(&node.address);
        }
        for cidr in &node.pod_cidrs {
            if self.cidrs.get(cidr) == Some(name) {
                self.cidrs.remove(cidr);
            }
        }
        self.touch_node(&node);
    }

    /// Its own rows, its prefixes' and its pods' may change, and what policies name inside its prefixes.
    fn touch_node(&mut self, node: &Node) {
        self.changed.routes = true;
        self.changed.addresses.insert(node.address);
        self.changed.prefixes.extend(&node.pod_cidrs);
        self.changed.prefixes.extend(self.prefixes.keys());
        for cidr in &node.pod_cidrs {
            let inside = self.pods.range(cidr.network()..=cidr.broadcast());
            self.changed.addresses.extend(inside.map(|(address, _)| *address));
        }
    }

    /// A pod has an address, here or elsewhere.
    pub fn upsert_pod(&mut self, pod: PodEndpoint) {
        self.changed.addresses.insert(pod.address);
        self.pods.insert(pod.address, pod);
    }

    /// An address is nobody's.
    pub fn delete_pod(&mut self, address: Ipv4Addr) {
        self.changed.addresses.insert(address);
        self.pods.remove(&address);
    }

    /// A pod of this node has a link.
    pub fn upsert_local(&mut self, address: Ipv4Addr, pod: LocalPod) {
        self.changed.addresses.insert(address);
        self.local.insert(address, pod);
    }

    /// The pods of this node that have a link; they count before what operators say.
    pub fn set_local(&mut self, local: BTreeMap<Ipv4Addr, LocalPod>) {
        let differs = |address: &&Ipv4Addr| self.local.get(*address) != local.get(*address);
        let touched: Vec<Ipv4Addr> =
            self.local.keys().chain(local.keys()).filter(differs).copied().collect();
        self.changed.addresses.extend(touched);
        self.local = local;
    }

    /// The prefixes that policies name.
    pub fn set_prefixes(&mut self, prefixes: BTreeMap<Ipv4Net, u32>) {
        // A prefix that comes or goes is the closest one around others.
        self.changed.prefixes.extend(self.prefixes.keys().chain(prefixes.keys()));
        self.changed.prefixes.extend(self.cidrs.keys());
        self.changed.prefixes.insert(Ipv4Net::default());
        self.prefixes = prefixes;
    }

    /// Forgets nodes and pods, for a snapshot that says all of them anew.
    pub fn clear(&mut self) {
        self.changed.routes = true;
        self.changed.addresses.extend(self.node_at.keys().chain(self.pods.keys()));
        self.changed.prefixes.extend(self.cidrs.keys().chain(self.prefixes.keys()));
        self.nodes.clear();
        self.node_at.clear();
        self.cidrs.clear();
        self.pods.clear();
    }

    /// Every node.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Who has an address, as operators say.
    pub fn pod(&self, address: Ipv4Addr) -> Option<&PodEndpoint> {
        self.pods.get(&address)
    }

    /// Routes to other nodes' prefixes: prefix, length, node.
    pub fn routes(&self) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
        let others = self.nodes.values().filter(|node| node.name != self.own);
        others
            .flat_map(|node| node.pod_cidrs.iter().map(|cidr| (*cidr, node.address)))
            .map(|(cidr, via)| (cidr.network(), cidr.prefix_len(), via))
            .collect()
    }

    /// Whether there is room for what the next commit would hold.
    pub fn fits(&mut self, room: usize) -> Result<(), Crowded> {
        // Some of these are one row, or none: only near the limit it is worth counting them.
        let most = self.node_at.len() + self.pods.len() + self.local.len();
        let wanted = if most > room { self.rows().addresses.len() } else { most };
        if wanted <= room {
            self.newcomer = None;
            return Ok(());
        }
        // Asked again, everything may have been said again: who was named first came last.
        let candidates = self.newcomer.iter().chain(&self.changed.addresses);
        let named = candidates.copied().find_map(|a| Some((a, self.named(a)?)));
        self.newcomer = named.as_ref().map(|(address, _)| *address);
        let newcomer = named.map_or_else(|| "one of them".to_owned(), |(_, name)| name);
        Err(Crowded { wanted, room, newcomer })
    }

    /// Who has an address, in words.
    fn named(&self, address: Ipv4Addr) -> Option<String> {
        let pod = self.pods.get(&address).map(|pod| format!("pod {} ({address})", pod.name));
        let node = || self.node_at.get(&address).map(|node| format!("node {node} ({address})"));
        let local = || self.local.get(&address).map(|_| format!("a pod of this node ({address})"));
        pod.or_else(node).or_else(local)
    }

    /// What may have changed since the last commit.
    pub fn commit(&mut self) -> Edits {
        let Changed { addresses, prefixes, routes } = std::mem::take(&mut self.changed);
        Edits {
            addresses: addresses.into_iter().map(|a| (a, self.address_row(a))).collect(),
            prefixes: prefixes.into_iter().map(|p| (p, self.prefix_row(p))).collect(),
            routes,
        }
    }

    /// All rows as they should be.
    pub fn rows(&self) -> Rows {
        let addresses =
            self.node_at.keys().chain(self.pods.keys()).chain(self.local.keys()).copied();
        let named = self.prefixes.keys().chain(self.cidrs.keys()).copied();
        let prefixes = named.chain([Ipv4Net::default()]);
        Rows {
            addresses: addresses.filter_map(|a| Some((a, self.address_row(a)?))).collect(),
            prefixes: prefixes.filter_map(|p| Some((p, self.prefix_row(p)?))).collect(),
        }
    }

    fn address_row(&self, address: Ipv4Addr) -> Option<AddressEntry> {
        if let Some(pod) = self.local.get(&address) {
            return Some(row(pod.identity, LOCAL, pod.ifindex, None));
        }
        if let Some(pod) = self.pods.get(&address).filter(|pod| pod.node != self.own) {
            let node = self.nodes.get(&pod.node).map(|node| node.address);
            return Some(row(pod.identity, REMOTE_POD, 0, node));
        }
        self.node_at.get(&address).map(|name| {
            if *name == self.own {
                row(Identity::HOST, HOST, 0, None)
            } else {
                row(Identity::REMOTE_NODE, REMOTE_NODE, 0, None)
            }
        })
    }

    /// What is known of a prefix's addresses: whose pods they would be, and the closest policy prefix around.
    fn prefix_row(&self, prefix: Ipv4Net) -> Option<PrefixEntry> {
        let named = prefix == Ipv4Net::default()
            || self.prefixes.contains_key(&prefix)
            || self.cidrs.contains_key(&prefix);
        if !named {
            return None;
        }
        let mut entry = PrefixEntry::zeroed();
        match around(&self.cidrs, prefix).and_then(|name| self.nodes.get(name)) {
            Some(node) if node.name == self.own => entry.flags = LOCAL,
            Some(node) => {
                entry.flags = REMOTE_POD;
                entry.node = address(node.address);
            }
            None => entry.identity = Identity::WORLD.0,
        }
        entry.cidr = around(&self.prefixes, prefix).copied().unwrap_or(0);
        Some(entry)
    }
}

/// What the longest prefix around this one, itself included, stands for: at most 33 look-ups.
fn around<T>(prefixes: &BTreeMap<Ipv4Net, T>, prefix: Ipv4Net) -> Option<&T> {
    (0..=prefix.prefix_len())
        .rev()
        .find_map(|length| prefixes.get(&Ipv4Net::new(prefix.network(), length).ok()?.trunc()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use weft_types::NamespacedName;

    fn node(number: u8, cidr: &str) -> Node {
        Node {
            name: NodeName(format!("node-{number}")),
            address: Ipv4Addr::new(192, 168, 0, number),
            pod_cidrs: vec![cidr.parse().unwrap()],
        }
    }

    fn pod(address: [u8; 4], identity: u32, node: u8) -> PodEndpoint {
        PodEndpoint {
            name: NamespacedName::new("shop", format!("pod-{identity}")),
            address: address.into(),
            identity: Identity(identity),
            node: NodeName(format!("node-{node}")),
        }
    }

    /// Commits and writes into a model of the kernel's maps, which must then be all rows.
    #[track_caller]
    fn commit(ipcache: &mut Ipcache, kernel: &mut Rows) {
        let edits = ipcache.commit();
        for (address, row) in edits.addresses {
            match row {
                Some(row) => drop(kernel.addresses.insert(address, row)),
                None => drop(kernel.addresses.remove(&address)),
            }
        }
        for (prefix, row) in edits.prefixes {
            match row {
                Some(row) => drop(kernel.prefixes.insert(prefix, row)),
                None => drop(kernel.prefixes.remove(&prefix)),
            }
        }
        assert_eq!(*kernel, ipcache.rows());
    }

    #[test]
    fn edits_lead_to_all_rows() {
        let (mut ipcache, mut kernel) = (Ipcache::new(NodeName("node-1".into())), Rows::default());
        commit(&mut ipcache, &mut kernel);
        // A pod is known before its node is.
        ipcache.upsert_pod(pod([10, 0, 2, 5], 300, 2));
        commit(&mut ipcache, &mut kernel);
        ipcache.upsert_node(node(1, "10.0.1.0/24"));
        ipcache.upsert_node(node(2, "10.0.2.0/24"));
        commit(&mut ipcache, &mut kernel);
        let row = kernel.addresses[&Ipv4Addr::new(10, 0, 2, 5)];
        assert_eq!((row.identity, row.flags), (300, REMOTE_POD));
        let local = LocalPod { identity: Identity(301), ifindex: 9 };
        ipcache.set_local([(Ipv4Addr::new(10, 0, 1, 5), local)].into());
        ipcache.set_prefixes(
            [("10.0.2.0/28".parse().unwrap(), 7), ("10.0.0.0/8".parse().unwrap(), 8)].into(),
        );
        commit(&mut ipcache, &mut kernel);
        assert_eq!(kernel.prefixes[&"10.0.2.0/28".parse::<Ipv4Net>().unwrap()].cidr, 7);
        assert_eq!(kernel.prefixes[&"10.0.2.0/24".parse::<Ipv4Net>().unwrap()].cidr, 8);
        ipcache.upsert_node(Node { address: [192, 168, 0, 9].into(), ..node(2, "10.0.2.0/25") });
        commit(&mut ipcache, &mut kernel);
        ipcache.set_prefixes(BTreeMap::new());
        ipcache.delete_node(&NodeName("node-2".into()));
        commit(&mut ipcache, &mut kernel);
        ipcache.clear();
        ipcache.upsert_node(node(1, "10.0.1.0/24"));
        commit(&mut ipcache, &mut kernel);
        ipcache.set_local(BTreeMap::new());
        ipcache.delete_pod([10, 0, 2, 5].into());
        commit(&mut ipcache, &mut kernel);
        assert_eq!(kernel.addresses.len(), 1, "the node alone");
    }

    #[test]
    fn what_finds_no_room_is_named_and_comes_when_there_is_some() {
        let (mut ipcache, mut kernel) = (Ipcache::new(NodeName("node-1".into())), Rows::default());
        ipcache.upsert_node(node(1, "10.0.1.0/24"));
        ipcache.upsert_pod(pod([10, 0, 2, 5], 300, 2));
        // Known twice, one row; a pod of this node without a link has none.
        ipcache.upsert_pod(pod([10, 0, 1, 5], 301, 1));
        ipcache.upsert_pod(pod([10, 0, 1, 6], 301, 1));
        let local = LocalPod { identity: Identity(301), ifindex: 9 };
        ipcache.upsert_local([10, 0, 1, 5].into(), local);
        assert_eq!(ipcache.fits(3), Ok(()));
        commit(&mut ipcache, &mut kernel);
        ipcache.upsert_pod(pod([10, 0, 2, 6], 302, 2));
        let crowded = ipcache.fits(3).unwrap_err();
        assert_eq!((crowded.wanted, crowded.room), (4, 3));
        assert!(crowded.to_string().contains("pod shop/pod-302 (10.0.2.6)"), "{crowded}");
        ipcache.upsert_pod(pod([10, 0, 1, 5], 301, 1));
        assert_eq!(ipcache.fits(3), Err(crowded), "said again, it is the same");
        assert_eq!(ipcache.fits(4), Ok(()));
        commit(&mut ipcache, &mut kernel);
        assert_eq!(kernel.addresses.len(), 4);
    }

    #[test]
    fn an_address_that_passes_from_node_to_node_stays() {
        let (mut ipcache, mut kernel) = (Ipcache::new(NodeName("node-1".into())), Rows::default());
        ipcache.upsert_node(node(2, "10.0.2.0/24"));
        let heir = Node { name: NodeName("node-3".into()), ..node(2, "10.0.2.0/24") };
        ipcache.upsert_node(heir);
        ipcache.delete_node(&NodeName("node-2".into()));
        commit(&mut ipcache, &mut kernel);
        assert!(kernel.addresses.contains_key(&Ipv4Addr::new(192, 168, 0, 2)));
    }
}
