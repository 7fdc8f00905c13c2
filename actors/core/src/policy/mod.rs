//! Policies resolved into policy classes: what each class's trie holds, and which rule each entry came from.
//!
//! A change touches what it changes. An identity is matched against the selectors that one of its labels finds;
//! where it joins or leaves one, the classes of the policies that use the selector get edits of the entries for
//! that identity. A policy that comes or goes makes the classes of its subjects be resolved anew.
//!
//! [`Changes`] are steps in an order in which, at every moment, each address and port is judged as before the
//! commit or as after it, and never by a mixture (property-tested step by step).

mod commit;
mod compile;
mod edits;
mod index;
mod numbers;
pub mod offline;
mod ports;
mod room;
mod terms;
mod views;

use compile::{ByPeer, Resolved};
use ipnet::Ipv4Net;
pub use numbers::RuleNames;
use numbers::{PrefixNumbers, RuleNumbers};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};
use terms::{Identities, TermId, Terms};
use weft_abi::policy::{ClassEdit, PolicyEntry, PolicyPrefix};
use weft_types::{
    Identity, LabelSet, Policy,
    policy::{Direction, PolicyId},
};

/// What a class's trie holds.
pub type Entries = BTreeMap<PolicyPrefix, PolicyEntry>;

pub use room::{Excess, Room, What};
pub use views::prefixes_of_rows;

/// Rule sets that may be remembered without a class that holds them; past it they are looked through.
const RULES_SPARE: usize = 1024;

/// Identities, policies and the classes wanted on this node; says at each commit what changed.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    identities: Identities,
    policies: BTreeMap<PolicyId, Known>,
    pods: BTreeMap<Ipv4Addr, Identity>,
    held: BTreeMap<Identity, usize>,
    terms: Terms,
    rules: RuleNumbers,
    /// Prefixes that policies name, and addresses of pods whose ports they name, each with how often.
    named: BTreeMap<Ipv4Net, usize>,
    /// Addresses of pods that are named because a policy names ports of whoever has them.
    pinned: BTreeSet<Ipv4Addr>,
    numbers: PrefixNumbers,
    /// What the prefix trie names.
    trie: BTreeMap<Ipv4Net, u32>,
    /// What the last commit took out of the trie; it may still be there if that failed.
    lingering: BTreeMap<Ipv4Net, u32>,
    /// Of those, what the next commit has to name once more.
    returning: BTreeMap<Ipv4Net, u32>,
    realised: BTreeMap<u32, ByPeer>,
    /// How it was before the last commit.
    undo: Undo,
    dirty: Dirty,
    stale: Option<Stale>,
    work: Work,
}

/// What an engine has resolved since it was made: its costs follow what changes, not what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Classes, each whole.
    pub classes: u64,
    /// Peers, each for one class.
    pub peers: u64,
}

/// A policy and what it was resolved to.
#[derive(Clone, Debug)]
struct Known {
    policy: Policy,
    subject: TermId,
    ingress: Option<Vec<Resolved>>,
    egress: Option<Vec<Resolved>>,
}

/// What the next commit has to look at.
#[derive(Clone, Debug, Default)]
struct Dirty {
    /// Classes to be resolved anew.
    classes: BTreeSet<u32>,
    /// Peers of a class to be resolved anew.
    peers: BTreeMap<u32, BTreeSet<u32>>,
    /// Classes whose content in the kernel is not known, with what it was to be before.
    distrusted: Distrusted,
    /// Whether what the prefix trie holds is not known.
    trie: bool,
}

/// What a commit changed of what the kernel is to hold, so that one that is refused leaves no trace.
#[derive(Clone, Debug, Default)]
struct Undo {
    /// Parts of classes, in the order in which they changed.
    classes: Vec<(u32, Was)>,
    /// Prefixes that came into the trie; those that went linger.
    added: BTreeSet<Ipv4Net>,
    returning: BTreeMap<Ipv4Net, u32>,
    distrusted: Distrusted,
    trie: bool,
    /// How many of its steps come before those that take prefixes out again: classes hold what they are to from there on.
    classes_are_done: usize,
}

/// Classes, and what each held last as far as it is known; none where it is to be new.
type Distrusted = BTreeMap<u32, Option<ByPeer>>;

/// What a part of a class was.
#[derive(Clone, Debug)]
enum Was {
    /// All of it; none where there was no such class.
    Whole(Option<ByPeer>),
    /// What it held for a peer.
    Peer(u32, Entries),
}

