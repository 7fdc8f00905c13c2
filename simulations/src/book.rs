//! What was published when: what a packet's verdict may be explained by.

#[cfg(test)]
mod tests;

use crate::words::Side;
use rpds::RedBlackTreeMap;
use std::{collections::BTreeMap, net::Ipv4Addr, rc::Rc};
use weft_types::{
    Delta, Identity, LabelSet, NamespacedName, NodeName, Policy, Revision, Selector,
    policy::{Direction, Isolation, Peer, Peers, PolicyId},
};

/// What something was from which revision on.
struct Over<T>(Vec<(Revision, T)>);

impl<T> Default for Over<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Over<T> {
    fn set(&mut self, at: Revision, value: T) {
        match self.0.last_mut() {
            Some((last, now)) if *last == at => *now = value,
            _ => self.0.push((at, value)),
        }
    }

    fn now(&self) -> Option<&T> {
        self.0.last().map(|(_, value)| value)
    }

    /// What it was at a revision; nothing before the first.
    fn at(&self, revision: Revision) -> Option<&T> {
        let later = self.0.partition_point(|(at, _)| *at <= revision);
        self.0.get(later.checked_sub(1)?).map(|(_, value)| value)
    }

    /// What it was at a revision or later, the newest first; whether it was nothing yet at first.
    fn since(&self, revision: Revision) -> (impl Iterator<Item = &T>, bool) {
        let later = self.0.partition_point(|(at, _)| *at <= revision);
        let from = later.saturating_sub(1);
        let all = self.0.iter().skip(from).rev().map(|(_, value)| value);
        (all, later == 0)
    }

    /// The revisions after one in which it changed.
    fn changes(&self, after: Revision) -> impl Iterator<Item = Revision> {
        self.0.iter().rev().map(|(at, _)| *at).take_while(move |at| *at > after)
    }
}

/// Policies by id; versions share what they have in common.
type Policies = RedBlackTreeMap<PolicyId, Rc<Policy>>;

/// An identity on a node.
type Place = Option<(NodeName, Identity)>;

/// All of it, from the first revision on.
#[derive(Default)]
pub(crate) struct Book {
    policies: Over<Policies>,
    endpoints: BTreeMap<Ipv4Addr, Over<Place>>,
    workloads: BTreeMap<NamespacedName, Over<Place>>,
    labels: BTreeMap<Identity, Over<Option<LabelSet>>>,
    /// How many workloads and endpoints of an identity a node has.
    pods: BTreeMap<NodeName, BTreeMap<Identity, Over<usize>>>,
}

/// An end of a packet that a verdict was given at.
pub(crate) struct Judged<'a> {
    pub(crate) node: &'a NodeName,
    /// The oldest revision that its endpoint may be at.
    pub(crate) since: Revision,
    pub(crate) direction: Direction,
    /// The number whose class judged.
    pub(crate) own: Identity,
    /// The other end's number where it is of this node, too; elsewhere it is whose the address is.
    pub(crate) peer: Option<Identity>,
    pub(crate) peer_at: Ipv4Addr,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
    /// The verdict.
    pub(crate) is_let: bool,
}

impl Book {
    /// All logs are lost, and a group is founded anew from the store at a revision: nodes have said nothing of their pods yet.
    pub(crate) fn found_anew(&mut self, at: Revision, published: &[Delta]) {
        let numbers: Vec<Identity> = self.labels.keys().copied().collect();
        let pods: Vec<NamespacedName> = self.workloads.keys().cloned().collect();
        let addresses: Vec<Ipv4Addr> = self.endpoints.keys().copied().collect();
        let gone = numbers.into_iter().map(Delta::IdentityDelete);
        let gone = gone.chain(pods.into_iter().map(Delta::WorkloadDelete));
        let gone: Vec<Delta> =
            gone.chain(addresses.into_iter().map(Delta::EndpointDelete)).collect();
        self.policies.set(at, Policies::new());
        self.take(at, &gone);
        self.take(at, published);
    }

