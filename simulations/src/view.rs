//! What is published, as whoever is at a revision knows it: a value that all share who know the same.

use crate::{time::Micros, trace::Trace};
use ipnet::Ipv4Net;
use rpds::{HashTrieMap, RedBlackTreeMap};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hash,
    net::Ipv4Addr,
    ops::Bound,
    rc::Rc,
};
use weft_types::{
    Delta, Identity, LabelSet, NamespacedName, Node, NodeName, PodEndpoint, Policy, Revision,
    Workload, codec,
};

/// Everything that is published, in persistent maps: a thousand agents cost what their differences do. Nobody
/// looks at the order of these maps, which differs between runs.
#[derive(Clone, Default)]
pub(crate) struct View {
    /// By what their keys hash to: two keys with one hash no run will ever see.
    entries: HashTrieMap<u64, Told>,
    shares: HashTrieMap<NodeName, Share>,
    /// The sum of what its entries hash to, in whatever order they came.
    sum: u64,
}

/// A delta, and what it hashes to.
#[derive(Clone)]
struct Told {
    delta: Rc<Delta>,
    hash: u64,
}

/// What of it is about one node: made of the entries, so that an agent need not look at all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Share {
    /// Where the addresses of its pods are from.
    pub(crate) prefix: Option<Ipv4Net>,
    /// Pods that are scheduled to it, and their identities.
    pub(crate) scheduled: RedBlackTreeMap<NamespacedName, Identity>,
    /// Its pods that are plugged, by address.
    pub(crate) plugged: RedBlackTreeMap<Ipv4Addr, NamespacedName>,
}

impl PartialEq for View {
    fn eq(&self, other: &Self) -> bool {
        (self.sum, self.entries.size()) == (other.sum, other.entries.size())
    }
}

impl FromIterator<Delta> for View {
    fn from_iter<T: IntoIterator<Item = Delta>>(deltas: T) -> Self {
        let mut view = Self::default();
        deltas.into_iter().map(Rc::new).for_each(|delta| view.apply(&delta));
        view
    }
}

impl View {
    /// One change more.
    pub(crate) fn apply(&mut self, delta: &Rc<Delta>) {
        let key = key(delta);
        let before = self.entries.get(&key).cloned();
        if before.as_ref().is_some_and(|before| before.delta == *delta) {
            return;
        }
        if let Some(Told { delta, hash }) = before {
            self.sum = self.sum.wrapping_sub(hash);
            self.take_from_share(&delta);
        }
        if delta.is_delete() {
            self.entries.remove_mut(&key);
        } else {
            let hash = hash(delta);
            self.sum = self.sum.wrapping_add(hash);
            self.add_to_share(delta);
            self.entries.insert_mut(key, Told { delta: Rc::clone(delta), hash });
        }
    }

    /// Whether some changes, each key once, lead from here to another view: then the nodes that they are about. It costs less
    /// than to make them.
    pub(crate) fn leads_to(
        &self,
        other: &Self,
        deltas: &[Rc<Delta>],
    ) -> Option<BTreeSet<NodeName>> {
        let (mut sum, mut size) = (self.sum, self.entries.size());
        let mut about = BTreeSet::new();
        for delta in deltas {
            let key = key(delta);
            let (before, after) = (self.entries.get(&key), other.entries.get(&key));
            if let Some(before) = before {
                (sum, size) = (sum.wrapping_sub(before.hash), size - 1);
            }
            match after {
                Some(after) if after.delta == *delta => {
                    (sum, size) = (sum.wrapping_add(after.hash), size + 1);
                }
                None if delta.is_delete() => {}
                Some(_) | None => return None,
            }
            if before.map(|it| it.hash) != after.map(|it| it.hash) {
                let sides = [before, after].into_iter().flatten();
                about.extend(sides.filter_map(|it| node_of(&it.delta)).cloned());
            }
        }
        ((sum, size) == (other.sum, other.entries.size())).then_some(about)
    }

