//! Policies resolved into policy classes: what each class's trie holds, and which rule each entry came from.

mod compile;
pub mod offline;
mod ports;

use compile::Compiler;
use ipnet::Ipv4Net;
use std::collections::{BTreeMap, BTreeSet};
use weft_abi::policy::{PolicyEntry, PolicyPrefix};
use weft_types::{
    Identity, LabelSet, Policy,
    policy::{Direction, Isolation, PolicyId, RuleId},
};

/// What a class's trie holds.
pub type Entries = BTreeMap<PolicyPrefix, PolicyEntry>;

/// Identities, policies and the classes wanted on this node; resolves them when asked.
#[derive(Debug, Default)]
pub struct Engine {
    identities: BTreeMap<Identity, LabelSet>,
    policies: BTreeMap<PolicyId, Policy>,
    wanted: BTreeMap<Identity, usize>,
    rules: Numbers<BTreeSet<RuleId>>,
    prefixes: Numbers<Ipv4Net>,
    realised: BTreeMap<u32, Entries>,
    named: BTreeMap<Ipv4Net, u32>,
}

/// What changed between two commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Classes to be swapped in whole.
    pub replaced: BTreeMap<u32, Entries>,
    /// Classes that nobody wants any more.
    pub removed: BTreeSet<u32>,
    /// Prefixes that policies name now, with their node-local identities; all of them when they changed.
    pub prefixes: Option<BTreeMap<Ipv4Net, u32>>,
}

/// Numbers given once to each of some things, from 1 upwards; a number is never given again.
#[derive(Debug)]
struct Numbers<T> {
    by_thing: BTreeMap<T, u32>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self { by_thing: BTreeMap::new() }
    }
}

impl<T: Ord> Numbers<T> {
    fn of(&mut self, thing: T) -> u32 {
        let next = u32::try_from(self.by_thing.len() + 1).unwrap_or(u32::MAX);
        *self.by_thing.entry(thing).or_insert(next)
    }
}

impl Engine {
    /// A number stands for a label set.
    pub fn upsert_identity(&mut self, identity: Identity, labels: LabelSet) {
        self.identities.insert(identity, labels);
    }

    /// A number stands for nothing any more.
    pub fn delete_identity(&mut self, identity: Identity) {
        self.identities.remove(&identity);
    }

    /// Adds or replaces a policy.
    pub fn upsert_policy(&mut self, policy: Policy) {
        self.policies.insert(policy.id.clone(), policy);
    }

    /// Takes a policy out.
    pub fn delete_policy(&mut self, id: &PolicyId) {
        self.policies.remove(id);
    }

    /// An endpoint of this class is here; counted.
    pub fn hold(&mut self, identity: Identity) {
        *self.wanted.entry(identity).or_default() += 1;
    }

    /// An endpoint of this class is gone.
    pub fn release(&mut self, identity: Identity) {
        if let Some(count) = self.wanted.get_mut(&identity) {
            *count -= 1;
            if *count == 0 {
                self.wanted.remove(&identity);
            }
        }
    }

    /// Forgets identities and policies, for a snapshot that says all of them anew.
    pub fn clear(&mut self) {
        self.identities.clear();
        self.policies.clear();
    }

    /// Resolves, and says what changed since the last time.
    pub fn commit(&mut self) -> Changes {
        let named = self.number_prefixes();
        let mut desired = BTreeMap::new();
        for (identity, labels) in
            self.wanted.keys().filter_map(|id| Some((id, self.identities.get(id)?)))
        {
            let compiler = Compiler {
                subject: labels,
                identities: &self.identities,
                policies: &self.policies,
                prefixes: &named,
            };
            let entries = compiler.compile(|rules| self.rules.of(rules));
            desired.insert(identity.0, entries);
        }
        let mut changes = Changes::default();
        for (class, entries) in &desired {
            if self.realised.get(class) != Some(entries) {
                changes.replaced.insert(*class, entries.clone());
            }
        }
        changes.removed =
            self.realised.keys().filter(|class| !desired.contains_key(class)).copied().collect();
        if named != self.named {
            changes.prefixes = Some(named.clone());
        }
        self.realised = desired;
        self.named = named;
        changes
    }

    /// Node-local identities of the prefixes that policies name.
    fn number_prefixes(&mut self) -> BTreeMap<Ipv4Net, u32> {
        let named: BTreeSet<Ipv4Net> =
            self.policies.values().flat_map(compile::prefixes_of).collect();
        named
            .into_iter()
            .map(|prefix| (prefix, Identity::LOCAL_MIN - 1 + self.prefixes.of(prefix)))
            .collect()
    }

    /// What every wanted class holds, as of the last commit.
    pub fn classes(&self) -> &BTreeMap<u32, Entries> {
        &self.realised
    }

    /// The prefixes that policies name, as of the last commit.
    pub fn prefixes(&self) -> &BTreeMap<Ipv4Net, u32> {
        &self.named
    }

    /// The rules behind an entry.
    pub fn rules_of(&self, number: u32) -> Vec<RuleId> {
        self.rules
            .by_thing
            .iter()
            .find(|(_, n)| **n == number)
            .map(|(rules, _)| rules.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// The policies that isolate a class in a direction: who is to blame when nothing allows.
    pub fn isolating(&self, class: u32, direction: Direction) -> Vec<PolicyId> {
        let Some(labels) = self.identities.get(&Identity(class)) else { return Vec::new() };
        self.policies
            .values()
            .filter(|policy| {
                let isolation = match direction {
                    Direction::Ingress => &policy.ingress,
                    Direction::Egress => &policy.egress,
                };
                matches!(isolation, Isolation::Isolated(_)) && policy.subject.matches(labels)
            })
            .map(|policy| policy.id.clone())
            .collect()
    }

    /// The label set of a number.
    pub fn labels(&self, identity: Identity) -> Option<&LabelSet> {
        self.identities.get(&identity)
    }

    /// Every identity.
    pub fn identities(&self) -> &BTreeMap<Identity, LabelSet> {
        &self.identities
    }

    /// Every policy.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.values()
    }
}
