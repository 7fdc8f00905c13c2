//! Whom the numbers and addresses of events stand for, as far as this node was told: the [`Names`] of [`crate::flow`].

use crate::{
    flow::{Names, Whose},
    policy::RuleNames,
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};
use weft_types::{
    Delta, Identity, LabelSet, NamespacedName, NodeName, PodEndpoint, Policy, Revision,
    delta::DeltaKey,
    policy::{Direction, Isolation, PolicyId, RuleId},
};

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalName {
    /// Its namespace and name.
    pub name: NamespacedName,
    /// Its number on this node.
    pub endpoint: u32,
    /// Its identity.
    pub identity: Identity,
}

/// What was published, and what this node adds to it.
#[derive(Clone, Debug)]
pub struct Directory {
    node: NodeName,
    cluster: String,
    published: BTreeMap<DeltaKey, Arc<Delta>>,
    node_at: BTreeMap<Ipv4Addr, NodeName>,
    policies: BTreeSet<PolicyId>,
    local: BTreeMap<Ipv4Addr, LocalName>,
    rules: RuleNames,
    epochs: BTreeMap<u64, Revision>,
    /// Found out once for each class; forgotten when anything is published.
    isolating: RefCell<BTreeMap<(u32, Direction), Vec<PolicyId>>>,
    /// The nodes' pod prefixes, first and last address; found out once, and forgotten when a node changes.
    prefixes: RefCell<Option<BTreeMap<Ipv4Addr, Ipv4Addr>>>,
}

impl Directory {
    /// Of a node that was told nothing yet.
    pub fn new(node: NodeName) -> Self {
        Self {
            node,
            cluster: String::new(),
            published: BTreeMap::new(),
            node_at: BTreeMap::new(),
            policies: BTreeSet::new(),
            local: BTreeMap::new(),
            rules: RuleNames::default(),
            epochs: BTreeMap::new(),
            isolating: RefCell::default(),
            prefixes: RefCell::default(),
        }
    }

    /// Forgets what was published: all of it is said anew.
    pub fn clear(&mut self) {
        self.published.clear();
        self.node_at.clear();
        self.policies.clear();
        self.isolating.take();
        self.prefixes.take();
    }

    /// Takes a change.
    pub fn take(&mut self, delta: &Arc<Delta>) {
        self.isolating.take();
        let key = delta.key();
        if let Some(Delta::NodeUpsert(node)) = self.published.remove(&key).as_deref()
            && self.node_at.get(&node.address) == Some(&node.name)
        {
            self.node_at.remove(&node.address);
        }
        if matches!(key, DeltaKey::Node(_)) {
            self.prefixes.take();
        }
        match &**delta {
            Delta::NodeUpsert(node) => {
                self.node_at.insert(node.address, node.name.clone());
            }
            Delta::PolicyUpsert(policy) => {
                self.policies.insert(policy.id.clone());
            }
            Delta::PolicyDelete(id) => {
                self.policies.remove(id);
            }
            // Names nobody asks for.
            Delta::WorkloadUpsert(_) => return,
            Delta::NodeDelete(_)
            | Delta::IdentityUpsert(..)
            | Delta::IdentityDelete(_)
            | Delta::WorkloadDelete(_)
            | Delta::EndpointUpsert(_)
            | Delta::EndpointDelete(_) => {}
        }
        if !delta.is_delete() {
            self.published.insert(key, Arc::clone(delta));
        }
    }

    /// Whether an address is for a pod of the cluster, and nobody said of which.
    pub fn is_stranger(&self, address: Ipv4Addr) -> bool {
        if self.local.contains_key(&address)
            || self.published.contains_key(&DeltaKey::Endpoint(address))
        {
            return false;
        }
        let mut prefixes = self.prefixes.borrow_mut();
        let prefixes = prefixes.get_or_insert_with(|| {
            let node = |name: &NodeName| self.published.get(&DeltaKey::Node(name.clone()));
            let cidrs = self.node_at.values().filter_map(node).filter_map(|delta| {
                let Delta::NodeUpsert(node) = &**delta else { return None };
                Some(&node.pod_cidrs)
            });
            cidrs.flatten().map(|cidr| (cidr.network(), cidr.broadcast())).collect()
        });
        let around = prefixes.range(..=address).next_back();
        around.is_some_and(|(_, last)| address <= *last)
    }

    /// The cluster's name.
    pub fn set_cluster(&mut self, cluster: String) {
        self.cluster = cluster;
    }

    /// The pods of this node: all of them.
    pub fn set_local(&mut self, local: BTreeMap<Ipv4Addr, LocalName>) {
        self.local = local;
    }

    /// What rule numbers stand for: all of them.
    pub fn set_rules(&mut self, rules: RuleNames) {
        self.rules = rules;
    }

    /// Which revision the kernel holds from which epoch on: all that is remembered.
    pub fn set_epochs(&mut self, epochs: BTreeMap<u64, Revision>) {
        self.epochs = epochs;
    }

