//! What was seen not to hold after a step, by id.

use crate::{
    numbers::{Freed, Numbers},
    time::Micros,
};
use std::{collections::BTreeMap, sync::Arc};
use weft_raft::{Index, MemberId, Term};
use weft_state::CommandV1;
use weft_store::{Fence, MemoryStore};
use weft_types::{Identity, Invariant, LabelSet};

/// One that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// When, as text.
    pub at: String,
    #[serde(skip)]
    pub(crate) when: Micros,
    /// What was seen.
    pub seen: String,
}

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Invariants {
    numbers: Numbers,
    leaders: BTreeMap<Term, MemberId>,
    log: BTreeMap<Index, (Term, u64)>,
    fence: Fence,
    pub(crate) violations: Vec<Violation>,
}

/// More are not kept: the first says what is wrong.
const KEPT: usize = 16;

impl Invariants {
    /// With how long agents are given at least to forget a number.
    pub(crate) fn new(grace: Micros) -> Self {
        Self { numbers: Numbers::new(grace), ..Self::default() }
    }

    pub(crate) fn violated(&mut self, invariant: Invariant, now: Micros, seen: String) {
        if self.violations.len() < KEPT {
            self.violations.push(Violation { invariant, at: now.to_string(), when: now, seen });
        }
    }

    /// Nothing more is learned by going on.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.violations.len() >= KEPT
    }

    /// A member leads.
    pub(crate) fn elected(&mut self, now: Micros, member: MemberId, term: Term) {
        let first = *self.leaders.entry(term).or_insert(member);
        if first != member {
            let seen = format!("members {first} and {member} both lead in term {term}");
            self.violated(Invariant::OneLeader, now, seen);
        }
    }

    /// A member applies a command; `hash` is that of its bytes. Whether it is the first that does.
    pub(crate) fn applied(
        &mut self,
        now: Micros,
        member: MemberId,
        (index, term, hash): (Index, Term, u64),
        command: &CommandV1,
        store: &MemoryStore,
    ) -> bool {
        if let Some(first) = self.log.get(&index) {
            if *first != (term, hash) {
                let seen = format!("member {member} has another entry {index} than who was first");
                self.violated(Invariant::OneLog, now, seen);
            }
            return false;
        }
        self.log.insert(index, (term, hash));
        let (CommandV1::Desire { identities, .. } | CommandV1::FilterLabels { identities, .. }) =
            command
        else {
            return true;
        };
        for (number, labels) in identities {
            if store.label_set(*number) != Some(labels) {
                let seen =
                    format!("entry {index} gives {number} to {labels:?}, the store does not");
                self.violated(Invariant::StoreFirst, now, seen);
            }
        }
        true
    }

    /// A label set has a number by the log; what that stood for before it was free.
    pub(crate) fn numbered(
        &mut self,
        now: Micros,
        number: Identity,
        labels: &LabelSet,
    ) -> Option<LabelSet> {
        self.numbers.given(number, labels).unwrap_or_else(|seen| {
            self.violated(Invariant::OneNumber, now, seen);
            None
        })
    }

    /// Agents are to forget a number.
    pub(crate) fn retired(&mut self, now: Micros, number: Identity) {
        self.numbers.retired(now, number);
    }

    /// A number is free; nothing when agents were not to forget it.
    pub(crate) fn freed(&mut self, now: Micros, number: Identity) -> Option<Freed> {
        let freed = self.numbers.freed(now, number)?;
        if freed.is_early {
            let seen = format!("{number} is free, and was to be forgotten since {}", freed.since);
            self.violated(Invariant::NoReuse, now, seen);
        }
        Some(freed)
    }

    /// All logs are lost, and the cluster is founded anew from the store, with these numbers.
    pub(crate) fn founded_anew(
        &mut self,
        now: Micros,
        fence: Fence,
        numbers: &BTreeMap<Arc<LabelSet>, Identity>,
    ) {
        self.raised(now, fence);
        self.leaders.clear();
        self.log.clear();
        for (labels, number) in numbers {
            self.numbered(now, *number, labels);
        }
    }

    /// The highest fence that the store has had.
    pub(crate) fn fence(&self) -> Fence {
        self.fence
    }

    /// The store has taken another fence.
    pub(crate) fn raised(&mut self, now: Micros, fence: Fence) {
        if fence <= self.fence {
            let seen = format!("{fence:?} took the place of {:?}", self.fence);
            self.violated(Invariant::NoStaleWrite, now, seen);
        }
        self.fence = self.fence.max(fence);
    }

    /// The store has taken a write.
    pub(crate) fn written(&mut self, now: Micros, fence: Fence) {
        if fence != self.fence {
            let seen = format!("a write of {fence:?} was taken after {:?}", self.fence);
            self.violated(Invariant::NoStaleWrite, now, seen);
        }
        self.fence = self.fence.max(fence.after_a_write());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_types::{Label, Source};

    fn labels(app: &str) -> LabelSet {
        let (key, value) = ("app".to_owned(), app.to_owned());
        LabelSet::from_iter([Label { source: Source::K8s, key, value }])
    }

    /// What is seen of numbers that are given to label sets one after the other.
    fn seen(given: &[(u32, &str)]) -> Vec<Invariant> {
        let mut invariants = Invariants::default();
        for (number, app) in given {
            invariants.numbered(Micros(0), Identity(*number), &labels(app));
        }
        invariants.violations.into_iter().map(|violation| violation.invariant).collect()
    }

    #[test]
    fn a_label_set_has_one_number_and_a_number_one_label_set() {
        assert_eq!(seen(&[(256, "a"), (257, "b"), (256, "a")]), []);
        assert_eq!(seen(&[(256, "a"), (257, "a")]), [Invariant::OneNumber]);
        assert_eq!(seen(&[(256, "a"), (256, "b")]), [Invariant::OneNumber]);
    }
}
