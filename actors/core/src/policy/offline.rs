//! A whole cluster judged without a kernel: every node's rows and classes as tables of the verdict crate.
//!
//! What judges is [`judge_flow`], the code of the kernel's programs; what it looks things up in are the rows
//! that the agents' own cores make. So an answer from here is an answer of the fabric.

use super::{Engine, Entries, ports};
use crate::ipcache::{Ipcache, LocalPod, Rows};
use ipnet::{IpNet, Ipv4Net};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};
use weft_abi::{
    address::{Addr4, NetPort},
    drop::DropReason,
    endpoint::Endpoint,
    ipcache::{AddressEntry, HOST, LOCAL, PrefixEntry, REMOTE_POD},
    policy::{
        INGRESS, PREFIX_ANY, PREFIX_PORT, PREFIX_PROTOCOL, PolicyEntry, PolicyKey, PolicyPrefix,
    },
};
use weft_types::{
    Identity, LabelFilter, LabelSet, NamespacedName, Node, NodeName, Object, PodEndpoint,
    object::{Namespace, Pod},
    policy::{Direction, Isolation, Peer, Peers, PolicyId, Port, Ports, Rule, RuleId},
};
use weft_verdict::{
    flow::{Judgement, Opening, World, judge_flow},
    policy::Class,
};

/// The cluster that labels name when no operator gave it a name.
const CLUSTER: &str = "default";

/// A cluster as its manifests describe it.
#[derive(Debug)]
pub struct Offline {
    engine: Engine,
    pods: BTreeMap<NamespacedName, PodEndpoint>,
    by_address: BTreeMap<Ipv4Addr, NamespacedName>,
    nodes: BTreeMap<NodeName, Node>,
    tables: BTreeMap<NodeName, Tables>,
    classes: BTreeMap<u32, Entries>,
}

/// A connection in the direction it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who opens it.
    pub from: Ipv4Addr,
    /// Who is called.
    pub to: Ipv4Addr,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port; for ICMP, its type.
    pub port: u16,
}

/// What one end's policies say, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// The end is no pod of the cluster, so policies say nothing of it.
    NoPod,
    /// A pod to itself: it never leaves the pod.
    Itself,
    /// From the pod's own node, which always reaches it.
    OwnNode,
    /// No policy isolates the pod in this direction.
    Open,
    /// These rules allow it.
    Allowed(Vec<RuleId>),
    /// These policies isolate the pod, and no rule of theirs allows it.
    Isolated(Vec<PolicyId>),
    /// Dropped for another reason than a policy.
    Dropped(DropReason),
}

impl Side {
    /// Whether this end lets it.
    pub fn allows(&self) -> bool {
        matches!(self, Self::NoPod | Self::Itself | Self::OwnNode | Self::Open | Self::Allowed(_))
    }
}

/// Both ends' answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the source's policies say.
    pub egress: Side,
    /// What the destination's policies say; judged also where the source's refuse.
    pub ingress: Side,
}

impl Answer {
    /// Whether the connection may be.
    pub fn allowed(&self) -> bool {
        self.egress.allows() && self.ingress.allows()
    }
}

/// Why a rule of a policy that isolates an end does, or does not, allow something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The rule.
    pub rule: RuleId,
    /// Whether its peers include the other end.
    pub peer: bool,
    /// Whether its ports include the port.
    pub port: bool,
}

/// What one node's programs would look up.
#[derive(Debug, Default)]
struct Tables {
    rows: Rows,
    endpoints: BTreeMap<u32, Endpoint>,
}

