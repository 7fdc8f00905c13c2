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
use weft_raft::{Disk, Group, MemberId, Saved};
use weft_store::{Batch, Fence, FileDisk, FileStore, MemberDisk, Store, StoreError};
use weft_types::{
    Identity, LabelSet, Object, Source,
    object::{Namespace, ObjectKey},
};

const FIRST: Fence = Fence { generation: 1, term: 1, round: 0, writes: 0 };

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
    Batch { identities, put: vec![namespace(app)], ..Batch::default() }
}

fn fence(store: &FileStore) -> Fence {
    store.founded().unwrap().unwrap().1
}

#[test]
fn a_store_is_what_was_written_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let mut store = FileStore::open(&path).unwrap();
    assert_eq!(store.founded().unwrap(), None);
    store.raise(&"blue".into(), None, FIRST).unwrap();
    store.write(fence(&store), &batch(256, "web")).unwrap();
    store.write(fence(&store), &batch(257, "db")).unwrap();
    // Again is once.
    store.write(fence(&store), &batch(257, "db")).unwrap();
    let gone = Batch { remove: vec![ObjectKey::Namespace("db".to_owned())], ..Batch::default() };
    store.write(fence(&store), &gone).unwrap();
    drop(store);
    let store = FileStore::open(&path).unwrap();
    assert_eq!(store.founded().unwrap(), Some(("blue".into(), Fence { writes: 4, ..FIRST })));
    let expected = vec![(Identity(256), labels("web")), (Identity(257), labels("db"))];
    assert_eq!(store.identities().unwrap(), expected);
    assert_eq!(store.objects().unwrap(), [namespace("web")]);
}

#[test]
fn a_number_that_is_forgotten_may_stand_for_another_set() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let mut store = FileStore::open(&path).unwrap();
    store.raise(&"blue".into(), None, FIRST).unwrap();
    store.write(fence(&store), &batch(256, "web")).unwrap();
    assert_eq!(store.given().unwrap(), None);
    let (forget, given) = (vec![Identity(256), Identity(900)], Some(Identity(300)));
    let gone = Batch { forget, given, ..Batch::default() };
    store.write(fence(&store), &gone).unwrap();
    store.write(fence(&store), &batch(256, "db")).unwrap();
    drop(store);
    let store = FileStore::open(&path).unwrap();
    assert_eq!(store.identities().unwrap(), [(Identity(256), labels("db"))]);
    assert_eq!(store.given().unwrap(), Some(Identity(300)), "what was given last then");
}

#[test]
fn a_deposed_leader_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(&dir.path().join("store.redb")).unwrap();
    store.raise(&"blue".into(), None, FIRST).unwrap();
    let next = Fence { generation: 1, term: 2, round: 0, writes: 0 };
    store.raise(&"blue".into(), Some(FIRST), next).unwrap();
    for refused in [
        store.write(FIRST, &batch(256, "web")),
        store.raise(
            &"blue".into(),
            Some(FIRST),
            Fence { generation: 9, term: 9, round: 0, writes: 0 },
        ),
        store.raise(&"blue".into(), None, FIRST),
    ] {
        assert!(matches!(refused, Err(StoreError::Fenced { found: Some(f), .. }) if f == next));
    }
    assert!(store.identities().unwrap().is_empty() && store.objects().unwrap().is_empty());
}

#[test]
fn each_write_takes_the_fence_up_so_an_older_copy_takes_none_of_those_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("store.redb"), dir.path().join("copy.redb"));
    let mut store = FileStore::open(&path).unwrap();
    store.raise(&"blue".into(), None, FIRST).unwrap();
    drop(store);
    std::fs::copy(&path, &copy).unwrap();
    let mut store = FileStore::open(&path).unwrap();
    store.write(FIRST, &batch(256, "web")).unwrap();
    let now = fence(&store);
    assert!(now > FIRST);
    let mut old = FileStore::open(&copy).unwrap();
    let refused = old.write(now, &batch(257, "db")).unwrap_err().to_string();
    let said = "write to the store: the fence is generation 1, term 1, round 0, write 0, \
                not generation 1, term 1, round 0, write 1: an older copy of the store took its place";
    assert_eq!(refused, said);
    assert!(old.identities().unwrap().is_empty());
    let refused = store.write(FIRST, &batch(257, "db")).unwrap_err().to_string();
    assert!(refused.ends_with("another operator leads"), "{refused}");
}

#[test]
fn a_number_stands_for_one_label_set_and_a_refused_batch_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(&dir.path().join("store.redb")).unwrap();
    store.raise(&"blue".into(), None, FIRST).unwrap();
    store.write(fence(&store), &batch(256, "web")).unwrap();
    let mut both = batch(300, "new");
    both.identities.push((Identity(256), labels("db")));
    let taken = store.write(fence(&store), &both).unwrap_err();
    assert_eq!(taken, StoreError::Taken { number: Identity(256), holder: labels("web") });
    assert_eq!(store.identities().unwrap().len(), 1);
    assert_eq!(store.objects().unwrap(), [namespace("web")]);
}

#[test]
fn a_disk_is_one_members_and_counts_its_lives() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raft.redb");
    let mut disk = FileDisk::open(&path).unwrap();
    assert_eq!((disk.owner().unwrap(), disk.recover().unwrap()), (None, None));
    let group = Group::of_voters([(MemberId(7), "10.0.0.7:4901".to_owned())]);
    let saved = Saved::founding(group, b"nothing".as_slice().into());
    disk.found((3, MemberId(7)), &saved).unwrap();
    for life in 1..=3 {
        assert_eq!(disk.begin_life().unwrap(), life);
        drop(disk);
        disk = FileDisk::open(&path).unwrap();
        assert_eq!(disk.owner().unwrap(), Some((3, MemberId(7))));
        assert_eq!(disk.recover().unwrap().as_ref(), Some(&saved));
    }
}

/// The keys that an administrator reads, and the bytes that another release must understand.
#[test]
fn the_bytes_of_the_store_are_these() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let mut store = FileStore::open(&path).unwrap();
    store
        .raise(&"blue".into(), None, Fence { generation: 2, term: 300, round: 0, writes: 0 })
        .unwrap();
    let batch = Batch { given: Some(Identity(300)), ..batch(256, "web") };
    store.write(fence(&store), &batch).unwrap();
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
    let expected = "cluster 0104626c75650400\n\
         fence 0302fb2c010001\n\
         given 01fb2c01\n\
         identity/00000256 01fb000101000361707003776562\n\
         object/namespace/web 01000377656200\n";
    assert_eq!(text, expected);
}
