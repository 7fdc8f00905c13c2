//! What can be asked of the engine.

use super::{Engine, Entries, RuleNames, Work, commit::flat};
use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use weft_abi::ipcache::PrefixEntry;
use weft_types::{
    Identity, LabelSet, Policy,
    policy::{Direction, PolicyId, RuleId},
};

/// What can be asked.
impl Engine {
    /// What it has resolved so far.
    pub fn work(&self) -> Work {
        self.work
    }

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
