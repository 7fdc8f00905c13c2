//! Numbers as the log gives them, has agents forget them, and frees them.

use crate::time::Micros;
use std::collections::BTreeMap;
use weft_types::{Identity, LabelSet};

/// Every number so far.
#[derive(Default)]
pub(crate) struct Numbers {
    /// How long at least agents are given to forget one.
    grace: Micros,
    sets: BTreeMap<Identity, LabelSet>,
    numbers: BTreeMap<LabelSet, Identity>,
    /// Since when agents are to forget them.
    retiring: BTreeMap<Identity, Micros>,
    /// What they stood for last that are free.
    free: BTreeMap<Identity, LabelSet>,
}

/// One that is free again.
pub(crate) struct Freed {
    /// Since when agents were to forget it.
    pub(crate) since: Micros,
    /// What it stood for.
    pub(crate) labels: LabelSet,
    /// Whether that was too short.
    pub(crate) is_early: bool,
}

impl Numbers {
    pub(crate) fn new(grace: Micros) -> Self {
        Self { grace, ..Self::default() }
    }

    /// A number stands for a label set from now on, or does so again; what it stood for before it was free. An error when it, or
    /// the set, has another.
    pub(crate) fn given(
        &mut self,
        number: Identity,
        labels: &LabelSet,
    ) -> Result<Option<LabelSet>, String> {
        self.retiring.remove(&number);
        let set = self.sets.entry(number).or_insert_with(|| labels.clone());
        let first = *self.numbers.entry(labels.clone()).or_insert(number);
        if set != labels || first != number {
            return Err(format!(
                "{labels:?} has {number} and {first}; {number} stands for {set:?}"
            ));
        }
        Ok(self.free.remove(&number))
    }

    /// Agents are to forget a number.
    pub(crate) fn retired(&mut self, now: Micros, number: Identity) {
        self.retiring.insert(number, now);
    }

    /// A number is free; none when it was not to be forgotten.
    pub(crate) fn freed(&mut self, now: Micros, number: Identity) -> Option<Freed> {
        let since = self.retiring.remove(&number)?;
        let labels = self.sets.remove(&number)?;
        self.numbers.remove(&labels);
        self.free.insert(number, labels.clone());
        Some(Freed { since, labels, is_early: now < since + self.grace })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use weft_types::{Label, Source};

    fn labels(app: &str) -> LabelSet {
        let (key, value) = ("app".to_owned(), app.to_owned());
        LabelSet::from_iter([Label { source: Source::K8s, key, value }])
    }

    #[test]
    fn a_number_is_another_sets_when_it_is_free_and_not_before() {
        let (mut numbers, number) = (Numbers::new(Micros(10)), Identity(256));
        numbers.given(number, &labels("a")).unwrap();
        assert!(numbers.freed(Micros(1), number).is_none(), "agents were not to forget it");
        numbers.retired(Micros(1), number);
        assert!(numbers.given(number, &labels("b")).is_err());
        numbers.retired(Micros(1), number);
        assert!(!numbers.freed(Micros(11), number).unwrap().is_early);
        assert_eq!(numbers.given(number, &labels("b")), Ok(Some(labels("a"))));
        assert_eq!(numbers.given(Identity(257), &labels("a")), Ok(None));
        numbers.retired(Micros(20), number);
        assert!(numbers.freed(Micros(29), number).unwrap().is_early);
    }
}
