//! Whom a node has to know: the identities of its own pods, and those that policies about its pods name as peers. Pure.
//!
//! Made of the published state, delta by delta, and kept inverted: a change costs what it touches.
//!
//! | what changes | whose interests may change |
//! |---|---|
//! | a workload or an endpoint comes to a node, or leaves it | that node's, if it was the first or the last of its identity there |
//! | a policy | of nodes with pods that it is about, before or after |
//! | an identity | of nodes with pods that a policy is about which names it as a peer; its own nodes' |

mod view;

pub use view::{Scope, View};

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::Ipv4Addr,
};
use weft_types::{
    Delta, Identity, LabelSet, NamespacedName, NodeName, Policy, Selector, Workload,
    delta::DeltaKey,
    policy::{Isolation, Peer, Peers, PolicyId},
};

/// A delta, and what it takes the place of as far as that decides who has to hear of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The delta.
    pub delta: Delta,
    /// What was there.
    pub was: Was,
}

/// What a delta takes the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Was {
    /// Nothing, or what everybody hears of.
    Nothing,
    /// An address of a pod with this identity, on this node.
    Endpoint(Identity, NodeName),
    /// A workload on this node.
    Workload(NodeName),
}

/// Of each key the last delta, in the order of those, and what was there before the first.
pub fn coalesce<'a>(run: impl IntoIterator<Item = &'a Change>) -> Vec<Change> {
    let mut last: BTreeMap<DeltaKey, (usize, Change)> = BTreeMap::new();
    for (at, Change { delta, was }) in run.into_iter().enumerate() {
        match last.entry(delta.key()) {
            Entry::Vacant(entry) => {
                entry.insert((at, Change { delta: delta.clone(), was: was.clone() }));
            }
            Entry::Occupied(mut entry) => {
                let (place, change) = entry.get_mut();
                (*place, change.delta) = (at, delta.clone());
            }
        }
    }
    let mut changes: Vec<(usize, Change)> = last.into_values().collect();
    changes.sort_by_key(|(at, _)| *at);
    changes.into_iter().map(|(_, change)| change).collect()
}

/// A policy as far as it decides who has to know whom.
#[derive(Debug, Default)]
struct About {
    subject: Selector,
    peers: BTreeSet<Selector>,
    /// The identities that it is about.
    subjects: BTreeSet<Identity>,
}

/// A selector of peers, and what it stands for.
#[derive(Debug, Default)]
struct Matched {
    policies: BTreeSet<PolicyId>,
    identities: BTreeSet<Identity>,
}

/// The inverted index.
#[derive(Debug, Default)]
pub struct Interests {
    labels: BTreeMap<Identity, LabelSet>,
    workloads: BTreeMap<NamespacedName, (NodeName, Identity)>,
    endpoints: BTreeMap<Ipv4Addr, (NodeName, Identity)>,
    addresses: BTreeMap<Identity, BTreeSet<Ipv4Addr>>,
    /// How many workloads and endpoints of an identity a node has.
    pods: BTreeMap<NodeName, BTreeMap<Identity, usize>>,
    /// The same by identity.
    nodes: BTreeMap<Identity, BTreeSet<NodeName>>,
    policies: BTreeMap<PolicyId, About>,
    /// The policies about each identity.
    about: BTreeMap<Identity, BTreeSet<PolicyId>>,
    peers: BTreeMap<Selector, Matched>,
    /// Counts up with every batch of deltas.
    batch: u64,
    /// In which batch a node's interests may have changed last.
    changed: BTreeMap<NodeName, u64>,
}

impl Interests {
    /// Of a whole published state.
    pub fn new(deltas: impl IntoIterator<Item = Delta>) -> Self {
        let mut interests = Self::default();
        interests.take(deltas.into_iter().collect());
        interests
    }

    /// Follows the published state by what changed of it.
    pub fn take(&mut self, deltas: Vec<Delta>) -> Vec<Change> {
        self.batch += 1;
        let change = |delta: Delta| {
            let was = self.follow(&delta);
            Change { delta, was }
        };
        deltas.into_iter().map(change).collect()
    }