impl Offline {
    /// From objects, the address of each pod (one without is left out), and which labels make identities.
    pub fn new(
        objects: &[Object],
        addresses: &BTreeMap<NamespacedName, Ipv4Addr>,
        filter: &LabelFilter,
    ) -> Self {
        let mut namespaces: BTreeMap<&str, &Namespace> = BTreeMap::new();
        let mut nodes = BTreeMap::new();
        let mut pods: Vec<&Pod> = Vec::new();
        let mut engine = Engine::default();
        for object in objects {
            match object {
                Object::Namespace(namespace) => {
                    namespaces.insert(&namespace.name, namespace);
                }
                Object::Node(node) => {
                    nodes.insert(node.name.clone(), node.clone());
                }
                Object::Pod(pod) => pods.push(pod),
                Object::Policy(policy) => engine.upsert_policy(policy.clone()),
            }
        }
        let sets = label_sets(&pods, &namespaces, filter);
        let distinct: BTreeSet<&LabelSet> = sets.values().collect();
        let numbers: BTreeMap<&LabelSet, Identity> =
            distinct.into_iter().zip((Identity::CLUSTER_MIN..).map(Identity)).collect();
        for (labels, identity) in &numbers {
            engine.upsert_identity(*identity, (*labels).clone());
            engine.hold(*identity);
        }
        let pods: BTreeMap<NamespacedName, PodEndpoint> = pods
            .iter()
            .filter_map(|pod| {
                let address = *addresses.get(&pod.name)?;
                let identity = *numbers.get(sets.get(&pod.name)?)?;
                // Pods that were given no node share one that no manifest describes.
                let node = pod.node.clone().unwrap_or_else(|| NodeName(String::new()));
                let name = pod.name.clone();
                Some((name.clone(), PodEndpoint { name, address, identity, node }))
            })
            .collect();
        for pod in pods.values() {
            engine.upsert_pod(pod.address, pod.identity);
        }
        engine.commit();
        let mut cluster = Self {
            classes: engine.classes(),
            engine,
            by_address: pods.values().map(|pod| (pod.address, pod.name.clone())).collect(),
            pods,
            nodes,
            tables: BTreeMap::new(),
        };
        let hosts: BTreeSet<NodeName> = cluster.pods.values().map(|pod| pod.node.clone()).collect();
        cluster.tables =
            hosts.into_iter().map(|node| (node.clone(), cluster.tables_of(&node))).collect();
        cluster
    }

    fn tables_of(&self, own: &NodeName) -> Tables {
        let mut ipcache = Ipcache::new(own.clone());
        self.nodes.values().cloned().for_each(|node| ipcache.upsert_node(node));
        ipcache.set_prefixes(self.engine.prefixes().clone());
        let mut endpoints = BTreeMap::new();
        for (ifindex, pod) in (1..).zip(self.pods.values()) {
            ipcache.upsert_pod(pod.clone());
            if pod.node == *own {
                ipcache.upsert_local(pod.address, LocalPod { identity: pod.identity, ifindex });
                let endpoint = Endpoint {
                    ifindex,
                    id: ifindex,
                    identity: pod.identity.0,
                    class: pod.identity.0,
                    addr4: address4(pod.address),
                    ..Endpoint::zeroed()
                };
                endpoints.insert(ifindex, endpoint);
            }
        }
        Tables { rows: ipcache.rows(), endpoints }
    }

    /// What the fabric does with a connection.
    pub fn judge(&self, question: &Question) -> Answer {
        if question.from == question.to && self.by_address.contains_key(&question.from) {
            return Answer { egress: Side::Itself, ingress: Side::Itself };
        }
        Answer {
            egress: self.one_side(question, Direction::Egress),
            ingress: self.one_side(question, Direction::Ingress),
        }
    }

    /// Whether the connection passes, judged as the nodes of both ends would: whole where they are one node.
    pub fn passes(&self, question: &Question) -> bool {
        let hosts: BTreeSet<&NodeName> =
            [question.from, question.to].iter().filter_map(|at| self.host(*at)).collect();
        let itself = question.from == question.to && self.by_address.contains_key(&question.from);
        let judges = |node: &&NodeName| {
            self.tables
                .get(*node)
                .is_none_or(|tables| self.run(tables, question, None).refusal.is_none())
        };
        itself || hosts.iter().all(judges)
    }

    /// One end alone, on its own node: the other end counts as being elsewhere.
    fn one_side(&self, question: &Question, direction: Direction) -> Side {
        let (own, other) = match direction {
            Direction::Egress => (question.from, question.to),
            Direction::Ingress => (question.to, question.from),
        };
        let Some(tables) = self.host(own).and_then(|node| self.tables.get(node)) else {
            return Side::NoPod;
        };
        let found = self.run(tables, question, Some(other));
        if let Some(refusal) = found.refusal {
            let by_policy = [DropReason::PolicyDenied, DropReason::PolicyDeny];
            return if by_policy.contains(&refusal.reason) {
                Side::Isolated(self.engine.isolating(refusal.class, direction))
            } else {
                Side::Dropped(refusal.reason)
            };
        }
        let flags = |at: &Ipv4Addr| tables.rows.addresses.get(at).map_or(0, |row| row.flags);
        let rule = match direction {
            Direction::Egress => found.egress_rule,
            Direction::Ingress if flags(&other) & HOST != 0 => return Side::OwnNode,
            Direction::Ingress => found.ingress_rule,
        };
        match rule {
            0 => Side::Open,
            rule => Side::Allowed(self.engine.rules_of(rule)),
        }
    }

