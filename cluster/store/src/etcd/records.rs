//! Identities in etcd: numbers that were given together share a record, since a key costs etcd more than its bytes.

use super::parts::groups;
use crate::{
    StoreError,
    keys::record_key,
    table::{decode, encode},
    unreadable,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use weft_types::{Batch, Identity, LabelSet, codec, packed};

/// Numbers in one record at most: beside theirs the cost of its key is little then, and forgetting one writes few others.
const MOST: usize = 64;
/// Bytes of label sets in one record that has several.
const FULL: usize = 64 << 10;

/// The value of a record, in the order of its numbers.
#[derive(Serialize, Deserialize)]
struct Value(#[serde(with = "packed")] Vec<(Identity, LabelSet)>);

/// What one record holds.
type Pairs = BTreeMap<Identity, LabelSet>;

/// A record as it was read or written last.
#[derive(Debug)]
struct Record {
    revision: i64,
    value: Vec<u8>,
}

/// What etcd has, as whoever writes it knows.
#[derive(Debug, Default)]
pub(super) struct Records {
    records: BTreeMap<u64, Record>,
    /// Which record a number is in.
    places: BTreeMap<Identity, u64>,
}

/// What becomes of a record.
#[derive(Debug)]
pub(super) struct Change {
    record: u64,
    /// The revision at which it was written last; 0 where there is none.
    pub(super) before: i64,
    /// The numbers that it has then.
    numbers: Vec<Identity>,
    /// Its value then; none when it is gone.
    pub(super) value: Option<Vec<u8>>,
}

impl Change {
    /// The record's key.
    pub(super) fn key(&self) -> String {
        record_key(self.record)
    }
}

impl Records {
    /// Takes in a record that is there; what it holds.
    pub(super) fn read(
        &mut self,
        key: &str,
        revision: i64,
        value: &[u8],
    ) -> Result<Vec<(Identity, LabelSet)>, StoreError> {
        let record = key.rsplit('/').next().and_then(|number| number.parse().ok());
        let record = record.ok_or_else(|| unreadable(key, "it is no record's key"))?;
        let Value(pairs) = decode(key, value)?;
        for (number, _) in &pairs {
            if let Some(other) = self.places.insert(*number, record) {
                let other = record_key(other);
                return Err(unreadable(key, format!("identity {number} is in {other} too")));
            }
        }
        self.records.insert(record, Record { revision, value: value.to_vec() });
        Ok(pairs)
    }

    /// What a batch changes; of one record all that is said of its numbers. What is there already is no change.
    pub(super) fn changes(&self, batch: &Batch) -> Result<Vec<Change>, StoreError> {
        let mut changed: BTreeMap<u64, Pairs> = BTreeMap::new();
        let forgotten: BTreeSet<Identity> = batch.forget.iter().copied().collect();
        for number in &forgotten {
            if let Some(record) = self.places.get(number) {
                self.open(&mut changed, *record)?.remove(number);
            }
        }
        let mut new = Vec::new();
        for (number, labels) in &batch.identities {
            let Some(record) = self.places.get(number) else {
                new.push((*number, labels.clone()));
                continue;
            };
            if forgotten.contains(number) {
                self.open(&mut changed, *record)?.insert(*number, labels.clone());
                continue;
            }
            let holder = self.pairs(*record)?.remove(number).unwrap_or_default();
            if holder != *labels {
                return Err(StoreError::Taken { number: *number, holder });
            }
        }
        let next = self.records.last_key_value().map_or(1, |(record, _)| record + 1);
        changed.extend((next..).zip(together(new)?));
        changed.into_iter().map(|(record, pairs)| self.change(record, pairs)).collect()
    }

    /// A change was made, at a revision.
    pub(super) fn made(&mut self, change: Change, revision: i64) {
        let Change { record, numbers, value, .. } = change;
        if let Some(before) = self.records.remove(&record)
            && let Ok(Value(pairs)) = decode(&record_key(record), &before.value)
        {
            pairs.iter().for_each(|(number, _)| _ = self.places.remove(number));
        }
        self.places.extend(numbers.into_iter().map(|number| (number, record)));
        self.records.extend(value.map(|value| (record, Record { revision, value })));
    }

    fn pairs(&self, record: u64) -> Result<Pairs, StoreError> {
        let Some(Record { value, .. }) = self.records.get(&record) else { return Ok(Pairs::new()) };
        let Value(pairs) = decode(&record_key(record), value)?;
        Ok(pairs.into_iter().collect())
    }

    fn open<'a>(
        &self,
        changed: &'a mut BTreeMap<u64, Pairs>,
        record: u64,
    ) -> Result<&'a mut Pairs, StoreError> {
        Ok(match changed.entry(record) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(self.pairs(record)?),
        })
    }

    fn change(&self, record: u64, pairs: Pairs) -> Result<Change, StoreError> {
        let before = self.records.get(&record).map_or(0, |known| known.revision);
        let numbers = pairs.keys().copied().collect();
        let value = Value(pairs.into_iter().collect());
        let is_gone = value.0.is_empty();
        let value = (!is_gone).then(|| encode(&record_key(record), &value)).transpose()?;
        Ok(Change { record, before, numbers, value })
    }
}

