//! What a commit needs of the kernel against what there is room for, and who is to blame when it is too much.

use super::{ByPeer, Engine, Step};
use std::{collections::BTreeMap, fmt};
use weft_types::policy::{Isolation, Peer, Peers, PolicyId, RuleId};

/// What the kernel's maps have room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Entries of one class.
    pub class_entries: usize,
    /// Prefixes that policies may name.
    pub prefixes: usize,
}

/// A step that there is no room for. None of it was done, and what was there before goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// What is too large.
    pub what: What,
    /// How large it would be.
    pub wanted: usize,
    /// How large it may be.
    pub room: usize,
}

/// What is too large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A policy class.
    Class {
        /// Its number.
        class: u32,
        /// Of the rules behind its entries, those behind most.
        rules: Vec<RuleId>,
        /// How many these are behind.
        entries: usize,
    },
    /// The prefixes that all policies name.
    Prefixes {
        /// The policy that names most, and how many.
        most: Option<(PolicyId, usize)>,
    },
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, wanted, room } = self;
        match what {
            What::Class { class, rules, entries } => {
                let names: Vec<String> = rules.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "policy class {class} would need {wanted} entries and may have {room}: {entries} of them come from \
                     {}; the class stays as it was. Name fewer ports or peers there, or raise --class-entries",
                    names.join(", ")
                )
            }
            What::Prefixes { most } => {
                write!(f, "policies would name {wanted} prefixes and may name {room}")?;
                if let Some((policy, prefixes)) = most {
                    write!(f, ": {policy} names {prefixes} of them")?;
                }
                write!(
                    f,
                    "; what was in force stays so. Name fewer blocks there, or raise --policy-prefixes"
                )
            }
        }
    }
}

impl Engine {
    /// Why there is no room for a step of the last commit, if there is none.
    pub fn excess(&self, step: &Step, room: &Room) -> Option<Excess> {
        match step {
            // What goes is still there while what comes is written: for that the trie has room.
            Step::Prefixes(_) if self.named.len() > room.prefixes => Some(Excess {
                what: What::Prefixes { most: self.names_most() },
                wanted: self.named.len(),
                room: room.prefixes,
            }),
            Step::Prefixes(_) | Step::Remove(_) => None,
            Step::Edit(_) | Step::Replace(_) => step.classes().into_iter().find_map(|class| {
                let by_peer = self.realised.get(&class)?;
                let wanted = by_peer.values().map(BTreeMap::len).sum();
                let what = || self.largest(class, by_peer);
                let room = room.class_entries;
                (wanted > room).then(|| Excess { what: what(), wanted, room })
            }),
        }
    }

    fn largest(&self, class: u32, by_peer: &ByPeer) -> What {
        let mut behind: BTreeMap<u32, usize> = BTreeMap::new();
        for entry in by_peer.values().flat_map(BTreeMap::values) {
            *behind.entry(entry.rule).or_default() += 1;
        }
        let most = behind.into_iter().max_by_key(|(_, entries)| *entries).unwrap_or_default();
        What::Class { class, rules: self.rules_of(most.0), entries: most.1 }
    }

    fn names_most(&self) -> Option<(PolicyId, usize)> {
        let named = |isolation: &Isolation| match isolation {
            Isolation::Open => 0,
            Isolation::Isolated(rules) => rules.iter().map(|rule| prefixes_of(&rule.peers)).sum(),
        };
        self.policies()
            .map(|policy| (policy.id.clone(), named(&policy.ingress) + named(&policy.egress)))
            .max_by_key(|(_, prefixes)| *prefixes)
    }
}

/// How many prefixes peers name: blocks and what is taken out of them.
fn prefixes_of(peers: &Peers) -> usize {
    match peers {
        Peers::Anyone => 0,
        Peers::Only(peers) => peers
            .iter()
            .map(|peer| match peer {
                Peer::Pods(_) => 0,
                Peer::Block(block) => 1 + block.except.len(),
            })
            .sum(),
    }
}
