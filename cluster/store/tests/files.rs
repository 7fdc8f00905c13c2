//! The two files: what was written is there after they are opened again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::BTreeMap;
use weft_store::{Batch, Fence, FileLog, FileStore, Log, LogEntry, Store, StoreError};
use weft_types::{
    Identity, LabelSet, Object, Source,
    object::{Namespace, ObjectKey},
};

const FIRST: Fence = Fence { generation: 1, term: 1, round: 0 };

fn labels(app: &str) -> LabelSet {
    let mut labels = LabelSet::new();
    labels.insert(Source::K8s, "app", app);
    labels
}

fn namespace(name: &str) -> Object {
    Object::Namespace(Namespace { name: name.to_owned(), labels: BTreeMap::new() })
}

fn batch(number: u32, app: &str) -> Batch {
    let identities = vec![(Identity(number), labels(app))];
    Batch { identities, put: vec![namespace(app)], remove: vec![] }
}

#[test]
fn a_store_is_what_was_written_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let mut store = FileStore::open(&path).unwrap();
    assert_eq!(store.founded().unwrap(), None);
    store.raise("blue", None, FIRST).unwrap();
    store.write(FIRST, &batch(256, "web")).unwrap();
    store.write(FIRST, &batch(257, "db")).unwrap();
    // Again is once.
    store.write(FIRST, &batch(257, "db")).unwrap();
    let gone = Batch { remove: vec![ObjectKey::Namespace("db".to_owned())], ..Batch::default() };
    assert!(!store.holds(&gone).unwrap() && store.holds(&batch(257, "db")).unwrap());
    store.write(FIRST, &gone).unwrap();
    assert!(store.holds(&gone).unwrap() && !store.holds(&batch(257, "db")).unwrap());
    drop(store);
    let store = FileStore::open(&path).unwrap();
    assert_eq!(store.founded().unwrap(), Some(("blue".to_owned(), FIRST)));
    let expected = vec![(Identity(256), labels("web")), (Identity(257), labels("db"))];
    assert_eq!(store.identities().unwrap(), expected);
    assert_eq!(store.objects().unwrap(), [namespace("web")]);
}

#[test]
fn a_deposed_leader_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(&dir.path().join("store.redb")).unwrap();
    store.raise("blue", None, FIRST).unwrap();
    let next = Fence { generation: 1, term: 2, round: 0 };
    store.raise("blue", Some(FIRST), next).unwrap();
    for refused in [
        store.write(FIRST, &batch(256, "web")),
        store.raise("blue", Some(FIRST), Fence { generation: 9, term: 9, round: 0 }),
        store.raise("blue", None, FIRST),
    ] {
        assert!(matches!(refused, Err(StoreError::Fenced { found: Some(f), .. }) if f == next));
    }
    assert!(store.identities().unwrap().is_empty() && store.objects().unwrap().is_empty());
}

#[test]
fn a_number_stands_for_one_label_set_and_a_refused_batch_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(&dir.path().join("store.redb")).unwrap();
    store.raise("blue", None, FIRST).unwrap();
    store.write(FIRST, &batch(256, "web")).unwrap();
    let mut both = batch(300, "new");
    both.identities.push((Identity(256), labels("db")));
    let taken = store.write(FIRST, &both).unwrap_err();
    assert_eq!(taken, StoreError::Taken { number: Identity(256), holder: labels("web") });
    assert_eq!(store.identities().unwrap().len(), 1);
    assert_eq!(store.objects().unwrap(), [namespace("web")]);
}

fn entry(index: u64) -> LogEntry {
    LogEntry { index, command: vec![7; usize::try_from(index).unwrap()] }
}

#[test]
fn a_log_is_a_snapshot_and_what_follows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.redb");
    let mut log = FileLog::open(&path).unwrap();
    assert_eq!(log.recover().unwrap(), None);
    log.found(3, b"nothing").unwrap();
    assert_eq!(log.last_index().unwrap(), 0);
    log.append(&[entry(1), entry(2)]).unwrap();
    log.append(&[entry(3), entry(4)]).unwrap();
    let recovered = log.recover().unwrap().unwrap();
    assert_eq!((recovered.generation, recovered.index), (3, 0));
    assert_eq!(recovered.entries, [entry(1), entry(2), entry(3), entry(4)]);
    log.compact(3, b"three").unwrap();
    drop(log);
    let mut log = FileLog::open(&path).unwrap();
    let recovered = log.recover().unwrap().unwrap();
    assert_eq!((recovered.generation, recovered.index), (3, 3));
    assert_eq!((recovered.snapshot.as_slice(), recovered.entries), (&b"three"[..], vec![entry(4)]));
    assert_eq!(log.last_index().unwrap(), 4);
    // All or none.
    assert!(log.append(&[entry(5), entry(4)]).is_err());
    assert_eq!(log.last_index().unwrap(), 4);
    log.compact(4, b"four").unwrap();
    assert_eq!(log.last_index().unwrap(), 4);
    assert!(log.recover().unwrap().unwrap().entries.is_empty());
}

#[test]
fn a_hole_in_the_log_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = FileLog::open(&dir.path().join("log.redb")).unwrap();
    log.found(1, b"").unwrap();
    log.append(&[entry(1), entry(3)]).unwrap();
    let error = log.recover().unwrap_err().to_string();
    assert!(error.contains("entry 2 is missing"), "{error}");
}

/// The keys that an administrator reads, and the bytes that another release must understand.
#[test]
fn the_bytes_of_the_store_are_these() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let mut store = FileStore::open(&path).unwrap();
    store.raise("blue", None, Fence { generation: 2, term: 300, round: 0 }).unwrap();
    store.write(Fence { generation: 2, term: 300, round: 0 }, &batch(256, "web")).unwrap();
    drop(store);
    let database = Database::open(&path).unwrap();
    let read = database.begin_read().unwrap();
    let table = read.open_table(TableDefinition::<&str, &[u8]>::new("weft")).unwrap();
    let text: String = table
        .iter()
        .unwrap()
        .map(|record| {
            let (key, value) = record.unwrap();
            let hex: String = value.value().iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{} {hex}\n", key.value())
        })
        .collect();
    let expected = "cluster 0104626c7565\n\
         fence 0102fb2c01\n\
         identity/00000256 01fb000101000361707003776562\n\
         object/namespace/web 01000377656200\n";
    assert_eq!(text, expected);
}
