//! Policies resolved into policy classes: what each class's trie holds, and which rule each entry came from.
//!
//! A change touches what it changes. An identity is matched against the selectors that one of its labels finds;
//! where it joins or leaves one, the classes of the policies that use the selector get edits of the entries for
//! that identity. A policy that comes or goes makes the classes of its subjects be resolved anew.
//!
//! [`Changes`] are steps in an order in which, at every moment, each address and port is judged as before the
//! commit or as after it, and never by a mixture (property-tested step by step).

mod compile;
mod edits;
mod numbers;
pub mod offline;
mod ports;
mod room;
mod terms;

use compile::{ByPeer, Compiler, Resolved, Rules, Who};
use ipnet::{IpNet, Ipv4Net};
pub use numbers::RuleNames;
use numbers::{PrefixNumbers, RuleNumbers};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};
use terms::{Identities, TermId, Terms};
use weft_abi::{
    ipcache::PrefixEntry,
    policy::{ClassEdit, PolicyEntry, PolicyPrefix},
};
use weft_types::{
    Identity, LabelSet, Policy, Selector,
    policy::{Direction, IpBlock, Isolation, Peer, Peers, PolicyId, Rule, RuleId},
};

/// What a class's trie holds.
pub type Entries = BTreeMap<PolicyPrefix, PolicyEntry>;

