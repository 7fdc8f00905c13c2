//! What one map should hold, and what must be written for it: nothing but the difference.

use std::collections::BTreeMap;

/// Bytes of keys and values.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Keys with their new value, or none where the key goes.
pub type Edits = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The desired rows of a map, and whether the kernel is known to hold them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    desired: Option<Rows>,
    trusted: bool,
}

impl Table {
    /// The map is to hold exactly these.
    pub fn fill(&mut self, rows: Rows) {
        self.desired = Some(rows);
        self.trusted = false;
    }

    /// Some rows change. Nothing happens before the first [`Table::fill`]: a part says nothing of the whole.
    pub fn change(&mut self, edits: Edits) {
        if let Some(desired) = &mut self.desired {
            edit(desired, edits);
        }
    }

    /// What is desired; none before the first fill.
    pub fn desired(&self) -> Option<&Rows> {
        self.desired.as_ref()
    }

    /// Whether the kernel held what was desired when it was last looked at or written.
    pub fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// A write or a look succeeded, or failed and left the kernel's state unknown.
    pub fn trust(&mut self, trusted: bool) {
        self.trusted = trusted;
    }

    /// From what the kernel holds to what is desired.
    pub fn mend(&self, held: &Rows) -> Edits {
        let Some(desired) = &self.desired else { return Edits::new() };
        let missing = desired
            .iter()
            .filter(|(key, value)| held.get(*key) != Some(*value))
            .map(|(key, value)| (key.clone(), Some(value.clone())));
        let surplus = held.keys().filter(|key| !desired.contains_key(*key));
        missing.chain(surplus.map(|key| (key.clone(), None))).collect()
    }
}

/// Makes edits of rows.
fn edit<K: Ord, V>(rows: &mut BTreeMap<K, V>, edits: BTreeMap<K, Option<V>>) {
    // Merging is of both sides' size, and a row of it costs a fraction of looking its place up.
    let merges = edits.len() >= rows.len();
    let mut kept = Vec::new();
    for (key, value) in edits {
        match value {
            Some(value) if merges => kept.push((key, value)),
            Some(value) => drop(rows.insert(key, value)),
            None => drop(rows.remove(&key)),
        }
    }
    rows.append(&mut kept.into_iter().collect());
}

/// From one table to another.
pub fn difference(before: &Rows, after: &Rows) -> Edits {
    let changed = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    changed
        .map(|(key, value)| (key.clone(), Some(value.clone())))
        .chain(gone.map(|key| (key.clone(), None)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, cmp::Ordering};

    thread_local! {
        /// How often two of [`Counted`] were compared.
        static COMPARED: Cell<usize> = const { Cell::new(0) };
    }

    /// A key that tells how much is looked for.
    #[derive(PartialEq, Eq)]
    struct Counted(u32);

    impl Ord for Counted {
        fn cmp(&self, other: &Self) -> Ordering {
            COMPARED.set(COMPARED.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Counted {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    /// How many comparisons it takes to add so many rows, each behind one of the last that are there: who merges goes past all.
    fn compared(held: u32, edits: u32) -> usize {
        let mut rows: BTreeMap<_, _> = (0..held).map(|n| (Counted(2 * n), n)).collect();
        let edits: BTreeMap<_, _> =
            (0..edits).map(|n| (Counted(2 * (held - edits + n) + 1), Some(n))).collect();
        let (length, before) = (rows.len() + edits.len(), COMPARED.get());
        edit(&mut rows, edits);
        let after = COMPARED.get();
        assert_eq!(rows.len(), length);
        after - before
    }

    #[test]
    fn many_edits_are_merged_and_few_are_looked_up() {
        const ROWS: u32 = 4_000;
        // A place among so many takes more than ten.
        let many = compared(ROWS, ROWS);
        assert!(many < 5 * ROWS as usize, "{many} for as many edits as rows");
        let few = compared(ROWS, 10);
        assert!(few < 10 * 100, "{few} for ten edits");
    }

    fn rows(pairs: &[(u8, u8)]) -> Rows {
        pairs.iter().map(|(key, value)| (vec![*key], vec![*value])).collect()
    }

    #[test]
    fn a_part_says_nothing_before_the_whole() {
        let mut table = Table::default();
        table.change(Edits::from([(vec![1], Some(vec![1]))]));
        assert_eq!(table.desired(), None);
        assert_eq!(table.mend(&rows(&[(1, 1)])), Edits::new(), "nothing is deleted before");
    }

    #[test]
    fn mending_leads_to_what_is_desired() {
        let mut table = Table::default();
        table.fill(rows(&[(1, 1), (2, 2)]));
        table.change(Edits::from([(vec![2], Some(vec![3])), (vec![1], None)]));
        let edits = table.mend(&rows(&[(1, 1), (9, 9)]));
        let wanted = Edits::from([(vec![1], None), (vec![2], Some(vec![3])), (vec![9], None)]);
        assert_eq!(edits, wanted);
        assert_eq!(table.mend(&rows(&[(2, 3)])), Edits::new());
    }

    #[test]
    fn few_edits_and_many_come_to_the_same() {
        let (held, value) = (rows(&[(1, 1), (2, 2), (3, 3)]), |value: u8| Some(vec![value]));
        let edits = [(vec![1], None), (vec![2], value(9)), (vec![4], value(4)), (vec![5], None)];
        let mut tables = [Table::default(), Table::default()];
        tables.iter_mut().for_each(|table| table.fill(held.clone()));
        let [many, few] = &mut tables;
        many.change(edits.clone().into());
        edits.into_iter().for_each(|edit| few.change([edit].into()));
        assert_eq!(many.desired(), Some(&rows(&[(2, 9), (3, 3), (4, 4)])));
        assert_eq!(few.desired(), many.desired());
    }

    #[test]
    fn a_difference_is_what_leads_from_one_to_the_other() {
        let (before, after) = (rows(&[(1, 1), (2, 2), (3, 3)]), rows(&[(2, 2), (3, 4), (5, 5)]));
        let mut table = Table::default();
        table.fill(before.clone());
        table.change(difference(&before, &after));
        assert_eq!(table.desired(), Some(&after));
        assert_eq!(difference(&after, &after), Edits::new());
    }
}