/// What a snapshot has not said again yet.
#[derive(Clone, Debug)]
struct Stale {
    identities: BTreeSet<Identity>,
    policies: BTreeSet<PolicyId>,
    pods: BTreeSet<Ipv4Addr>,
}

/// What changed between two commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// To be done in this order, each whole before the next. When one fails, the rest is not done: [`Engine::failed`].
    pub steps: Vec<Step>,
}

/// One step of [`Changes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Edit classes in place, each by its edits in their order.
    Edit(BTreeMap<u32, Vec<ClassEdit>>),
    /// Swap classes in whole, each at once.
    Replace(BTreeMap<u32, Entries>),
    /// The prefix trie names exactly these, with their node-local identities.
    Prefixes(BTreeMap<Ipv4Net, u32>),
    /// Take classes out: nobody wants them any more.
    Remove(BTreeSet<u32>),
}

impl Step {
    /// The classes that it is about.
    pub fn classes(&self) -> BTreeSet<u32> {
        match self {
            Self::Edit(classes) => classes.keys().copied().collect(),
            Self::Replace(classes) => classes.keys().copied().collect(),
            Self::Remove(classes) => classes.clone(),
            Self::Prefixes(_) => BTreeSet::new(),
        }
    }
}

/// What comes in.
impl Engine {
    /// A number stands for a label set.
    pub fn upsert_identity(&mut self, identity: Identity, labels: LabelSet) {
        if let Some(stale) = &mut self.stale {
            stale.identities.remove(&identity);
        }
        if self.identities.all().get(&identity) == Some(&labels) {
            return;
        }
        self.delete_identity(identity);
        let joined = self.terms.matching(&labels);
        self.identities.insert(identity, labels);
        for term in joined {
            if let Some(term) = self.terms.get_mut(term) {
                term.members.insert(identity.0);
            }
            self.moved(term, identity.0);
        }
        self.dirty.classes.insert(identity.0);
        self.touch_pins_of(identity);
    }

    /// A number stands for nothing any more.
    pub fn delete_identity(&mut self, identity: Identity) {
        let Some(labels) = self.identities.remove(identity) else { return };
        for term in self.terms.matching(&labels) {
            self.moved(term, identity.0);
            if let Some(term) = self.terms.get_mut(term) {
                term.members.remove(&identity.0);
            }
        }
        self.dirty.classes.insert(identity.0);
        self.touch_pins_of(identity);
    }

    /// Adds or replaces a policy.
    pub fn upsert_policy(&mut self, policy: Policy) {
        if let Some(stale) = &mut self.stale {
            stale.policies.remove(&policy.id);
        }
        if self.policies.get(&policy.id).is_some_and(|known| known.policy == policy) {
            return;
        }
        // The new terms first, so that one which both versions use keeps its members.
        let known = self.resolve(policy);
        let id = known.policy.id.clone();
        let old = self.policies.remove(&id);
        if let Some(old) = &old {
            self.unlink(old);
        }
        self.link(&known);
        self.policies.insert(id, known);
        if let Some(old) = old {
            self.forget_terms(&old);
        }
    }

    /// Takes a policy out.
    pub fn delete_policy(&mut self, id: &PolicyId) {
        if let Some(old) = self.policies.remove(id) {
            self.unlink(&old);
            self.forget_terms(&old);
        }
    }

    /// An address is a pod's.
    pub fn upsert_pod(&mut self, address: Ipv4Addr, identity: Identity) {
        if let Some(stale) = &mut self.stale {
            stale.pods.remove(&address);
        }
        if self.pods.insert(address, identity) != Some(identity) {
            self.repin(address);
            self.touch_address(address);
        }
    }

    /// An address is nobody's.
    pub fn delete_pod(&mut self, address: Ipv4Addr) {
        if self.pods.remove(&address).is_some() {
            self.repin(address);
            self.touch_address(address);
        }
    }

    /// An endpoint of this class is here; counted.
    pub fn hold(&mut self, identity: Identity) {
        *self.held.entry(identity).or_default() += 1;
        self.dirty.classes.insert(identity.0);
    }

