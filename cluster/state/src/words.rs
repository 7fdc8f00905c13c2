//! What nodes say of their pods.
//!
//! An agent moves between operators, so a word of an older session may be put in order after one of a newer. Each word has a stamp:
//!
//! | a word of a registered node is | beside the newest that was taken | and is |
//! |---|---|---|
//! | of an older session, or not later in the same | older | void |
//! | later in the same session | newer | taken if it changes something |
//! | of a newer session | newer | taken: what older sessions have under way is void then |
//!
//! A node that is not registered has no say; its agent says all of it again when it is.

use crate::{ClusterState, references::Referrer};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::Ipv4Addr};
use weft_types::{Delta, Identity, NamespacedName, Node, NodeName, PodEndpoint};

/// When a node said something.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp {
    /// In which of its sessions; its agent counts them.
    pub session: u64,
    /// The word's place in it.
    pub sequence: u64,
}

/// What a node can say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// A pod is plugged at an address, with an identity: it was, it was relabelled, or that is said once more.
    Plug {
        /// The pod.
        pod: NamespacedName,
        /// Its address.
        address: Ipv4Addr,
        /// What it has.
        identity: Identity,
    },
    /// An address is nobody's.
    Unplug(Ipv4Addr),
    /// All addresses that it has pods for, with their identities.
    Are(Vec<(Ipv4Addr, Identity)>),
}

/// What a node said of one of its addresses. It is published while the pod is scheduled to that node, and
/// kept when it is not: a Pod that is deleted and applied again finds its endpoint as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plugged {
    /// None until it is named.
    pub(crate) pod: Option<NamespacedName>,
    pub(crate) node: NodeName,
    pub(crate) identity: Identity,
}

impl ClusterState {
    /// Takes a word.
    pub(crate) fn hear(&mut self, node: &NodeName, stamp: Stamp, word: &Word) -> Vec<Delta> {
        if !self.is_news(node, stamp, word) {
            return Vec::new();
        }
        self.heard.insert(node.clone(), stamp);
        match word {
            Word::Plug { pod, address, identity } => {
                self.plug(node, Some(pod), *address, *identity)
            }
            Word::Unplug(address) => self.unplug(node, *address).into_iter().collect(),
            Word::Are(all) => {
                let has: BTreeMap<Ipv4Addr, Identity> = all.iter().copied().collect();
                let strays = self.strays(node, &has);
                let mut deltas: Vec<Delta> =
                    strays.into_iter().filter_map(|address| self.unplug(node, address)).collect();
                for (address, identity) in has {
                    let said = self.plugged.get(&address).filter(|said| said.node == *node);
                    let pod = said.and_then(|said| said.pod.clone());
                    deltas.extend(self.plug(node, pod.as_ref(), address, identity));
                }
                deltas
            }
        }
    }

    /// Whether a word is to be put in order.
    pub(crate) fn is_news(&self, node: &NodeName, stamp: Stamp, word: &Word) -> bool {
        let heard = self.heard.get(node).copied().unwrap_or_default();
        let newer = stamp.session > heard.session;
        self.nodes.contains_key(node)
            && (newer || (stamp > heard && self.would_change_by(node, word)))
    }

    fn would_change_by(&self, node: &NodeName, word: &Word) -> bool {
        let lacks = |address: Ipv4Addr, identity: Identity| {
            self.may_plug(node, address)
                && self
                    .plugged
                    .get(&address)
                    .is_none_or(|said| (&said.node, said.identity) != (node, identity))
        };
        match word {
            Word::Plug { pod, address, identity } => {
                let said =
                    Plugged { pod: Some(pod.clone()), node: node.clone(), identity: *identity };
                self.may_plug(node, *address) && self.plugged.get(address) != Some(&said)
            }
            Word::Unplug(address) => self.plugged.get(address).is_some_and(|p| p.node == *node),
            Word::Are(all) => {
                let has = all.iter().copied().collect();
                !self.strays(node, &has).is_empty()
                    || has.into_iter().any(|(address, identity)| lacks(address, identity))
            }
        }
    }

    /// Whether an address is inside the prefixes of a node, for whose pods alone it may speak.
    pub fn may_plug(&self, node: &NodeName, address: Ipv4Addr) -> bool {
        self.nodes.get(node).is_some_and(|n| n.pod_cidrs.iter().any(|c| c.contains(&address)))
    }

    /// What a node said it has, and does not have any more.
    fn strays(&self, node: &NodeName, has: &BTreeMap<Ipv4Addr, Identity>) -> Vec<Ipv4Addr> {
        let plugged = self.nodes.get(node).map(|node| self.plugged_of(node));
        plugged.into_iter().flatten().filter(|address| !has.contains_key(address)).collect()
    }

    /// The addresses that a node has plugged; all of them are inside its prefixes.
    pub(crate) fn plugged_of<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = Ipv4Addr> + 'a {
        let ranges = node.pod_cidrs.iter().map(|cidr| cidr.network()..=cidr.broadcast());
        ranges.flat_map(|range| {
            let plugged = self.plugged.range(range);
            plugged.filter(|(_, said)| said.node == node.name).map(|(address, _)| *address)
        })
    }

    pub(crate) fn plug(
        &mut self,
        node: &NodeName,
        pod: Option<&NamespacedName>,
        address: Ipv4Addr,
        identity: Identity,
    ) -> Vec<Delta> {
        if !self.may_plug(node, address) {
            return Vec::new();
        }
        // The new reference before the old one goes, which may be the same.
        let revived = self.references.acquire(identity, Referrer::Node(node));
        let said = Plugged { pod: pod.cloned(), node: node.clone(), identity };
        if let Some(before) = self.plugged.insert(address, said) {
            self.let_go(&before, address);
        }
        if let Some(pod) = pod {
            self.addresses.entry(pod.clone()).or_default().insert(address);
        }
        revived.into_iter().chain(self.publish_endpoint(address)).collect()
    }

    pub(crate) fn unplug(&mut self, node: &NodeName, address: Ipv4Addr) -> Option<Delta> {
        self.plugged.get(&address).filter(|said| said.node == *node)?;
        let said = self.plugged.remove(&address)?;
        self.let_go(&said, address);
        self.publish_endpoint(address)
    }

    fn let_go(&mut self, said: &Plugged, address: Ipv4Addr) {
        self.references.release(said.identity, Referrer::Node(&said.node));
        let Some(pod) = &said.pod else { return };
        if let Some(addresses) = self.addresses.get_mut(pod) {
            addresses.remove(&address);
            if addresses.is_empty() {
                self.addresses.remove(pod);
            }
        }
    }

    /// Makes the published endpoint of an address what it should be now.
    pub(crate) fn publish_endpoint(&mut self, address: Ipv4Addr) -> Option<Delta> {
        let endpoint = self.plugged.get(&address).and_then(|said| {
            let workload = self.workloads.get(said.pod.as_ref()?)?;
            (workload.node == said.node).then(|| PodEndpoint {
                name: workload.name.clone(),
                address,
                identity: workload.identity,
                node: said.node.clone(),
            })
        });
        match endpoint {
            Some(endpoint) if self.endpoints.get(&address) == Some(&endpoint) => None,
            Some(endpoint) => {
                self.endpoints.insert(address, endpoint.clone());
                Some(Delta::EndpointUpsert(endpoint))
            }
            None => self.endpoints.remove(&address).map(|_| Delta::EndpointDelete(address)),
        }
    }
}