    fn run(&self, tables: &Tables, question: &Question, elsewhere: Option<Ipv4Addr>) -> Judgement {
        let moved = elsewhere.and_then(|address| {
            let mut entry = *tables.rows.addresses.get(&address)?;
            if entry.flags & LOCAL != 0 {
                entry.flags = REMOTE_POD;
            }
            Some((address4(address), entry))
        });
        let view = View { cluster: self, tables, moved };
        let opening = Opening {
            source: address4(question.from),
            destination: address4(question.to),
            protocol: question.protocol,
            port: NetPort::from_host(question.port),
        };
        let mut found = Judgement::NOTHING;
        judge_flow(&view, &opening, &mut found);
        found
    }

    /// The node whose pod has an address.
    fn host(&self, address: Ipv4Addr) -> Option<&NodeName> {
        self.pod_at(address).map(|pod| &pod.node)
    }

    /// The pod that has an address.
    pub fn pod_at(&self, address: Ipv4Addr) -> Option<&PodEndpoint> {
        self.pods.get(self.by_address.get(&address)?)
    }

    /// The pods by name.
    pub fn pods(&self) -> &BTreeMap<NamespacedName, PodEndpoint> {
        &self.pods
    }

    /// The nodes by name.
    pub fn nodes(&self) -> &BTreeMap<NodeName, Node> {
        &self.nodes
    }

    /// The engine behind it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Every rule of the policies that isolate an end, and what of it matches.
    pub fn matches(&self, question: &Question, direction: Direction) -> Vec<Match> {
        let (own, other) = match direction {
            Direction::Egress => (question.from, question.to),
            Direction::Ingress => (question.to, question.from),
        };
        let Some(subject) = self.pod_at(own) else { return Vec::new() };
        let isolating = self.engine.isolating(subject.identity.0, direction);
        let peer = self.labels_at(other);
        let destination = self.labels_at(question.to);
        let mut matches = Vec::new();
        for policy in self.engine.policies().filter(|policy| isolating.contains(&policy.id)) {
            let isolation = match direction {
                Direction::Ingress => &policy.ingress,
                Direction::Egress => &policy.egress,
            };
            let Isolation::Isolated(rules) = isolation else { continue };
            for (index, rule) in (0u32..).zip(rules) {
                matches.push(Match {
                    rule: RuleId { policy: policy.id.clone(), direction, index },
                    peer: meets_peer(rule, other, peer),
                    port: meets_port(rule, question, destination),
                });
            }
        }
        matches
    }

    fn labels_at(&self, address: Ipv4Addr) -> Option<&LabelSet> {
        self.engine.labels(self.pod_at(address)?.identity)
    }

    /// Addresses of a block that policies, pods and nodes may tell apart, one of each kind, with the smallest
    /// prefix that they name around it (the block itself where they name none).
    pub fn kinds_within(&self, block: Ipv4Net) -> Vec<(Ipv4Net, Ipv4Addr)> {
        let pods = self.pods.values().map(|pod| pod.address);
        let nodes = self.nodes.values().map(|node| node.address);
        let cidrs = self.nodes.values().flat_map(|node| node.pod_cidrs.iter().copied());
        let named: BTreeSet<Ipv4Net> = pods
            .chain(nodes)
            .map(Ipv4Net::from)
            .chain(self.engine.prefixes().keys().copied())
            .chain(cidrs)
            .filter(|prefix| block.contains(prefix))
            .chain([block.trunc()])
            .collect();
        named
            .iter()
            .filter_map(|prefix| {
                let inner: Vec<Ipv4Net> = named
                    .iter()
                    .filter(|other| *other != prefix && prefix.contains(*other))
                    .copied()
                    .collect();
                first_outside(prefix, &inner).map(|address| (*prefix, address))
            })
            .collect()
    }
}

