//! A commit: what is dirty is resolved anew, and what changed becomes steps in a safe order.

use super::{
    Changes, Dirty, Engine, Entries, Known, RULES_SPARE, Step, Undo, Was,
    compile::{ByPeer, Compiler, Resolved, Rules},
    edits,
};
use ipnet::Ipv4Net;
use std::collections::{BTreeMap, BTreeSet};
use weft_abi::policy::{ClassEdit, PolicyPrefix};
use weft_types::{
    Identity, LabelSet,
    policy::{Direction, PolicyId},
};

/// Commits.
impl Engine {
    /// Resolves what is dirty, and says what changed since the last time.
    pub fn commit(&mut self) -> Changes {
        self.drop_stale();
        let (distrusted, trie) = (self.dirty.distrusted.clone(), self.dirty.trie);
        self.undo = Undo { distrusted, trie, ..Undo::default() };
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
        self.undo.classes_are_done = steps.len();
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
        // Whatever the kernel has of these, they have to be whole before it names anything new.
        let mut distrusted = std::mem::take(&mut self.dirty.distrusted);
        let mut mended = BTreeSet::new();
        let numbered: Vec<(Ipv4Net, u32, Option<u32>)> = new
            .iter()
            .map(|prefix| (*prefix, self.numbers.of(*prefix), parent(&self.trie, prefix)))
            .collect();
        for (prefix, number, parent) in numbered {
            self.trie.insert(prefix, number);
            self.undo.added.insert(prefix);
            self.admit(prefix, number);
            let Some(parent) = parent else { continue };
            for (class, by_peer) in &mut self.realised {
                let Some(entries) = by_peer.get(&parent) else { continue };
                let copies = copies(entries, number);
                let old = by_peer.insert(number, copies.clone()).unwrap_or_default();
                edits.entry(*class).or_default().extend(edits::between(&old, &copies));
                self.undo.classes.push((*class, Was::Peer(number, old)));
            }
            for (class, by_peer) in &mut distrusted {
                let Some(by_peer) = by_peer else { continue };
                let copied = by_peer.get(&parent).map(|entries| copies(entries, number));
                by_peer.remove(&number);
                by_peer.extend(copied.map(|entries| (number, entries)));
                mended.insert(*class);
            }
        }
        mended.retain(|class| self.wanted(*class).is_some());
        let whole = |class: &u32| Some((*class, flat(distrusted.get(class)?.as_ref()?)));
        let whole: BTreeMap<u32, Entries> = mended.iter().filter_map(whole).collect();
        if !whole.is_empty() {
            steps.push(Step::Replace(whole));
        }
        self.dirty.distrusted = distrusted;
        self.undo.returning = returning;
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
                let was = self.realised.remove(class);
                if was.is_some() || dirty.distrusted.contains_key(class) {
                    removed.insert(*class);
                    self.undo.classes.push((*class, Was::Whole(was)));
                }
                continue;
            };
            if self.realised.get(class) != Some(&by_peer) {
                replaced.insert(*class, flat(&by_peer));
                let was = self.realised.insert(*class, by_peer);
                self.undo.classes.push((*class, Was::Whole(was)));
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
                self.undo.classes.push((*class, Was::Peer(peer, old)));
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
                    self.undo.classes.push((*class, Was::Peer(*number, gone)));
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
        self.work.classes += u64::from(by_peer.is_some());
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
        self.work.peers += found.len() as u64;
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
    pub(super) fn about(&self, subject: &LabelSet) -> Vec<&Known> {
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

/// The number of the longest prefix around another.
fn parent(trie: &BTreeMap<Ipv4Net, u32>, prefix: &Ipv4Net) -> Option<u32> {
    (0..prefix.prefix_len()).rev().find_map(|length| {
        let around = Ipv4Net::new(prefix.network(), length).ok()?.trunc();
        trie.get(&around).copied()
    })
}

/// What is held for a peer, for another.
fn copies(entries: &Entries, peer: u32) -> Entries {
    entries.iter().map(|(prefix, entry)| (rekeyed(*prefix, peer), *entry)).collect()
}

fn rekeyed(prefix: PolicyPrefix, peer: u32) -> PolicyPrefix {
    let mut prefix = prefix;
    prefix.key.identity = peer;
    prefix
}

pub(super) fn flat(by_peer: &ByPeer) -> Entries {
    by_peer.values().flatten().map(|(prefix, entry)| (*prefix, *entry)).collect()
}