    /// An endpoint of this class is gone.
    pub fn release(&mut self, identity: Identity) {
        if let Some(count) = self.held.get_mut(&identity) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&identity);
                self.dirty.classes.insert(identity.0);
            }
        }
    }

    /// A snapshot begins: what it does not say again is forgotten at the next commit.
    pub fn clear(&mut self) {
        self.stale = Some(Stale {
            identities: self.identities.all().keys().copied().collect(),
            policies: self.policies.keys().cloned().collect(),
            pods: self.pods.keys().copied().collect(),
        });
    }

    /// The kernel may not hold what was said of these classes: the next commit says them whole.
    pub fn distrust(&mut self, classes: impl IntoIterator<Item = u32>) {
        for class in classes {
            let was = self.realised.remove(&class);
            self.dirty.classes.insert(class);
            let known = self.dirty.distrusted.entry(class).or_default();
            *known = was.or(known.take());
        }
    }

    /// A step of the last commit failed, done in part or not at all, and those after it were not done. What was in force before
    /// it is what the next one goes on from, so that whatever the kernel has of both is put in order as safely.
    pub fn failed(&mut self, steps: &[Step], at: usize) {
        let (done, undone) = steps.split_at(at.min(steps.len()));
        let is_prefixes = |step: &Step| matches!(step, Step::Prefixes(_));
        if at >= self.undo.classes_are_done {
            undone.iter().for_each(|step| self.distrust(step.classes()));
            if undone.iter().any(is_prefixes) {
                self.distrust_prefixes();
            }
            return;
        }
        let touched: Vec<&Step> = done.iter().chain(undone.first()).collect();
        let numbered = |prefix: &Ipv4Net| Some((*prefix, *self.trie.get(prefix)?));
        let added: Vec<(Ipv4Net, u32)> = self.undo.added.iter().filter_map(numbered).collect();
        self.refuse();
        touched.iter().for_each(|step| self.distrust(step.classes()));
        if touched.iter().any(|step| is_prefixes(step)) {
            self.dirty.trie = true;
            // The kernel may name them, so they come back like new ones whether anybody names them or not.
            self.returning.extend(added);
        }
    }

    /// Whether what the kernel holds of a class is not known.
    pub fn distrusts(&self, class: u32) -> bool {
        self.dirty.distrusted.contains_key(&class)
    }

    /// The kernel may not hold what was said of prefixes: the next commit says them again.
    pub fn distrust_prefixes(&mut self) {
        self.dirty.trie = true;
        // They may still be there, so they come back like new ones, and go again after.
        self.returning.append(&mut self.lingering);
    }

    /// Nothing of the last commit was done, for want of room: the next one goes on from what was there before it.
    pub fn refuse(&mut self) {
        let undo = std::mem::take(&mut self.undo);
        for (class, was) in undo.classes.into_iter().rev() {
            self.dirty.classes.insert(class);
            match was {
                Was::Whole(Some(by_peer)) => drop(self.realised.insert(class, by_peer)),
                Was::Whole(None) => drop(self.realised.remove(&class)),
                Was::Peer(peer, entries) => {
                    let Some(by_peer) = self.realised.get_mut(&class) else { continue };
                    by_peer.remove(&peer);
                    if !entries.is_empty() {
                        by_peer.insert(peer, entries);
                    }
                }
            }
        }
        for (prefix, number) in std::mem::take(&mut self.lingering) {
            self.trie.insert(prefix, number);
            self.admit(prefix, number);
        }
        // One that came back only to go again did both.
        for prefix in undo.added {
            if let Some(number) = self.trie.remove(&prefix) {
                self.expel(prefix, number);
            }
        }
        self.returning.extend(undo.returning);
        self.dirty.distrusted.extend(undo.distrusted);
        self.dirty.trie |= undo.trie;
    }

    /// What the kernel's prefix trie names, read back before the first commit: the numbers are kept.
    pub fn seed_prefixes(&mut self, prefixes: &BTreeMap<Ipv4Net, u32>) {
        self.numbers.seed(prefixes);
        self.trie = prefixes.clone();
        for (prefix, number) in prefixes {
            self.admit(*prefix, *number);
        }
    }

    /// What the kernel's classes hold, read back before the first commit. A class that nobody holds when it
    /// comes is taken out by it, so hold the endpoints that live on before.
    pub fn seed_classes(&mut self, classes: &BTreeMap<u32, Entries>) {
        for (class, entries) in classes {
            let mut by_peer = ByPeer::new();
            for (prefix, entry) in entries {
                by_peer.entry(prefix.key.identity).or_default().insert(*prefix, *entry);
            }
            self.realised.insert(*class, by_peer);
            self.dirty.classes.insert(*class);
        }
    }
}

impl Known {
    /// The rules of a direction that the policy isolates.
    fn rules(&self, direction: Direction) -> Option<&Vec<Resolved>> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }
}