    /// All of it, in no order.
    pub(crate) fn deltas(&self) -> impl Iterator<Item = &Delta> {
        self.entries.values().map(|told| &*told.delta)
    }

    /// What a number stands for.
    pub(crate) fn labels(&self, number: Identity) -> Option<&LabelSet> {
        match &*self.entries.get(&key(&Delta::IdentityDelete(number)))?.delta {
            Delta::IdentityUpsert(_, labels) => Some(labels),
            _ => None,
        }
    }

    /// What is about a node; nothing when nothing ever was.
    pub(crate) fn share(&self, node: &NodeName) -> Option<&Share> {
        self.shares.get(node)
    }

    fn add_to_share(&mut self, delta: &Delta) {
        self.edit(delta, |share| match delta {
            Delta::NodeUpsert(n) => share.prefix = n.pod_cidrs.first().copied(),
            Delta::WorkloadUpsert(w) => {
                share.scheduled.insert_mut(w.name.clone(), w.identity);
            }
            Delta::EndpointUpsert(e) => {
                share.plugged.insert_mut(e.address, e.name.clone());
            }
            _ => {}
        });
    }

    fn take_from_share(&mut self, delta: &Delta) {
        self.edit(delta, |share| match delta {
            Delta::NodeUpsert(_) => share.prefix = None,
            Delta::WorkloadUpsert(w) => {
                share.scheduled.remove_mut(&w.name);
            }
            Delta::EndpointUpsert(e) => {
                share.plugged.remove_mut(&e.address);
            }
            _ => {}
        });
    }

    fn edit(&mut self, delta: &Delta, edit: impl FnOnce(&mut Share)) {
        let Some(node) = node_of(delta) else { return };
        if let Some(share) = self.shares.get_mut(node) {
            edit(share);
        } else {
            let mut share = Share::default();
            edit(&mut share);
            self.shares.insert_mut(node.clone(), share);
        }
    }
}

/// The node that an entry is about.
fn node_of(delta: &Delta) -> Option<&NodeName> {
    match delta {
        Delta::NodeUpsert(n) => Some(&n.name),
        Delta::WorkloadUpsert(w) => Some(&w.node),
        Delta::EndpointUpsert(e) => Some(&e.node),
        _ => None,
    }
}

/// What a delta's key hashes to.
fn key(delta: &Delta) -> u64 {
    let mut hash = Trace::new();
    let mut add = |kind: u8, key: &dyn Fn(&mut Trace)| {
        hash.add_bytes(&[kind]);
        key(&mut hash);
    };
    match delta {
        Delta::IdentityUpsert(number, _) | Delta::IdentityDelete(number) => {
            add(1, &|to| number.hash(to));
        }
        Delta::NodeUpsert(Node { name, .. }) | Delta::NodeDelete(name) => {
            add(2, &|to| name.hash(to))
        }
        Delta::WorkloadUpsert(Workload { name, .. }) | Delta::WorkloadDelete(name) => {
            add(3, &|to| name.hash(to));
        }
        Delta::EndpointUpsert(PodEndpoint { address, .. }) | Delta::EndpointDelete(address) => {
            add(4, &|to| address.hash(to));
        }
        Delta::PolicyUpsert(Policy { id, .. }) | Delta::PolicyDelete(id) => {
            add(5, &|to| id.hash(to))
        }
    }
    hash.hash()
}

fn hash(delta: &Delta) -> u64 {
    let mut bytes = Vec::new();
    // What has no bytes hashes as nothing does, and then differs by the number of entries alone.
    drop(codec::encode_into(delta, &mut bytes));
    let mut hash = Trace::new();
    hash.add_bytes(&bytes);
    hash.hash()
}

/// What is published at each of the newest revisions, as whoever came there first knows it.
#[derive(Default)]
pub(crate) struct Views(BTreeMap<Revision, (Rc<View>, Micros)>);

/// More are not kept: nobody who runs is further behind.
const KEPT: usize = 1024;