/// New numbers, as they share records.
fn together(pairs: Vec<(Identity, LabelSet)>) -> Result<Vec<Pairs>, StoreError> {
    let sized = pairs.into_iter().map(|(number, labels)| {
        let size = codec::encoded_size(&labels);
        let size = size.map_err(|error| unreadable(format!("identity {number}"), error.0))?;
        Ok((size, (number, labels)))
    });
    let sized = sized.collect::<Result<Vec<_>, _>>()?;
    Ok(groups(sized, MOST, FULL).into_iter().map(Pairs::from_iter).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_types::Source;

    fn labels(app: &str) -> LabelSet {
        let mut labels = LabelSet::new();
        labels.insert(Source::K8s, "app", app);
        labels
    }

    fn numbers(range: std::ops::Range<u32>) -> Batch {
        let identities = range.map(|n| (Identity(n), labels("web"))).collect();
        Batch { identities, ..Batch::default() }
    }

    fn forget(numbers: impl IntoIterator<Item = u32>) -> Batch {
        Batch { forget: numbers.into_iter().map(Identity).collect(), ..Batch::default() }
    }

    /// Makes all changes of a batch at a revision; the records that it wrote and those that it removed.
    fn make(records: &mut Records, batch: &Batch, revision: i64) -> (Vec<u64>, Vec<u64>) {
        let (mut put, mut gone) = (Vec::new(), Vec::new());
        for change in records.changes(batch).expect("right") {
            match &change.value {
                Some(_) => put.push(change.record),
                None => gone.push(change.record),
            }
            records.made(change, revision);
        }
        (put, gone)
    }

    #[test]
    fn what_is_given_together_shares_records_and_what_is_forgotten_is_no_more_in_them() {
        let mut records = Records::default();
        assert_eq!(make(&mut records, &numbers(256..257), 5), (vec![1], vec![]));
        assert_eq!(make(&mut records, &numbers(257..400), 6), (vec![2, 3, 4], vec![]));
        // Said again it is no change, and it is compared with what was written last.
        assert_eq!(make(&mut records, &numbers(256..400), 7), (vec![], vec![]));
        assert_eq!(make(&mut records, &forget([256, 260, 261, 900]), 8), (vec![2], vec![1]));
        let again = records.changes(&forget([262])).expect("right");
        assert_eq!(again.iter().map(|change| change.before).collect::<Vec<_>>(), [8]);
        let left: Vec<u32> = records.places.keys().map(|number| number.0).collect();
        assert_eq!(left, [257, 258, 259].into_iter().chain(262..400).collect::<Vec<_>>());
        // Those that are free are given with others, in a record of their own.
        assert_eq!(make(&mut records, &numbers(256..262), 9), (vec![5], vec![]));
        assert_eq!(make(&mut records, &forget(256..500), 10).1, [2, 3, 4, 5]);
        assert!(records.records.is_empty() && records.places.is_empty());
    }

    #[test]
    fn a_number_stands_for_one_label_set_until_it_is_forgotten() {
        let mut records = Records::default();
        make(&mut records, &numbers(256..300), 1);
        let other = Batch { identities: vec![(Identity(299), labels("db"))], ..Batch::default() };
        let taken = StoreError::Taken { number: Identity(299), holder: labels("web") };
        assert_eq!(records.changes(&other).expect_err("taken"), taken);
        let forgotten = Batch { forget: vec![Identity(299)], ..other };
        assert_eq!(make(&mut records, &forgotten, 2), (vec![1], vec![]));
        assert_eq!(records.pairs(1).expect("there").get(&Identity(299)), Some(&labels("db")));
    }

    #[test]
    fn a_long_label_set_has_a_record_with_few_others() {
        let (short, long) = (labels("web"), labels(&"x".repeat(FULL + 1)));
        let sets = [&short, &short, &long, &short, &long, &long];
        let identities = (256..).map(Identity).zip(sets.map(LabelSet::clone)).collect();
        let batch = Batch { identities, ..Batch::default() };
        let changes = Records::default().changes(&batch).expect("right");
        let shared: Vec<usize> = changes.iter().map(|change| change.numbers.len()).collect();
        assert_eq!(shared, [2, 1, 1, 1, 1]);
    }

    #[test]
    fn what_is_read_is_what_was_written_and_a_number_in_two_records_is_an_error() {
        let (mut written, mut read) = (Records::default(), Records::default());
        for change in written.changes(&numbers(256..400)).expect("right") {
            let value = change.value.clone().expect("not gone");
            let pairs = read.read(&change.key(), 7, &value).expect("ours");
            assert_eq!(pairs.len(), change.numbers.len());
            written.made(change, 7);
        }
        assert_eq!(read.places, written.places);
        let again = read.read(&record_key(9), 8, &written.records[&2].value).unwrap_err();
        let said = "read identities/0000000009: identity 320 is in identities/0000000002 too";
        assert_eq!(again.to_string(), said);
    }
}