pub use room::{Excess, Room, What};

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
    dirty: Dirty,
    stale: Option<Stale>,
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
    /// Classes whose content in the kernel is not known.
    distrusted: BTreeSet<u32>,
    /// Whether what the prefix trie holds is not known.
    trie: bool,
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
    /// To be done in this order, each whole before the next. When one fails, the rest is not done:
    /// [`Engine::distrust`] its classes, and the next commit says them whole.
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
            self.realised.remove(&class);
            self.dirty.classes.insert(class);
            self.dirty.distrusted.insert(class);
        }
    }

    /// The kernel may not hold what was said of prefixes: the next commit says them again.
    pub fn distrust_prefixes(&mut self) {
        self.dirty.trie = true;
        // They may still be there, so they come back like new ones, and go again after.
        self.returning.append(&mut self.lingering);
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

/// Policies and their terms.
impl Engine {
    fn resolve(&mut self, policy: Policy) -> Known {
        let subject = self.intern(&Peer::Pods(policy.subject.clone()));
        let ingress = self.resolve_rules(&policy, Direction::Ingress);
        let egress = self.resolve_rules(&policy, Direction::Egress);
        Known { policy, subject, ingress, egress }
    }

    fn resolve_rules(&mut self, policy: &Policy, direction: Direction) -> Option<Vec<Resolved>> {
        let Isolation::Isolated(rules) = isolation(policy, direction) else { return None };
        let resolved = (0u32..).zip(rules).map(|(index, rule)| {
            let id = RuleId { policy: policy.id.clone(), direction, index };
            let peers = match &rule.peers {
                Peers::Anyone if by_name(rule, direction) => {
                    Who::AnyoneByName(self.intern(&Peer::Pods(Selector::default())))
                }
                Peers::Anyone => Who::Anyone,
                Peers::Only(peers) => Who::Only(peers.iter().map(|p| self.intern(p)).collect()),
            };
            Resolved { id, peers, ports: rule.ports.clone() }
        });
        Some(resolved.collect())
    }

    fn intern(&mut self, what: &Peer) -> TermId {
        self.terms.intern(what, &self.identities, &self.trie)
    }

    /// A policy comes: it is noted at its terms, its prefixes are named, its subjects are dirty.
    fn link(&mut self, known: &Known) {
        let id = &known.policy.id;
        if let Some(term) = self.terms.get_mut(known.subject) {
            term.subject_of.insert(id.clone());
        }
        for (term, pins) in uses(known) {
            if let Some(term) = self.terms.get_mut(term) {
                term.peer_of.insert(id.clone());
                if pins {
                    term.pinned_by.insert(id.clone());
                }
            }
            if pins {
                self.repin_block(term);
            }
        }
        for prefix in prefixes_of(&known.policy) {
            *self.named.entry(prefix).or_default() += 1;
        }
        self.dirty_subjects(known);
    }

    /// A policy goes; its terms stay until [`Engine::forget_terms`].
    fn unlink(&mut self, known: &Known) {
        let id = &known.policy.id;
        self.dirty_subjects(known);
        if let Some(term) = self.terms.get_mut(known.subject) {
            term.subject_of.remove(id);
        }
        for (term, pins) in uses(known) {
            if let Some(term) = self.terms.get_mut(term) {
                term.peer_of.remove(id);
                term.pinned_by.remove(id);
            }
            if pins {
                self.repin_block(term);
            }
        }
        for prefix in prefixes_of(&known.policy) {
            self.unname(prefix);
        }
    }

    /// Terms that a policy used are forgotten if none uses them any more.
    fn forget_terms(&mut self, known: &Known) {
        self.terms.release(known.subject);
        for (term, _) in uses(known) {
            self.terms.release(term);
        }
    }

    fn unname(&mut self, prefix: Ipv4Net) {
        if let Some(count) = self.named.get_mut(&prefix) {
            *count -= 1;
            if *count == 0 {
                self.named.remove(&prefix);
            }
        }
    }

    fn dirty_subjects(&mut self, known: &Known) {
        let classes = self.held_of(known);
        self.dirty.classes.extend(classes);
    }

    /// The held classes that a policy is about.
    fn held_of(&self, known: &Known) -> Vec<u32> {
        let Some(term) = self.terms.get(known.subject) else { return Vec::new() };
        let (members, held) = (&term.members, &self.held);
        if members.len() < held.len() {
            members.iter().filter(|class| held.contains_key(&Identity(**class))).copied().collect()
        } else {
            held.keys().map(|class| class.0).filter(|class| members.contains(class)).collect()
        }
    }

    /// A number joins or leaves a term: classes of policies with a rule for the term are dirty in that peer.
    fn moved(&mut self, term: TermId, number: u32) {
        let Some(term) = self.terms.get(term) else { return };
        let users = term.peer_of.iter().filter_map(|id| self.policies.get(id));
        let classes: BTreeSet<u32> = users.flat_map(|known| self.held_of(known)).collect();
        for class in classes {
            self.dirty.peers.entry(class).or_default().insert(number);
        }
    }
}

/// Prefixes, and the pods behind addresses whose ports a policy names.
impl Engine {
    /// A prefix with a number is a member of the blocks around it.
    fn admit(&mut self, prefix: Ipv4Net, number: u32) {
        for term in self.terms.around(&prefix) {
            if let Some(term) = self.terms.get_mut(term) {
                term.members.insert(number);
            }
            self.moved(term, number);
        }
    }

    fn expel(&mut self, prefix: Ipv4Net, number: u32) {
        for term in self.terms.around(&prefix) {
            if let Some(term) = self.terms.get_mut(term) {
                term.members.remove(&number);
            }
        }
    }

    /// Whether an address must be a prefix of its own: a policy names ports of whoever has it, and a pod does.
    fn repin(&mut self, address: Ipv4Addr) {
        let wanted = self.pods.contains_key(&address) && self.terms.pins(address);
        if wanted && self.pinned.insert(address) {
            *self.named.entry(address.into()).or_default() += 1;
        } else if !wanted && self.pinned.remove(&address) {
            self.unname(address.into());
        }
    }

    fn repin_block(&mut self, term: TermId) {
        let Some(cidr) = self.terms.cidr(term) else { return };
        let inside = cidr.network()..=cidr.broadcast();
        let addresses: Vec<Ipv4Addr> = self.pods.range(inside).map(|(at, _)| *at).collect();
        addresses.into_iter().for_each(|address| self.repin(address));
    }

    /// Who has an address changed, or what they call their ports.
    fn touch_address(&mut self, address: Ipv4Addr) {
        let prefix = Ipv4Net::from(address);
        let Some(number) = self.trie.get(&prefix).copied() else { return };
        for term in self.terms.around(&prefix) {
            self.moved(term, number);
        }
    }

    fn touch_pins_of(&mut self, identity: Identity) {
        let has = |address: &&Ipv4Addr| self.pods.get(*address) == Some(&identity);
        let addresses: Vec<Ipv4Addr> = self.pinned.iter().filter(has).copied().collect();
        addresses.into_iter().for_each(|address| self.touch_address(address));
    }
}

/// Commits.
impl Engine {
    /// Resolves what is dirty, and says what changed since the last time.
    pub fn commit(&mut self) -> Changes {
        self.drop_stale();
        let mut steps = Vec::new();
        // A new prefix is what the prefix around it was until now, for every class, before the trie names it.
        let added = self.number_prefixes(&mut steps);
        let retired: BTreeMap<Ipv4Net, u32> = self
            .trie
            .iter()
            .filter(|(prefix, _)| !self.named.contains_key(*prefix))
            .map(|(prefix, number)| (*prefix, *number))
            .collect();
        if added || self.dirty.trie {
            steps.push(Step::Prefixes(self.trie.clone()));
        }
        // Now that both the old and the new prefixes are told apart, classes may change.
        let removed = self.realise(&mut steps);
        // What no policy names any more is again what is around it; then nobody asks for its entries.
        if !retired.is_empty() {
            self.retire(&retired, &mut steps);
        }
        if !removed.is_empty() {
            steps.push(Step::Remove(removed));
        }
        self.lingering = retired;
        self.dirty = Dirty::default();
        self.sweep();
        Changes { steps }
    }

    fn drop_stale(&mut self) {
        let Some(stale) = self.stale.take() else { return };
        stale.policies.iter().for_each(|id| self.delete_policy(id));
        stale.identities.into_iter().for_each(|id| self.delete_identity(id));
        stale.pods.into_iter().for_each(|address| self.delete_pod(address));
    }

    /// Gives new prefixes their numbers, and every class their entries; whether there were any.
    fn number_prefixes(&mut self, steps: &mut Vec<Step>) -> bool {
        let returning = std::mem::take(&mut self.returning);
        let new: BTreeSet<Ipv4Net> = self
            .named
            .keys()
            .chain(returning.keys())
            .filter(|prefix| !self.trie.contains_key(prefix))
            .copied()
            .collect();
        let mut edits: BTreeMap<u32, Vec<ClassEdit>> = BTreeMap::new();
        let numbered: Vec<(Ipv4Net, u32, Option<u32>)> = new
            .iter()
            .map(|prefix| (*prefix, self.numbers.of(*prefix), parent(&self.trie, prefix)))
            .collect();
        for (prefix, number, parent) in numbered {
            self.trie.insert(prefix, number);
            self.admit(prefix, number);
            let Some(parent) = parent else { continue };
            for (class, by_peer) in &mut self.realised {
                let Some(entries) = by_peer.get(&parent) else { continue };
                let copies: Entries =
                    entries.iter().map(|(p, e)| (rekeyed(*p, number), *e)).collect();
                let old = by_peer.insert(number, copies.clone()).unwrap_or_default();
                edits.entry(*class).or_default().extend(edits::between(&old, &copies));
            }
        }
        edits.retain(|_, edits| !edits.is_empty());
        if !edits.is_empty() {
            steps.push(Step::Edit(edits));
        }
        !new.is_empty()
    }

    /// Resolves dirty classes and peers; returns the classes to be taken out, at the very end.
    fn realise(&mut self, steps: &mut Vec<Step>) -> BTreeSet<u32> {
        let dirty = std::mem::take(&mut self.dirty);
        let mut removed = BTreeSet::new();
        let mut replaced = BTreeMap::new();
        for class in &dirty.classes {
            let Some(by_peer) = self.class(*class) else {
                if self.realised.remove(class).is_some() || dirty.distrusted.contains(class) {
                    removed.insert(*class);
                }
                continue;
            };
            if self.realised.get(class) != Some(&by_peer) {
                replaced.insert(*class, flat(&by_peer));
                self.realised.insert(*class, by_peer);
            }
        }
        let edited = self.realise_peers(&dirty);
        if !replaced.is_empty() {
            steps.push(Step::Replace(replaced));
        }
        if !edited.is_empty() {
            steps.push(Step::Edit(edited));
        }
        removed
    }

    fn realise_peers(&mut self, dirty: &Dirty) -> BTreeMap<u32, Vec<ClassEdit>> {
        let mut edited = BTreeMap::new();
        for (class, peers) in &dirty.peers {
            if dirty.classes.contains(class) || !self.realised.contains_key(class) {
                continue;
            }
            let new = self.peers(*class, peers);
            let Some(by_peer) = self.realised.get_mut(class) else { continue };
            let mut edits = Vec::new();
            for (peer, entries) in new {
                let old = by_peer.remove(&peer).unwrap_or_default();
                edits.extend(edits::between(&old, &entries));
                if !entries.is_empty() {
                    by_peer.insert(peer, entries);
                }
            }
            if !edits.is_empty() {
                edited.insert(*class, edits);
            }
        }
        edited
    }

    /// Takes prefixes out of the trie, and then what classes hold for them.
    fn retire(&mut self, retired: &BTreeMap<Ipv4Net, u32>, steps: &mut Vec<Step>) {
        for (prefix, number) in retired {
            self.trie.remove(prefix);
            self.expel(*prefix, *number);
        }
        steps.push(Step::Prefixes(self.trie.clone()));
        let mut edits: BTreeMap<u32, Vec<ClassEdit>> = BTreeMap::new();
        for (class, by_peer) in &mut self.realised {
            for number in retired.values() {
                let gone = by_peer.remove(number).unwrap_or_default();
                let deleted = edits::between(&gone, &Entries::new());
                if !deleted.is_empty() {
                    edits.entry(*class).or_default().extend(deleted);
                }
            }
        }
        if !edits.is_empty() {
            steps.push(Step::Edit(edits));
        }
    }

    fn sweep(&mut self) {
        self.numbers.sweep(&self.trie);
        let held: usize = self.realised.len() + self.policies.len();
        if self.rules.len() > RULES_SPARE + 8 * held {
            let entries = self.realised.values().flat_map(BTreeMap::values);
            let used: BTreeSet<u32> =
                entries.flat_map(BTreeMap::values).map(|entry| entry.rule).collect();
            self.rules.retain(&used);
        }
    }

    /// The labels of a class that an endpoint here has.
    fn wanted(&self, class: u32) -> Option<&LabelSet> {
        self.held.get(&Identity(class))?;
        self.identities.all().get(&Identity(class))
    }

    fn class(&mut self, class: u32) -> Option<ByPeer> {
        let mut numbers = std::mem::take(&mut self.rules);
        let by_peer = self
            .wanted(class)
            .map(|subject| self.compiler(subject).class(&self.rules_about(subject), &mut numbers));
        self.rules = numbers;
        by_peer
    }

    fn peers(&mut self, class: u32, peers: &BTreeSet<u32>) -> BTreeMap<u32, Entries> {
        let mut numbers = std::mem::take(&mut self.rules);
        let mut found = BTreeMap::new();
        if let Some(subject) = self.wanted(class) {
            let (compiler, rules) = (self.compiler(subject), self.rules_about(subject));
            for peer in peers {
                found.insert(*peer, compiler.peer(*peer, &rules, &mut numbers));
            }
        }
        self.rules = numbers;
        found
    }

    fn compiler<'a>(&'a self, subject: &'a LabelSet) -> Compiler<'a> {
        Compiler {
            subject,
            identities: &self.identities,
            terms: &self.terms,
            prefixes: &self.numbers,
            pods: &self.pods,
        }
    }

    /// The policies about a label set.
    fn about(&self, subject: &LabelSet) -> Vec<&Known> {
        let terms = self.terms.matching(subject);
        let policies: BTreeSet<&PolicyId> = terms
            .iter()
            .filter_map(|term| self.terms.get(*term))
            .flat_map(|term| &term.subject_of)
            .collect();
        policies.into_iter().filter_map(|id| self.policies.get(id)).collect()
    }

    fn rules_about(&self, subject: &LabelSet) -> Rules<'_> {
        let policies = self.about(subject);
        let mut rules = Rules::default();
        for direction in [Direction::Ingress, Direction::Egress] {
            let isolating: Vec<&Vec<Resolved>> =
                policies.iter().filter_map(|known| known.rules(direction)).collect();
            if isolating.is_empty() {
                rules.open.push(direction);
            }
            rules.rules.extend(isolating.into_iter().flatten());
        }
        rules
    }
}

