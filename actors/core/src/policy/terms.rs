//! What policies say of whom, each thing once: selectors with the identities they match, blocks with the
//! numbers of the prefixes in them.

use ipnet::{IpNet, Ipv4Net};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::Ipv4Addr,
};
use weft_types::{
    Identity, Label, LabelSet, Selector, Source,
    label::key,
    policy::{IpBlock, Peer, PolicyId},
    selector::Requirement,
};

/// A term's number within the engine.
pub(super) type TermId = u32;

/// A description of peers or subjects that at least one policy uses.
#[derive(Clone, Debug)]
pub(super) struct Term {
    what: Peer,
    /// Identities that match, or numbers of the prefixes inside; sorted.
    pub(super) members: BTreeSet<u32>,
    /// Policies whose subjects these are.
    pub(super) subject_of: BTreeSet<PolicyId>,
    /// Policies with a rule for these.
    pub(super) peer_of: BTreeSet<PolicyId>,
    /// Policies that need to know the pods behind the addresses of the block: they name its ports.
    pub(super) pinned_by: BTreeSet<PolicyId>,
}

/// What a selector is found by: one label, or a key with any value.
type Handle = (Source, String, Option<String>);

/// All terms, found by what they say, by the labels they want and by the prefixes they hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    terms: BTreeMap<TermId, Term>,
    by_peer: BTreeMap<Peer, TermId>,
    by_handle: BTreeMap<Handle, BTreeSet<TermId>>,
    without_handle: BTreeSet<TermId>,
    by_cidr: BTreeMap<Ipv4Net, BTreeSet<TermId>>,
    next: TermId,
}

/// Identities, found by their labels.
#[derive(Clone, Debug, Default)]
pub(super) struct Identities {
    labels: BTreeMap<Identity, LabelSet>,
    by_label: BTreeMap<(Source, String, String), BTreeSet<Identity>>,
}

fn handle_of(label: &Label) -> (Source, String, String) {
    (label.source, label.key.clone(), label.value.clone())
}

impl Identities {
    pub(super) fn insert(&mut self, identity: Identity, labels: LabelSet) {
        for label in labels.iter() {
            let with = self.by_label.entry(handle_of(label)).or_default();
            with.insert(identity);
        }
        self.labels.insert(identity, labels);
    }

    pub(super) fn remove(&mut self, identity: Identity) -> Option<LabelSet> {
        let labels = self.labels.remove(&identity)?;
        for label in labels.iter() {
            let handle = handle_of(label);
            if let Some(with) = self.by_label.get_mut(&handle) {
                with.remove(&identity);
                if with.is_empty() {
                    self.by_label.remove(&handle);
                }
            }
        }
        Some(labels)
    }

    pub(super) fn all(&self) -> &BTreeMap<Identity, LabelSet> {
        &self.labels
    }

    /// The identities that a selector matches.
    fn matching(&self, selector: &Selector) -> BTreeSet<u32> {
        let matches = |id: &Identity| {
            self.labels.get(id).is_some_and(|labels| selector.matches(labels)).then_some(id.0)
        };
        match best_requirement(selector) {
            Some(Requirement::In { source, key, values }) => values
                .iter()
                .filter_map(|value| self.by_label.get(&(*source, key.clone(), value.clone())))
                .flatten()
                .filter_map(matches)
                .collect(),
            _ => self.labels.keys().filter_map(matches).collect(),
        }
    }
}

impl Terms {
    pub(super) fn get(&self, id: TermId) -> Option<&Term> {
        self.terms.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: TermId) -> Option<&mut Term> {
        self.terms.get_mut(&id)
    }

    /// Whether a term has this number as a member.
    pub(super) fn has(&self, id: TermId, number: u32) -> bool {
        self.get(id).is_some_and(|term| term.members.contains(&number))
    }

    /// The term of a description; made, with its members, when it is new.
    pub(super) fn intern(
        &mut self,
        what: &Peer,
        identities: &Identities,
        prefixes: &BTreeMap<Ipv4Net, u32>,
    ) -> TermId {
        if let Some(id) = self.by_peer.get(what) {
            return *id;
        }
        let id = self.next;
        self.next += 1;
        let members = match what {
            Peer::Pods(selector) => identities.matching(selector),
            Peer::Block(block) => prefixes_in(block, prefixes),
        };
        self.index(id, what, true);
        self.by_peer.insert(what.clone(), id);
        let (subject_of, peer_of, pinned_by) = Default::default();
        let term = Term { what: what.clone(), members, subject_of, peer_of, pinned_by };
        self.terms.insert(id, term);
        id
    }

    /// Forgets a term that no policy uses any more.
    pub(super) fn release(&mut self, id: TermId) {
        let used = |term: &Term| !term.subject_of.is_empty() || !term.peer_of.is_empty();
        if self.get(id).is_some_and(used) {
            return;
        }
        if let Some(term) = self.terms.remove(&id) {
            self.by_peer.remove(&term.what);
            self.index(id, &term.what, false);
        }
    }