/// The first address of a prefix that none of the prefixes inside it has.
fn first_outside(prefix: &Ipv4Net, inner: &[Ipv4Net]) -> Option<Ipv4Addr> {
    let mut at = prefix.network();
    // Sorted by network and then by length, so one pass is enough.
    for net in inner {
        if net.contains(&at) {
            at = Ipv4Addr::from(u32::from(net.broadcast()).checked_add(1)?);
        }
    }
    prefix.contains(&at).then_some(at)
}

/// The label set of each pod.
fn label_sets(
    pods: &[&Pod],
    namespaces: &BTreeMap<&str, &Namespace>,
    filter: &LabelFilter,
) -> BTreeMap<NamespacedName, LabelSet> {
    let labels = |pod: &Pod| {
        let absent = Namespace { name: pod.name.namespace.clone(), labels: BTreeMap::new() };
        let namespace = namespaces.get(pod.name.namespace.as_str()).copied().unwrap_or(&absent);
        filter.identity_labels(pod, namespace, CLUSTER)
    };
    pods.iter().map(|pod| (pod.name.clone(), labels(pod))).collect()
}

fn meets_peer(rule: &Rule, address: Ipv4Addr, labels: Option<&LabelSet>) -> bool {
    let Peers::Only(peers) = &rule.peers else { return true };
    let has = |net: &IpNet| matches!(net, IpNet::V4(net) if net.contains(&address));
    peers.iter().any(|peer| match peer {
        Peer::Pods(selector) => labels.is_some_and(|labels| selector.matches(labels)),
        Peer::Block(block) => has(&block.cidr) && !block.except.iter().any(has),
    })
}

fn meets_port(rule: &Rule, question: &Question, destination: Option<&LabelSet>) -> bool {
    let Ports::Only(ports) = &rule.ports else { return true };
    ports.iter().any(|port| match port {
        Port::Protocol(protocol) => protocol.number() == question.protocol,
        Port::Range { protocol, first, last } => {
            protocol.number() == question.protocol && (*first..=*last).contains(&question.port)
        }
        Port::Named { protocol, name } => {
            protocol.number() == question.protocol
                && destination.and_then(|labels| ports::named(labels, name, *protocol))
                    == Some(question.port)
        }
    })
}

fn address4(address: Ipv4Addr) -> Addr4 {
    Addr4::new(address.octets())
}

/// One node's tables, with one address counting as elsewhere.
struct View<'a> {
    cluster: &'a Offline,
    tables: &'a Tables,
    moved: Option<(Addr4, AddressEntry)>,
}

impl World for View<'_> {
    type Class<'b>
        = Trie<'b>
    where
        Self: 'b;

    fn address(&self, address: Addr4) -> Option<&AddressEntry> {
        match &self.moved {
            Some((moved, entry)) if *moved == address => Some(entry),
            _ => self.tables.rows.addresses.get(&Ipv4Addr::from(address.octets())),
        }
    }

    fn prefix(&self, address: Addr4) -> Option<&PrefixEntry> {
        let address = Ipv4Addr::from(address.octets());
        (0..=32).rev().find_map(|length| {
            let prefix = Ipv4Net::new(address, length).ok()?.trunc();
            self.tables.rows.prefixes.get(&prefix)
        })
    }

    fn endpoint(&self, ifindex: u32) -> Option<&Endpoint> {
        self.tables.endpoints.get(&ifindex)
    }

    fn class(&self, class: u32) -> Option<Trie<'_>> {
        self.cluster.classes.get(&class).map(Trie)
    }
}

/// A class's entries as the verdict crate looks things up: the longest prefix of a key.
#[derive(Clone, Copy, Debug)]
pub struct Trie<'a>(pub &'a Entries);

impl Class for Trie<'_> {
    fn entry(&self, key: &PolicyKey) -> Option<&PolicyEntry> {
        debug_assert!(key.direction >= INGRESS, "a key without a direction");
        let with_port = (0..=PREFIX_PORT - PREFIX_PROTOCOL).rev().map(|bits| {
            let port = u32::from(key.port.to_host()) >> (16 - bits) << (16 - bits);
            let port = NetPort::from_host(u16::try_from(port).unwrap_or_default());
            PolicyPrefix { length: PREFIX_PROTOCOL + bits, key: PolicyKey { port, ..*key } }
        });
        let any = PolicyKey { protocol: 0, port: NetPort::zeroed(), ..*key };
        with_port
            .chain([PolicyPrefix { length: PREFIX_ANY, key: any }])
            .find_map(|prefix| self.0.get(&prefix))
    }
}