/// What can be asked.
impl Engine {
    /// What every wanted class holds, as of the last commit.
    pub fn classes(&self) -> BTreeMap<u32, Entries> {
        self.realised.iter().map(|(class, by_peer)| (*class, flat(by_peer))).collect()
    }

    /// The prefixes that policies name, as of the last commit.
    pub fn prefixes(&self) -> &BTreeMap<Ipv4Net, u32> {
        &self.trie
    }

    /// The rules behind an entry.
    pub fn rules_of(&self, number: u32) -> Vec<RuleId> {
        self.rules.rules(number).map(|rules| rules.iter().cloned().collect()).unwrap_or_default()
    }

    /// The rules behind every number that entries carry, or carried lately.
    pub fn rule_names(&self) -> &RuleNames {
        self.rules.names()
    }

    /// The policies that isolate a class in a direction: who is to blame when nothing allows.
    pub fn isolating(&self, class: u32, direction: Direction) -> Vec<PolicyId> {
        let Some(labels) = self.identities.all().get(&Identity(class)) else { return Vec::new() };
        let about = self.about(labels).into_iter();
        about.filter(|k| k.rules(direction).is_some()).map(|k| k.policy.id.clone()).collect()
    }

    /// How many endpoints of this node a policy is about.
    pub fn endpoints_of(&self, id: &PolicyId) -> usize {
        let classes = self.policies.get(id).map(|known| self.held_of(known)).unwrap_or_default();
        classes.into_iter().filter_map(|class| self.held.get(&Identity(class))).sum()
    }