    fn follow(&mut self, delta: &Delta) -> Was {
        match delta {
            Delta::IdentityUpsert(number, labels) => self.identity(*number, Some(labels)),
            Delta::IdentityDelete(number) => self.identity(*number, None),
            Delta::WorkloadUpsert(Workload { name, node, identity }) => {
                return self.workload(name, Some((node.clone(), *identity)));
            }
            Delta::WorkloadDelete(name) => return self.workload(name, None),
            Delta::EndpointUpsert(it) => {
                return self.endpoint(it.address, Some((it.node.clone(), it.identity)));
            }
            Delta::EndpointDelete(address) => return self.endpoint(*address, None),
            Delta::PolicyUpsert(policy) => self.policy(&policy.id, Some(policy)),
            Delta::PolicyDelete(id) => self.policy(id, None),
            // Everybody hears of nodes.
            Delta::NodeUpsert(_) | Delta::NodeDelete(_) => {}
        }
        Was::Nothing
    }

    fn workload(&mut self, name: &NamespacedName, now: Option<(NodeName, Identity)>) -> Was {
        let before = match now.clone() {
            Some(now) => self.workloads.insert(name.clone(), now),
            None => self.workloads.remove(name),
        };
        self.moved(before.as_ref(), now.as_ref());
        before.map_or(Was::Nothing, |(node, _)| Was::Workload(node))
    }

    fn endpoint(&mut self, address: Ipv4Addr, now: Option<(NodeName, Identity)>) -> Was {
        let before = match now.clone() {
            Some(now) => self.endpoints.insert(address, now),
            None => self.endpoints.remove(&address),
        };
        if let Some((_, identity)) = &before {
            remove(&mut self.addresses, identity, &address);
        }
        if let Some((_, identity)) = &now {
            self.addresses.entry(*identity).or_default().insert(address);
        }
        self.moved(before.as_ref(), now.as_ref());
        before.map_or(Was::Nothing, |(node, identity)| Was::Endpoint(identity, node))
    }

    /// Of something that has an identity, and is on a node.
    fn moved(&mut self, before: Option<&(NodeName, Identity)>, now: Option<&(NodeName, Identity)>) {
        if before == now {
            return;
        }
        if let Some((node, identity)) = now {
            let pods = self.pods.entry(node.clone()).or_default().entry(*identity).or_default();
            *pods += 1;
            if *pods == 1 {
                self.nodes.entry(*identity).or_default().insert(node.clone());
                self.changed.insert(node.clone(), self.batch);
            }
        }
        if let Some((node, identity)) = before
            && let Some(all) = self.pods.get_mut(node)
            && let Some(pods) = all.get_mut(identity)
        {
            *pods -= 1;
            if *pods == 0 {
                all.remove(identity);
                remove(&mut self.nodes, identity, node);
                self.changed.insert(node.clone(), self.batch);
            }
        }
    }

    fn identity(&mut self, number: Identity, labels: Option<&LabelSet>) {
        self.labels.remove(&number);
        for id in self.about.remove(&number).unwrap_or_default() {
            if let Some(about) = self.policies.get_mut(&id) {
                about.subjects.remove(&number);
            }
        }
        let mut named: BTreeSet<PolicyId> = BTreeSet::new();
        for (selector, matched) in &mut self.peers {
            let matches = labels.is_some_and(|labels| selector.matches(labels));
            let changed = match matches {
                true => matched.identities.insert(number),
                false => matched.identities.remove(&number),
            };
            if changed {
                named.extend(matched.policies.iter().cloned());
            }
        }
        if let Some(labels) = labels {
            self.labels.insert(number, labels.clone());
            for (id, about) in &mut self.policies {
                if about.subject.matches(labels) {
                    about.subjects.insert(number);
                    self.about.entry(number).or_default().insert(id.clone());
                }
            }
        }
        named.iter().for_each(|id| self.concerns(id));
        self.concerns_nodes_of(number);
    }