    /// What a revision brought.
    pub(crate) fn take(&mut self, at: Revision, deltas: &[Delta]) {
        let mut policies: Option<Policies> = None;
        for delta in deltas {
            match delta {
                Delta::IdentityUpsert(number, labels) => {
                    self.labels.entry(*number).or_default().set(at, Some(labels.clone()));
                }
                Delta::IdentityDelete(number) => {
                    self.labels.entry(*number).or_default().set(at, None);
                }
                Delta::WorkloadUpsert(it) => {
                    self.workload(at, &it.name, Some((it.node.clone(), it.identity)));
                }
                Delta::WorkloadDelete(name) => self.workload(at, name, None),
                Delta::EndpointUpsert(it) => {
                    self.endpoint(at, it.address, Some((it.node.clone(), it.identity)));
                }
                Delta::EndpointDelete(address) => self.endpoint(at, *address, None),
                Delta::PolicyUpsert(policy) => {
                    let known = policies.get_or_insert_with(|| self.policies_now());
                    known.insert_mut(policy.id.clone(), Rc::new(policy.clone()));
                }
                Delta::PolicyDelete(id) => {
                    policies.get_or_insert_with(|| self.policies_now()).remove_mut(id);
                }
                Delta::NodeUpsert(_) | Delta::NodeDelete(_) => {}
            }
        }
        if let Some(policies) = policies {
            self.policies.set(at, policies);
        }
    }

    fn policies_now(&self) -> Policies {
        self.policies.now().cloned().unwrap_or_default()
    }

    fn workload(&mut self, at: Revision, name: &NamespacedName, now: Place) {
        let over = self.workloads.entry(name.clone()).or_default();
        let before = over.now().cloned().flatten();
        over.set(at, now.clone());
        self.count(at, before, now);
    }

    fn endpoint(&mut self, at: Revision, address: Ipv4Addr, now: Place) {
        let over = self.endpoints.entry(address).or_default();
        let before = over.now().cloned().flatten();
        over.set(at, now.clone());
        self.count(at, before, now);
    }

    fn count(&mut self, at: Revision, before: Place, now: Place) {
        let mut add = |place: Place, to: fn(usize) -> usize| {
            let Some((node, identity)) = place else { return };
            let over = self.pods.entry(node).or_default().entry(identity).or_default();
            let count = to(over.now().copied().unwrap_or_default());
            over.set(at, count);
        };
        add(now, |count| count + 1);
        add(before, |count| count.saturating_sub(1));
    }

    /// Whether a pod of a node may have a number at a revision or later. One that is wanted there no more keeps the last that its
    /// node heard of, which may be any before.
    pub(crate) fn may_be(
        &self,
        (node, pod): (&NodeName, &NamespacedName),
        number: Identity,
        since: Revision,
    ) -> bool {
        let Some(over) = self.workloads.get(pod) else { return false };
        let here = |place: &Place| {
            let here = place.as_ref().filter(|(at, _)| at == node);
            here.map(|(_, number)| *number)
        };
        let mut may_have_ended = false;
        for place in over.since(since).0 {
            if here(place) == Some(number) {
                return true;
            }
            may_have_ended |= here(place).is_none();
        }
        may_have_ended && over.0.iter().any(|(_, place)| here(place) == Some(number))
    }

    /// Where a pod was to be, as what, from which revision on.
    pub(crate) fn story_of(&self, pod: &NamespacedName) -> String {
        let places = self.workloads.get(pod).into_iter().flat_map(|over| &over.0);
        let place = |(at, place): &(Revision, Place)| match place {
            Some((node, number)) => format!("{number} on {} from {at}", node.0),
            None => format!("nowhere from {at}"),
        };
        places.map(place).collect::<Vec<_>>().join(", ")
    }

    /// Whether policies of any revision that the endpoint may be at say so, of whoever its node may take the other end for.
    pub(crate) fn explains(&self, judged: &Judged<'_>) -> bool {
        let Judged { node, since, own, .. } = *judged;
        // Of who is not published to be here its node knows no labels, and lets nothing.
        if !judged.is_let && self.may_be_unpublished(node, own, since) {
            return true;
        }
        let owns = self.labels_since(own, since);
        let known = self.peers(judged);
        let at = Some(judged.peer_at);
        let told = |at| {
            let by =
                |own: &&LabelSet| known.iter().any(|peer| self.says(judged, own, (Some(peer), at)));
            owns.iter().any(by)
        };
        let told_of_nobody = |at| owns.iter().any(|own| self.says(judged, own, (None, at)));
        told(at) || (told_of_nobody(at) && self.may_be_unknown(judged))
    }