    fn isolates(&self, class: u32, direction: Direction) -> Vec<PolicyId> {
        let Some(labels) = self.labels(class) else { return Vec::new() };
        let isolates = |policy: &&Policy| {
            let isolation = match direction {
                Direction::Ingress => &policy.ingress,
                Direction::Egress => &policy.egress,
            };
            matches!(isolation, Isolation::Isolated(_)) && policy.subject.matches(labels)
        };
        let policies = self.policies.iter().filter_map(|id| self.policy(id));
        policies.filter(isolates).map(|policy| policy.id.clone()).collect()
    }
}

impl Names for Directory {
    fn cluster(&self) -> &str {
        &self.cluster
    }

    fn node(&self) -> &str {
        &self.node.0
    }

    fn labels(&self, identity: u32) -> Option<&LabelSet> {
        let delta = self.published.get(&DeltaKey::Identity(Identity(identity)))?;
        let Delta::IdentityUpsert(_, labels) = &**delta else { return None };
        Some(labels)
    }

    fn whose(&self, address: Ipv4Addr) -> Option<Whose> {
        // What is plugged here counts before what operators say: they hear of it later.
        if let Some(LocalName { name, endpoint, identity }) = self.local.get(&address).cloned() {
            return Some(Whose::Pod { name, endpoint, identity });
        }
        match self.published.get(&DeltaKey::Endpoint(address)).map(Arc::as_ref) {
            Some(Delta::EndpointUpsert(pod)) => {
                let PodEndpoint { name, identity, .. } = pod.clone();
                Some(Whose::Pod { name, endpoint: 0, identity })
            }
            _ => self.node_at.get(&address).cloned().map(Whose::Node),
        }
    }

    fn rules(&self, number: u32) -> Vec<RuleId> {
        self.rules.get(&number).map(|rules| rules.iter().cloned().collect()).unwrap_or_default()
    }

    fn isolating(&self, class: u32, direction: Direction) -> Vec<PolicyId> {
        let known = self.isolating.borrow().get(&(class, direction)).cloned();
        known.unwrap_or_else(|| {
            let found = self.isolates(class, direction);
            self.isolating.borrow_mut().insert((class, direction), found.clone());
            found
        })
    }

    fn policy(&self, id: &PolicyId) -> Option<&Policy> {
        let delta = self.published.get(&DeltaKey::Policy(id.clone()))?;
        let Delta::PolicyUpsert(policy) = &**delta else { return None };
        Some(policy)
    }