impl Views {
    /// The view of who comes to a revision: the one that all there share. An error when it is another than that.
    pub(crate) fn share(
        &mut self,
        now: Micros,
        revision: Revision,
        view: Rc<View>,
    ) -> Result<Rc<View>, Rc<View>> {
        match self.0.get(&revision) {
            Some((first, _)) if **first == *view => return Ok(Rc::clone(first)),
            Some(_) => return Err(view),
            None => {}
        }
        if self.0.len() >= KEPT {
            self.0.pop_first();
        }
        self.0.insert(revision, (Rc::clone(&view), now));
        Ok(view)
    }

    /// The view of all that is published at a revision: the one that is known there, if that is it.
    pub(crate) fn of_all(
        &self,
        revision: Revision,
        deltas: impl Iterator<Item = Delta>,
    ) -> Rc<View> {
        let deltas: Vec<Rc<Delta>> = deltas.map(Rc::new).collect();
        let is_it = |there: &&Rc<View>| View::default().leads_to(there, &deltas).is_some();
        self.at(revision).filter(is_it).cloned().unwrap_or_else(|| {
            let mut view = View::default();
            deltas.iter().for_each(|delta| view.apply(delta));
            Rc::new(view)
        })
    }

    /// The newest revision that anybody came to.
    pub(crate) fn newest(&self) -> Option<Revision> {
        self.0.last_key_value().map(|(revision, _)| *revision)
    }

    /// What is known at a revision, when it is one of the newest.
    pub(crate) fn at(&self, revision: Revision) -> Option<&Rc<View>> {
        self.0.get(&revision).map(|(view, _)| view)
    }

    /// Since when there has been more than a revision; none when there is not.
    pub(crate) fn more_since(&self, held: Revision) -> Option<Micros> {
        let mut later = self.0.range((Bound::Excluded(held), Bound::Unbounded));
        later.next().map(|(_, (_, since))| *since)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use weft_types::Workload;

    fn workload(name: &str, node: &str, identity: u32) -> Delta {
        let (name, node) = (NamespacedName::new("sim", name), NodeName(node.to_owned()));
        Delta::WorkloadUpsert(Workload { name, node, identity: Identity(identity) })
    }

    #[test]
    fn views_are_alike_whatever_led_to_them() {
        let one: View = [workload("a", "x", 1), workload("b", "y", 2)].into_iter().collect();
        let on_another_way = [
            workload("b", "x", 1),
            workload("a", "x", 1),
            workload("b", "y", 2),
            workload("c", "x", 3),
        ];
        let mut other: View = on_another_way.into_iter().collect();
        assert!(one != other);
        let gone = Rc::new(workload("c", "x", 3).deletion());
        let x = NodeName("x".to_owned());
        assert_eq!(other.leads_to(&one, &[Rc::clone(&gone)]), Some(BTreeSet::from([x])));
        assert_eq!(other.leads_to(&one, &[]), None);
        assert_eq!(
            one.leads_to(&one, &[gone, Rc::new(workload("a", "x", 1))]),
            Some(BTreeSet::new())
        );
        other.apply(&Rc::new(workload("c", "x", 3).deletion()));
        assert!(one == other);
        assert_eq!(other.share(&NodeName("x".to_owned())).unwrap().scheduled.size(), 1);
    }

    #[test]
    fn who_comes_to_a_revision_otherwise_is_noticed() {
        let mut views = Views::default();
        let at = Revision::new(1, 7);
        let view = |identity| Rc::new([workload("a", "x", identity)].into_iter().collect::<View>());
        let first = views.share(Micros(5), at, view(1)).ok().unwrap();
        assert!(Rc::ptr_eq(&first, &views.share(Micros(6), at, view(1)).ok().unwrap()));
        assert!(views.share(Micros(7), at, view(2)).is_err());
        let all = |identity| views.of_all(at, [workload("a", "x", identity)].into_iter());
        assert!(Rc::ptr_eq(&first, &all(1)) && *all(2) == *view(2));
        assert_eq!(views.more_since(Revision::new(1, 6)), Some(Micros(5)));
        assert_eq!(views.more_since(at), None);
    }
}