    fn policy(&mut self, id: &PolicyId, policy: Option<&Policy>) {
        self.concerns(id);
        if let Some(before) = self.policies.remove(id) {
            for identity in &before.subjects {
                remove(&mut self.about, identity, id);
            }
            for selector in &before.peers {
                if let Some(matched) = self.peers.get_mut(selector) {
                    matched.policies.remove(id);
                    if matched.policies.is_empty() {
                        self.peers.remove(selector);
                    }
                }
            }
        }
        let Some(policy) = policy else { return };
        let matching = |selector: &Selector| -> BTreeSet<Identity> {
            let matching = self.labels.iter().filter(|(_, labels)| selector.matches(labels));
            matching.map(|(number, _)| *number).collect()
        };
        let peers = peers_of(policy);
        for selector in &peers {
            if !self.peers.contains_key(selector) {
                let identities = matching(selector);
                let matched = Matched { policies: BTreeSet::new(), identities };
                self.peers.insert(selector.clone(), matched);
            }
            if let Some(matched) = self.peers.get_mut(selector) {
                matched.policies.insert(id.clone());
            }
        }
        let matching = self.labels.iter().filter(|(_, labels)| policy.subject.matches(labels));
        let subjects: BTreeSet<Identity> = matching.map(|(number, _)| *number).collect();
        for identity in &subjects {
            self.about.entry(*identity).or_default().insert(id.clone());
        }
        let about = About { subject: policy.subject.clone(), peers, subjects };
        self.policies.insert(id.clone(), about);
        self.concerns(id);
    }

    /// The nodes with pods that a policy is about have other interests from this batch on.
    fn concerns(&mut self, id: &PolicyId) {
        let subjects = self.policies.get(id).map(|about| about.subjects.clone());
        subjects
            .unwrap_or_default()
            .into_iter()
            .for_each(|identity| self.concerns_nodes_of(identity));
    }

    fn concerns_nodes_of(&mut self, identity: Identity) {
        for node in self.nodes.get(&identity).into_iter().flatten() {
            self.changed.insert(node.clone(), self.batch);
        }
    }

    /// In which batch a node's interests may have changed last.
    fn changed(&self, node: &NodeName) -> u64 {
        self.changed.get(node).copied().unwrap_or_default()
    }

    /// The identities that a node has to know.
    pub fn of(&self, node: &NodeName) -> BTreeSet<Identity> {
        let own = self.pods.get(node).into_iter().flat_map(BTreeMap::keys);
        let policies: BTreeSet<&PolicyId> =
            own.clone().filter_map(|identity| self.about.get(identity)).flatten().collect();
        let selectors: BTreeSet<&Selector> = policies
            .iter()
            .filter_map(|id| self.policies.get(*id))
            .flat_map(|a| &a.peers)
            .collect();
        let matched = selectors.iter().filter_map(|selector| self.peers.get(*selector));
        matched.flat_map(|matched| &matched.identities).chain(own).copied().collect()
    }

    /// The nodes that have to know an identity: those with its pods, and those with pods that may speak with them by name.
    pub fn nodes_that_know(&self, identity: Identity) -> BTreeSet<NodeName> {
        let selectors =
            self.peers.values().filter(|matched| matched.identities.contains(&identity));
        let policies: BTreeSet<&PolicyId> =
            selectors.flat_map(|matched| &matched.policies).collect();
        let subjects = policies.iter().filter_map(|id| self.policies.get(*id));
        let subjects: BTreeSet<&Identity> = subjects.flat_map(|about| &about.subjects).collect();
        let nodes = subjects.into_iter().chain([&identity]).filter_map(|it| self.nodes.get(it));
        nodes.flatten().cloned().collect()
    }
}

/// Those of a policy's peers that are pods.
fn peers_of(policy: &Policy) -> BTreeSet<Selector> {
    let directions = [&policy.ingress, &policy.egress];
    let rules = directions.into_iter().flat_map(|isolation| match isolation {
        Isolation::Open => &[][..],
        Isolation::Isolated(rules) => rules,
    });
    let peers = rules.flat_map(|rule| match &rule.peers {
        Peers::Anyone => &[][..],
        Peers::Only(peers) => peers,
    });
    let pods = peers.filter_map(|peer| match peer {
        Peer::Pods(selector) => Some(selector.clone()),
        Peer::Block(_) => None,
    });
    pods.collect()
}

/// Takes one out of the set of a key, and the key with the last.
fn remove<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