    fn revision(&self, epoch: u64) -> Option<Revision> {
        self.epochs.range(..=epoch).next_back().map(|(_, revision)| *revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_types::{
        Node, PodEndpoint, Selector, Source,
        policy::{PolicyKind, Rule},
        selector::Requirement,
    };

    fn directory(deltas: Vec<Delta>) -> Directory {
        let mut directory = Directory::new(NodeName("node1".to_owned()));
        deltas.into_iter().for_each(|delta| directory.take(&Arc::new(delta)));
        directory
    }

    fn app(name: &str) -> LabelSet {
        let mut labels = LabelSet::new();
        labels.insert(Source::K8s, "app", name);
        labels
    }

    fn node(name: &str, last: u8) -> Delta {
        Delta::NodeUpsert(Node {
            name: NodeName(name.to_owned()),
            address: [172, 30, 0, last].into(),
            pod_cidrs: Vec::new(),
        })
    }

    fn pod(name: &str, last: u8) -> Delta {
        Delta::EndpointUpsert(PodEndpoint {
            name: NamespacedName::new("shop", name),
            address: [10, 244, 1, last].into(),
            identity: Identity(300),
            node: NodeName("node2".to_owned()),
        })
    }

    /// Isolates who has `app` in this direction.
    fn policy(name: &str, app: &str, direction: Direction) -> Policy {
        let subject = Selector::new(vec![Requirement::In {
            source: Source::K8s,
            key: "app".to_owned(),
            values: vec![app.to_owned()],
        }]);
        let isolated = |of: Direction| {
            if of == direction { Isolation::Isolated(Vec::<Rule>::new()) } else { Isolation::Open }
        };
        let id =
            PolicyId { kind: PolicyKind::NetworkPolicy, name: NamespacedName::new("shop", name) };
        let (ingress, egress) = (isolated(Direction::Ingress), isolated(Direction::Egress));
        Policy { id, subject, ingress, egress }
    }

    fn named(directory: &Directory, class: u32, direction: Direction) -> Vec<String> {
        directory.isolating(class, direction).into_iter().map(|id| id.name.name).collect()
    }

    #[test]
    fn addresses_are_of_pods_here_then_of_pods_anywhere_then_of_nodes() {
        let mut directory = directory(vec![node("node2", 12), pod("cart-0", 2)]);
        let whose = |directory: &Directory, address: [u8; 4]| directory.whose(address.into());
        let name = NamespacedName::new("shop", "cart-0");
        let cart = |endpoint, identity| {
            Some(Whose::Pod { name: name.clone(), endpoint, identity: Identity(identity) })
        };
        assert_eq!(whose(&directory, [10, 244, 1, 2]), cart(0, 300));
        let node2 = Some(Whose::Node(NodeName("node2".to_owned())));
        assert_eq!(whose(&directory, [172, 30, 0, 12]), node2);
        assert_eq!(whose(&directory, [10, 244, 1, 3]), None);
        let local = LocalName { name: name.clone(), endpoint: 7, identity: Identity(301) };
        directory.set_local([([10, 244, 1, 2].into(), local)].into());
        assert_eq!(whose(&directory, [10, 244, 1, 2]), cart(7, 301), "it was relabelled");
    }

    #[test]
    fn what_leaves_has_no_name_any_more() {
        let mut directory = directory(vec![node("node2", 12), pod("cart-0", 2), node("node2", 13)]);
        assert_eq!(directory.whose([172, 30, 0, 12].into()), None, "the node moved");
        // The address is another node's by the time that its first one is said to have left.
        directory.take(&Arc::new(node("node3", 13)));
        directory.take(&Arc::new(Delta::NodeDelete(NodeName("node2".to_owned()))));
        let node3 = Some(Whose::Node(NodeName("node3".to_owned())));
        assert_eq!(directory.whose([172, 30, 0, 13].into()), node3);
        directory.take(&Arc::new(Delta::EndpointDelete([10, 244, 1, 2].into())));
        assert_eq!(directory.whose([10, 244, 1, 2].into()), None);
        directory.clear();
        assert_eq!(directory.whose([172, 30, 0, 13].into()), None);
    }

    #[test]
    fn policies_isolate_whom_they_select_as_they_come_and_go() {
        use Direction::{Egress, Ingress};
        let mut directory = directory(vec![
            Delta::IdentityUpsert(Identity(300), app("cart")),
            Delta::PolicyUpsert(policy("in", "cart", Ingress)),
            Delta::PolicyUpsert(policy("other", "db", Ingress)),
        ]);
        assert_eq!(named(&directory, 300, Ingress), ["in"]);
        assert_eq!(named(&directory, 300, Egress), [""; 0]);
        assert_eq!(named(&directory, 301, Ingress), [""; 0], "nobody knows that class");
        directory.take(&Arc::new(Delta::PolicyUpsert(policy("out", "cart", Egress))));
        assert_eq!(named(&directory, 300, Egress), ["out"]);
        let id = policy("in", "cart", Ingress).id;
        directory.take(&Arc::new(Delta::PolicyDelete(id.clone())));
        assert_eq!(named(&directory, 300, Ingress), [""; 0]);
        assert_eq!(directory.policy(&id), None);
    }

    #[test]
    fn an_epoch_is_of_the_last_revision_realised_before_it() {
        let mut directory = directory(Vec::new());
        assert_eq!(directory.revision(9), None);
        let (old, new) = (Revision::new(1, 7), Revision::new(1, 8));
        directory.set_epochs([(10, old), (20, new)].into());
        let revisions = [9, 10, 19, 20, 99].map(|epoch| directory.revision(epoch));
        assert_eq!(revisions, [None, Some(old), Some(old), Some(new), Some(new)]);
    }

    #[test]
    fn a_stranger_is_whoever_has_a_pods_address_and_no_name() {
        let with_pods = |cidr: &str| {
            Delta::NodeUpsert(Node {
                name: NodeName("node2".to_owned()),
                address: [172, 30, 0, 2].into(),
                pod_cidrs: vec![cidr.parse().expect("a prefix")],
            })
        };
        let mut directory = directory(vec![with_pods("10.244.1.0/24"), pod("web-0", 7)]);
        let stranger =
            |directory: &Directory, address: [u8; 4]| directory.is_stranger(address.into());
        assert!(stranger(&directory, [10, 244, 1, 0]) && stranger(&directory, [10, 244, 1, 255]));
        for known in [[10, 244, 1, 7], [10, 244, 0, 255], [10, 244, 2, 0], [172, 30, 0, 2]] {
            assert!(!stranger(&directory, known), "{known:?}");
        }
        let name = NamespacedName::new("shop", "web-1");
        let local = LocalName { name, endpoint: 1, identity: Identity(300) };
        directory.set_local(BTreeMap::from([([10, 244, 1, 8].into(), local)]));
        assert!(!stranger(&directory, [10, 244, 1, 8]));
        // The node has other prefixes now, and the pod is gone.
        directory.take(&Arc::new(with_pods("10.244.9.0/24")));
        directory.take(&Arc::new(Delta::EndpointDelete([10, 244, 1, 7].into())));
        assert!(!stranger(&directory, [10, 244, 1, 7]) && stranger(&directory, [10, 244, 9, 1]));
    }
}