    /// The label set of a number.
    pub fn labels(&self, identity: Identity) -> Option<&LabelSet> {
        self.identities.all().get(&identity)
    }

    /// Every identity.
    pub fn identities(&self) -> &BTreeMap<Identity, LabelSet> {
        self.identities.all()
    }

    /// Every policy.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.values().map(|known| &known.policy)
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

/// The named prefixes and their numbers, from rows of the kernel's prefix trie: of the rows with one number the
/// widest is the named prefix, the others (pod CIDRs) lie inside it.
pub fn prefixes_of_rows(rows: &BTreeMap<Ipv4Net, PrefixEntry>) -> BTreeMap<Ipv4Net, u32> {
    let mut widest: BTreeMap<u32, Ipv4Net> = BTreeMap::new();
    for (prefix, row) in rows.iter().filter(|(_, row)| row.cidr != 0) {
        let known = widest.entry(row.cidr).or_insert(*prefix);
        if prefix.prefix_len() < known.prefix_len() {
            *known = *prefix;
        }
    }
    widest.into_iter().map(|(number, prefix)| (prefix, number)).collect()
}

fn isolation(policy: &Policy, direction: Direction) -> &Isolation {
    match direction {
        Direction::Ingress => &policy.ingress,
        Direction::Egress => &policy.egress,
    }
}

/// Whether a rule's ports mean something else at each peer.
fn by_name(rule: &Rule, direction: Direction) -> bool {
    direction == Direction::Egress && compile::has_names(&rule.ports)
}

/// The terms of a policy's rules, and whether the pods behind the block's addresses matter.
fn uses(known: &Known) -> Vec<(TermId, bool)> {
    let rules = known.ingress.iter().chain(&known.egress).flatten();
    rules
        .flat_map(|rule| {
            let named = rule.id.direction == Direction::Egress && compile::has_names(&rule.ports);
            rule.peers.terms().iter().map(move |term| (*term, named))
        })
        .collect()
}

/// The IPv4 prefixes that a policy names.
fn prefixes_of(policy: &Policy) -> Vec<Ipv4Net> {
    let rules =
        [&policy.ingress, &policy.egress].into_iter().flat_map(|isolation| match isolation {
            Isolation::Open => &[][..],
            Isolation::Isolated(rules) => rules,
        });
    let peers = rules.flat_map(|rule| match &rule.peers {
        Peers::Anyone => &[][..],
        Peers::Only(peers) => peers,
    });
    let blocks = peers.filter_map(|peer| match peer {
        Peer::Pods(_) => None,
        Peer::Block(block) => Some(block),
    });
    blocks
        .flat_map(|IpBlock { cidr, except }| std::iter::once(cidr).chain(except))
        .filter_map(|net| match net {
            IpNet::V4(net) => Some(net.trunc()),
            IpNet::V6(_) => None,
        })
        .collect()
}

/// The number of the longest prefix around another.
fn parent(trie: &BTreeMap<Ipv4Net, u32>, prefix: &Ipv4Net) -> Option<u32> {
    (0..prefix.prefix_len()).rev().find_map(|length| {
        let around = Ipv4Net::new(prefix.network(), length).ok()?.trunc();
        trie.get(&around).copied()
    })
}

fn rekeyed(prefix: PolicyPrefix, peer: u32) -> PolicyPrefix {
    let mut prefix = prefix;
    prefix.key.identity = peer;
    prefix
}

fn flat(by_peer: &ByPeer) -> Entries {
    by_peer.values().flatten().map(|(prefix, entry)| (*prefix, *entry)).collect()
}
