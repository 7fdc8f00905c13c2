//! Who refers to a number: Pods that are to have it, and pods with it that nodes have plugged.
//!
//! | a number is | and | becomes | what agents are told |
//! |---|---|---|---|
//! | free | is given to a label set | live | it stands for the set |
//! | live | has no reference, and is retired | retiring | it stands for nothing |
//! | retiring | is referred to | live | it stands for the set |
//! | retiring | is freed | free | |
//!
//! Whatever else is wanted of a number changes nothing. A node may refer to one that stands for nothing here, as of a life
//! of the cluster that was lost: it is not given to anybody before the node lets go of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use weft_types::{Delta, Identity, LabelSet, NodeName};

/// Where in its life a number is that stands for a label set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Agents know it.
    #[default]
    Live,
    /// Agents are to forget it. Nobody refers to it.
    Retiring,
}

/// Who refers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Referrer<'a> {
    /// A Pod.
    Pod,
    /// A node, by an address.
    Node(&'a NodeName),
}

/// A number, and who refers to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbered {
    /// The label set that it stands for.
    pub labels: Option<Arc<LabelSet>>,
    /// Its place in the order in which numbers were given.
    pub place: u64,
    /// Where in its life it is.
    pub phase: Phase,
    /// Pods that are to have it.
    pub pods: usize,
    /// Addresses that have it, by node.
    pub nodes: BTreeMap<NodeName, usize>,
}

impl Numbered {
    /// Whether nobody refers to it.
    pub fn is_idle(&self) -> bool {
        self.pods == 0 && self.nodes.is_empty()
    }
}

/// Every number that stands for something, or is referred to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    numbers: BTreeMap<Identity, Numbered>,
    /// Live ones that nobody refers to.
    idle: BTreeSet<Identity>,
    retiring: BTreeSet<Identity>,
    places: u64,
}

impl References {
    /// A number.
    pub fn get(&self, number: Identity) -> Option<&Numbered> {
        self.numbers.get(&number)
    }

    /// All, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (Identity, &Numbered)> {
        self.numbers.iter().map(|(number, numbered)| (*number, numbered))
    }

    /// Live ones that nobody refers to.
    pub fn idle(&self) -> &BTreeSet<Identity> {
        &self.idle
    }

    /// Those that agents are to forget.
    pub fn retiring(&self) -> &BTreeSet<Identity> {
        &self.retiring
    }

    /// How many numbers were given so far.
    pub fn places(&self) -> u64 {
        self.places
    }

    /// A number stands for a label set from now on; false if it stands for one already.
    pub(crate) fn give(&mut self, number: Identity, labels: Arc<LabelSet>) -> bool {
        let numbered = self.numbers.entry(number).or_default();
        if numbered.labels.is_some() {
            return false;
        }
        self.places += 1;
        (numbered.labels, numbered.place) = (Some(labels), self.places);
        if numbered.is_idle() {
            self.idle.insert(number);
        }
        true
    }

    /// Somebody refers to a number: what agents are told, if that brings it back.
    pub(crate) fn acquire(&mut self, number: Identity, who: Referrer<'_>) -> Option<Delta> {
        let numbered = self.numbers.entry(number).or_default();
        match who {
            Referrer::Pod => numbered.pods += 1,
            Referrer::Node(node) => *numbered.nodes.entry(node.clone()).or_default() += 1,
        }
        self.idle.remove(&number);
        if !self.retiring.remove(&number) {
            return None;
        }
        numbered.phase = Phase::Live;
        let labels = numbered.labels.as_deref()?;
        Some(Delta::IdentityUpsert(number, labels.clone()))
    }

    /// Somebody refers to a number no more.
    pub(crate) fn release(&mut self, number: Identity, who: Referrer<'_>) {
        let Some(numbered) = self.numbers.get_mut(&number) else { return };
        match who {
            Referrer::Pod => numbered.pods = numbered.pods.saturating_sub(1),
            Referrer::Node(node) => match numbered.nodes.get_mut(node) {
                Some(count) if *count > 1 => *count -= 1,
                _ => _ = numbered.nodes.remove(node),
            },
        }
        if !numbered.is_idle() {
            return;
        }
        if numbered.labels.is_some() {
            self.idle.insert(number);
        } else {
            self.numbers.remove(&number);
        }
    }

    /// Agents are to forget a number that nobody refers to.
    pub(crate) fn retire(&mut self, number: Identity) -> Option<Delta> {
        if !self.idle.remove(&number) {
            return None;
        }
        self.retiring.insert(number);
        self.numbers.get_mut(&number)?.phase = Phase::Retiring;
        Some(Delta::IdentityDelete(number))
    }

    /// A number that agents were to forget stands for nothing any more; what it stood for.
    pub(crate) fn free(&mut self, number: Identity) -> Option<Arc<LabelSet>> {
        if !self.retiring.remove(&number) {
            return None;
        }
        self.numbers.remove(&number)?.labels
    }

    /// Numbers as a snapshot has them, before anybody refers to them.
    pub(crate) fn restore(&mut self, places: u64, given: Vec<(Identity, Arc<LabelSet>, u64)>) {
        for (number, labels, place) in given {
            self.give(number, labels);
            if let Some(numbered) = self.numbers.get_mut(&number) {
                numbered.place = place;
            }
        }
        self.places = places;
    }
}