    fn index(&mut self, id: TermId, what: &Peer, here: bool) {
        match what {
            Peer::Block(IpBlock { cidr: IpNet::V4(cidr), .. }) => {
                put(&mut self.by_cidr, cidr.trunc(), id, here);
            }
            Peer::Block(IpBlock { cidr: IpNet::V6(_), .. }) => {}
            Peer::Pods(selector) => {
                let handles = handles(selector);
                if handles.is_empty() && here {
                    self.without_handle.insert(id);
                } else if handles.is_empty() {
                    self.without_handle.remove(&id);
                }
                for handle in handles {
                    put(&mut self.by_handle, handle, id, here);
                }
            }
        }
    }

    /// The selectors that match a label set.
    pub(super) fn matching(&self, labels: &LabelSet) -> BTreeSet<TermId> {
        let mut candidates = self.without_handle.clone();
        for label in labels.iter() {
            let whole = (label.source, label.key.clone(), Some(label.value.clone()));
            candidates.extend(self.by_handle.get(&whole).into_iter().flatten());
            let any = (label.source, label.key.clone(), None);
            candidates.extend(self.by_handle.get(&any).into_iter().flatten());
        }
        let matches = |id: &TermId| match self.get(*id).map(|term| &term.what) {
            Some(Peer::Pods(selector)) => selector.matches(labels),
            Some(Peer::Block(_)) | None => false,
        };
        candidates.into_iter().filter(matches).collect()
    }

    /// The blocks that a prefix is in, outside their excepts.
    pub(super) fn around(&self, prefix: &Ipv4Net) -> Vec<TermId> {
        let holds = |id: &&TermId| match self.get(**id).map(|term| &term.what) {
            Some(Peer::Block(block)) => in_block(block, prefix),
            Some(Peer::Pods(_)) | None => false,
        };
        (0..=prefix.prefix_len())
            .filter_map(|length| Ipv4Net::new(prefix.network(), length).ok())
            .filter_map(|around| self.by_cidr.get(&around.trunc()))
            .flatten()
            .filter(holds)
            .copied()
            .collect()
    }

    /// Whether some policy names ports of whoever has this address.
    pub(super) fn pins(&self, address: Ipv4Addr) -> bool {
        let pins = |id: &TermId| self.get(*id).is_some_and(|term| !term.pinned_by.is_empty());
        self.around(&Ipv4Net::from(address)).iter().any(pins)
    }

    /// The block of a term.
    pub(super) fn cidr(&self, id: TermId) -> Option<Ipv4Net> {
        match &self.get(id)?.what {
            Peer::Block(IpBlock { cidr: IpNet::V4(cidr), .. }) => Some(cidr.trunc()),
            Peer::Block(IpBlock { cidr: IpNet::V6(_), .. }) | Peer::Pods(_) => None,
        }
    }
}

/// Adds a term to what a key finds, or takes it out.
fn put<K: Ord>(index: &mut BTreeMap<K, BTreeSet<TermId>>, key: K, id: TermId, here: bool) {
    match index.entry(key) {
        Entry::Occupied(mut found) if !here => {
            found.get_mut().remove(&id);
            if found.get().is_empty() {
                found.remove();
            }
        }
        Entry::Vacant(_) if !here => {}
        entry @ (Entry::Occupied(_) | Entry::Vacant(_)) => {
            entry.or_default().insert(id);
        }
    }
}

/// Whether a prefix lies inside the block and outside its excepts.
fn in_block(block: &IpBlock, prefix: &Ipv4Net) -> bool {
    let inside = |net: &IpNet| matches!(net, IpNet::V4(net) if net.contains(prefix));
    inside(&block.cidr) && !block.except.iter().any(inside)
}

fn prefixes_in(block: &IpBlock, prefixes: &BTreeMap<Ipv4Net, u32>) -> BTreeSet<u32> {
    let IpNet::V4(cidr) = block.cidr else { return BTreeSet::new() };
    prefixes
        .range(cidr.trunc()..)
        .take_while(|(prefix, _)| prefix.network() <= cidr.broadcast())
        .filter(|(prefix, _)| in_block(block, prefix))
        .map(|(_, number)| *number)
        .collect()
}

/// What a selector is found by; nothing for one that only says what must not be.
fn handles(selector: &Selector) -> Vec<Handle> {
    match best_requirement(selector) {
        Some(Requirement::In { source, key, values }) => {
            values.iter().map(|value| (*source, key.clone(), Some(value.clone()))).collect()
        }
        Some(Requirement::Exists { source, key }) => vec![(*source, key.clone(), None)],
        Some(Requirement::NotIn { .. } | Requirement::Absent { .. }) | None => Vec::new(),
    }
}

/// The requirement that fewest identities meet: a value before a mere key, the pod's own label before its
/// namespace.
fn best_requirement(selector: &Selector) -> Option<&Requirement> {
    let rank = |requirement: &&Requirement| match requirement {
        Requirement::In { key, .. } => Some(u8::from(key == key::NAMESPACE)),
        Requirement::Exists { key, .. } => Some(2 + u8::from(key == key::NAMESPACE)),
        Requirement::NotIn { .. } | Requirement::Absent { .. } => None,
    };
    let ranked = selector.requirements().iter().filter(|r| rank(r).is_some());
    ranked.min_by_key(rank)
}
