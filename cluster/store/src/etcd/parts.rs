//! What is written, in parts that a transaction takes each.

use super::records::Change;
use etcd_client::{Compare, CompareOp, TxnOp};

/// What a transaction may have beside the fence (etcd: `--max-txn-ops` is 128 by default).
const MOST: usize = 126;
/// Bytes of keys and values in a transaction that has several (etcd: `--max-request-bytes` is 1.5 MiB by default).
const FULL: usize = 1 << 20;

/// What becomes of one key.
#[derive(Debug)]
pub(super) struct Write {
    key: String,
    /// None when it is removed.
    value: Option<Vec<u8>>,
    /// The record of identities that it is, which must be as it is known.
    pub(super) record: Option<Change>,
}

impl Write {
    /// Of a key that may have whatever value.
    pub(super) fn of(key: String, value: Option<Vec<u8>>) -> Self {
        Self { key, value, record: None }
    }

    /// Of a record of identities.
    pub(super) fn of_record(key: String, change: Change) -> Self {
        Self { key, value: None, record: Some(change) }
    }

    /// What must be so.
    pub(super) fn compare(&self) -> Option<Compare> {
        let before = self.record.as_ref()?.before;
        Some(Compare::mod_revision(self.key.clone(), CompareOp::Equal, before))
    }

    /// What is done then.
    pub(super) fn operation(&self) -> TxnOp {
        match self.value() {
            Some(value) => TxnOp::put(self.key.clone(), value.to_vec(), None),
            None => TxnOp::delete(self.key.clone(), None),
        }
    }

    fn value(&self) -> Option<&[u8]> {
        let record = self.record.as_ref().map(|change| change.value.as_deref());
        record.unwrap_or(self.value.as_deref())
    }

    fn size(&self) -> usize {
        self.key.len() + self.value().map_or(0, <[u8]>::len)
    }
}

/// Writes of different keys by as few transactions; without any it is one, which compares the fence.
pub(super) fn parts(writes: Vec<Write>) -> Vec<Vec<Write>> {
    let sized = writes.into_iter().map(|write| (write.size(), write));
    let mut parts = groups(sized, MOST, FULL);
    if parts.is_empty() {
        parts.push(Vec::new());
    }
    parts
}

/// Things in their order, so many in a group at most, and so many bytes in one that has several. No group is empty.
pub(super) fn groups<T>(
    sized: impl IntoIterator<Item = (usize, T)>,
    most: usize,
    full: usize,
) -> Vec<Vec<T>> {
    let (mut groups, mut bytes) = (Vec::<Vec<T>>::new(), 0);
    for (size, thing) in sized {
        match groups.last_mut() {
            Some(group) if group.len() < most && bytes + size <= full => {
                group.push(thing);
                bytes += size;
            }
            _ => {
                groups.push(vec![thing]);
                bytes = size;
            }
        }
    }
    groups
}
