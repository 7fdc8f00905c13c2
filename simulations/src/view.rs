//! What is published, as an agent knows it: a value that agents share while they know the same.

use ipnet::Ipv4Net;
use rpds::HashTrieMap;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    rc::Rc,
};
use weft_types::{Delta, NamespacedName, NodeName, delta::DeltaKey};

/// Everything that is published, in persistent maps: a thousand agents cost what their differences do. Nobody
/// looks at the order of these maps, which differs between runs.
#[derive(Clone, Default)]
pub(crate) struct View {
    entries: HashTrieMap<DeltaKey, Rc<Delta>>,
    shares: HashTrieMap<NodeName, Rc<Share>>,
}

/// What of it is about one node: made of the entries, so that an agent need not look at all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Share {
    /// Where the addresses of its pods are from.
    pub(crate) prefix: Option<Ipv4Net>,
    /// Pods that are scheduled to it.
    pub(crate) scheduled: BTreeSet<NamespacedName>,
    /// Its pods that are plugged, by address.
    pub(crate) plugged: BTreeMap<Ipv4Addr, NamespacedName>,
}

impl PartialEq for View {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl FromIterator<Rc<Delta>> for View {
    fn from_iter<T: IntoIterator<Item = Rc<Delta>>>(deltas: T) -> Self {
        let mut view = Self::default();
        deltas.into_iter().for_each(|delta| view.apply(&delta));
        view
    }
}

impl View {
    /// One change more.
    pub(crate) fn apply(&mut self, delta: &Rc<Delta>) {
        let key = delta.key();
        let before = self.entries.get(&key).cloned();
        if before.as_ref() == Some(delta) {
            return;
        }
        if let Some(before) = before {
            self.take_from_share(&before);
        }
        if delta.is_delete() {
            self.entries.remove_mut(&key);
        } else {
            self.add_to_share(delta);
            self.entries.insert_mut(key, Rc::clone(delta));
        }
    }

    /// What is about a node; nothing when nothing ever was.
    pub(crate) fn share(&self, node: &NodeName) -> Option<&Rc<Share>> {
        self.shares.get(node)
    }

    fn add_to_share(&mut self, delta: &Delta) {
        match delta {
            Delta::NodeUpsert(n) => {
                self.edit(&n.name, |share| share.prefix = n.pod_cidrs.first().copied());
            }
            Delta::WorkloadUpsert(w) => {
                self.edit(&w.node, |share| {
                    share.scheduled.insert(w.name.clone());
                });
            }
            Delta::EndpointUpsert(e) => {
                self.edit(&e.node, |share| drop(share.plugged.insert(e.address, e.name.clone())));
            }
            _ => {}
        }
    }

    fn take_from_share(&mut self, delta: &Delta) {
        match delta {
            Delta::NodeUpsert(n) => self.edit(&n.name, |share| share.prefix = None),
            Delta::WorkloadUpsert(w) => {
                self.edit(&w.node, |share| {
                    share.scheduled.remove(&w.name);
                });
            }
            Delta::EndpointUpsert(e) => {
                self.edit(&e.node, |share| drop(share.plugged.remove(&e.address)));
            }
            _ => {}
        }
    }

    fn edit(&mut self, node: &NodeName, edit: impl FnOnce(&mut Share)) {
        let mut share = self.shares.get(node).cloned().unwrap_or_default();
        edit(Rc::make_mut(&mut share));
        self.shares.insert_mut(node.clone(), share);
    }
}