    /// Whether policies of some revision say so.
    fn says(
        &self,
        judged: &Judged<'_>,
        own: &LabelSet,
        (peer, peer_at): (Option<&LabelSet>, Option<Ipv4Addr>),
    ) -> bool {
        let Judged { direction, protocol, port, .. } = *judged;
        let side = Side { direction, own, peer, peer_at, protocol, port };
        let (mut versions, from_nothing) = self.policies.since(judged.since);
        let says = |policies: &Policies| {
            side.is_let(policies.values().map(|policy| &**policy)) == judged.is_let
        };
        versions.any(says) || (from_nothing && judged.is_let)
    }

    /// What a number stood for at a revision or later.
    fn labels_since(&self, number: Identity, since: Revision) -> Vec<&LabelSet> {
        let Some(over) = self.labels.get(&number) else { return Vec::new() };
        over.since(since).0.flatten().collect()
    }

    /// Whom the other end may be taken for, as far as it is known.
    fn peers(&self, judged: &Judged<'_>) -> Vec<&LabelSet> {
        if let Some(number) = judged.peer {
            return self.labels_since(number, judged.since);
        }
        let Some(over) = self.endpoints.get(&judged.peer_at) else { return Vec::new() };
        let places = over.since(judged.since).0.flatten();
        let elsewhere = places.filter(|(node, _)| node != judged.node);
        elsewhere.flat_map(|(_, number)| self.labels_since(*number, judged.since)).collect()
    }

    /// Whether the node had no pod of a number, at a revision or later.
    fn may_be_unpublished(&self, node: &NodeName, number: Identity, since: Revision) -> bool {
        let over = self.pods.get(node).and_then(|pods| pods.get(&number));
        over.is_none_or(|over| {
            let (mut counts, from_nothing) = over.since(since);
            from_nothing || counts.any(|count| *count == 0)
        })
    }

    /// Whether the node did not have to know the other end, at a revision or later: looked for one by one.
    fn may_be_unknown(&self, judged: &Judged<'_>) -> bool {
        let since = judged.since;
        let endpoint = self.endpoints.get(&judged.peer_at);
        let pods = self.pods.get(judged.node);
        let mut revisions = vec![since];
        revisions.extend(self.policies.changes(since));
        revisions.extend(endpoint.into_iter().flat_map(|over| over.changes(since)));
        revisions.extend(pods.into_iter().flatten().flat_map(|(_, over)| over.changes(since)));
        revisions.into_iter().any(|at| {
            let place = endpoint.and_then(|over| over.at(at)?.as_ref());
            let there = place.filter(|(node, _)| node != judged.node).map(|(_, number)| *number);
            judged.peer.or(there).is_none_or(|number| !self.knows(judged.node, number, at))
        })
    }

    /// Whether a node had to know a number at a revision.
    fn knows(&self, node: &NodeName, number: Identity, at: Revision) -> bool {
        let labels = |number| self.labels.get(number)?.at(at)?.as_ref();
        let Some(pods) = self.pods.get(node) else { return false };
        let own = || pods.iter().filter(|(_, over)| over.at(at).is_some_and(|count| *count > 0));
        if own().any(|(own, _)| *own == number) {
            return true;
        }
        let (Some(peer), Some(policies)) = (labels(&number), self.policies.at(at)) else {
            return false;
        };
        let names = policies.values().filter(|policy| peers(policy).any(|it| it.matches(peer)));
        let mut subjects = names.map(|policy| &policy.subject);
        subjects
            .any(|subject| own().any(|(own, _)| labels(own).is_some_and(|it| subject.matches(it))))
    }
}

/// Selectors of pods that a policy names as peers.
pub(crate) fn peers(policy: &Policy) -> impl Iterator<Item = &Selector> {
    let rules =
        [&policy.ingress, &policy.egress].into_iter().flat_map(|isolation| match isolation {
            Isolation::Open => &[][..],
            Isolation::Isolated(rules) => rules,
        });
    let peers = rules.flat_map(|rule| match &rule.peers {
        Peers::Anyone => &[][..],
        Peers::Only(peers) => peers,
    });
    peers.filter_map(|peer| match peer {
        Peer::Pods(selector) => Some(selector),
        Peer::Block(_) => None,
    })
}
