//! Numbers and their label sets in few bytes, for serde's `with`: a label that many sets have is written once, and is in memory
//! once when they are read.

use crate::{Identity, Label, LabelSet};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{borrow::Borrow, collections::HashMap, sync::Arc};

/// A number, and the places of its labels among all.
type Row = (Identity, Vec<usize>);

/// Writes the labels, in the order in which they are met, and then of each number which of them it stands for.
pub fn serialize<S: Serializer>(
    pairs: &[(Identity, impl Borrow<LabelSet>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let (mut places, mut labels) = (HashMap::new(), Vec::new());
    let mut place = |label| {
        *places.entry(label).or_insert_with(|| {
            labels.push(label);
            labels.len() - 1
        })
    };
    let mut rows: Vec<Row> = Vec::with_capacity(pairs.len());
    for (number, set) in pairs {
        rows.push((*number, set.borrow().iter().map(&mut place).collect()));
    }
    (labels, rows).serialize(serializer)
}

/// Reads what was written so.
pub fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(Identity, LabelSet)>, D::Error> {
    let (labels, rows): (Vec<Arc<Label>>, Vec<Row>) = Deserialize::deserialize(deserializer)?;
    let label = |place: usize| {
        let lacking = || D::Error::custom(format!("label {place} of {}", labels.len()));
        labels.get(place).cloned().ok_or_else(lacking)
    };
    let read = |(number, set): Row| {
        Ok((number, set.into_iter().map(label).collect::<Result<LabelSet, _>>()?))
    };
    rows.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Source, codec};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Packed(#[serde(with = "super")] Vec<(Identity, LabelSet)>);

    fn set(app: u32) -> LabelSet {
        let mut labels = LabelSet::new();
        labels.insert(Source::K8s, "app", format!("app-{app}"));
        labels.insert(Source::K8s, "io.kubernetes.pod.namespace", "shop");
        labels
    }

    #[test]
    fn what_sets_have_in_common_is_there_once() {
        let packed = Packed((0..100).map(|n| (Identity(256 + n), set(n))).collect());
        let mut bytes = Vec::new();
        codec::encode_into(&packed, &mut bytes).unwrap();
        let shared = b"io.kubernetes.pod.namespace";
        assert_eq!(bytes.windows(shared.len()).filter(|window| window == shared).count(), 1);
        let read: Packed = codec::decode(&bytes).unwrap();
        assert_eq!(read, packed);
        let namespace = |at: usize| std::ptr::from_ref(read.0[at].1.iter().last().unwrap());
        assert_eq!(namespace(0), namespace(99));
    }

    #[test]
    fn a_label_that_is_not_there_is_an_error() {
        let mut bytes = Vec::new();
        let label = Label { source: Source::K8s, key: "app".to_owned(), value: String::new() };
        codec::encode_into(&(vec![label], vec![(Identity(256), vec![0_usize, 1])]), &mut bytes)
            .unwrap();
        let said = codec::decode::<Packed>(&bytes).unwrap_err().to_string();
        assert!(said.contains("label 1 of 1"), "{said}");
    }
}
