//! The models in memory do what the files do: simulations that run over them say something of these.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use std::collections::BTreeMap;
use weft_raft::{
    Body, Disk, Entry, Group, MemberId, MemoryDisk, Origin, SavedSnapshot, Truncate, Vote, Write,
};
use weft_store::{Batch, Comparing, Fence, FileDisk, FileStore, MemoryStore, Store, StoreError};
use weft_types::{Identity, LabelSet, Object, Source, object::Namespace};

#[derive(Clone, Debug)]
enum Step {
    Raise(bool, Fence),
    Write(bool, Vec<(u32, u8)>, Vec<u8>, Vec<u8>),
    Reopen,
}

fn fence() -> impl Strategy<Value = Fence> {
    (1_u16..3, 1_u64..4, 0_u32..2).prop_map(|(generation, term, round)| Fence {
        generation,
        term,
        round,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let few = || proptest::collection::vec(0_u8..4, 0..3);
    let pairs = proptest::collection::vec((256_u32..259, 0_u8..3), 0..3);
    prop_oneof![
        (any::<bool>(), fence()).prop_map(|(right, after)| Step::Raise(right, after)),
        (any::<bool>(), pairs, few(), few())
            .prop_map(|(right, pairs, put, gone)| Step::Write(right, pairs, put, gone)),
        proptest::strategy::Just(Step::Reopen),
    ]
}

fn labels(app: u8) -> LabelSet {
    let mut labels = LabelSet::new();
    labels.insert(Source::K8s, "app", app.to_string());
    labels
}

fn namespace(name: u8) -> Object {
    Object::Namespace(Namespace { name: name.to_string(), labels: BTreeMap::new() })
}

/// What an answer is, without its words.
fn kind(answer: Result<(), StoreError>) -> Result<(), std::mem::Discriminant<StoreError>> {
    answer.map_err(|error| std::mem::discriminant(&error))
}

fn entry(index: u64, term: u64) -> Entry {
    let origin = Origin { member: MemberId(1), life: 1, sequence: index };
    Entry { index, term, body: Body::Command(origin, vec![7; 3]) }
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

    #[test]
    fn a_store_in_memory_answers_as_the_file(steps in proptest::collection::vec(step(), 1..12)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        let mut file = FileStore::open(&path).unwrap();
        let mut memory = MemoryStore::new(Comparing::Always);
        let other = Fence { generation: 9, term: 9, round: 9 };
        for step in steps {
            let fence = memory.founded().unwrap().map(|(_, fence)| fence);
            match step {
                Step::Raise(right, after) => {
                    let before = if right { fence } else { Some(other) };
                    let by_file = file.raise("blue", before, after);
                    assert_eq!(kind(by_file), kind(memory.raise("blue", before, after)));
                }
                Step::Write(right, pairs, put, gone) => {
                    let fence = fence.filter(|_| right).unwrap_or(other);
                    let batch = Batch {
                        identities: pairs
                            .into_iter()
                            .map(|(number, app)| (Identity(number), labels(app)))
                            .collect::<BTreeMap<_, _>>()
                            .into_iter()
                            .collect(),
                        put: put.into_iter().map(namespace).collect(),
                        remove: gone.into_iter().map(|name| namespace(name).key()).collect(),
                    };
                    let by_file = file.write(fence, &batch);
                    assert_eq!(kind(by_file), kind(memory.write(fence, &batch)));
                    assert_eq!(file.holds(&batch).unwrap(), memory.holds(&batch).unwrap());
                }
                Step::Reopen => {
                    drop(file);
                    file = FileStore::open(&path).unwrap();
                }
            }
            assert_eq!(file.founded().unwrap(), memory.founded().unwrap());
            assert_eq!(file.identities().unwrap(), memory.identities().unwrap());
            assert_eq!(file.objects().unwrap(), memory.objects().unwrap());
        }
    }

    #[test]
    fn a_disk_in_memory_holds_what_the_file_holds(
        steps in proptest::collection::vec((0_u8..5, 1_u64..12, 1_u64..4, 0_u64..4), 1..16)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("member.redb");
        let mut file = FileDisk::open(&path).unwrap();
        let mut memory = MemoryDisk::default();
        let (mut number, mut lives) = (0, 0);
        for (what, index, term, count) in steps {
            number += 1;
            let end = memory.recover().unwrap().map_or(0, |saved| {
                saved.entries.last().map_or(saved.snapshot.index, |entry| entry.index)
            });
            let mut write = Write { number, vote: None, snapshot: None, entries: vec![] };
            match what {
                0 => {
                    file = { drop(file); FileDisk::open(&path).unwrap() };
                    lives += 1;
                    assert_eq!(file.begin_life().unwrap(), lives, "each life has a greater number");
                }
                1 => write.vote = Some(Vote { term, voted_for: MemberId(index), committed: count }),
                2 | 3 => {
                    let group = Group::of_voters([(MemberId(index), "there".to_owned())]);
                    let state = vec![9; usize::try_from(index).unwrap()].into();
                    let truncate = if what == 2 { Truncate::UpToIt } else { Truncate::All };
                    write.snapshot = Some((SavedSnapshot { index, term, group, state }, truncate));
                }
                _ => {
                    let first = index.min(end + 1);
                    write.entries = (first..first + count).map(|at| entry(at, term)).collect();
                }
            }
            // Something of every member is there from its first write on.
            write.vote.get_or_insert(memory.recover().unwrap().unwrap_or_default().vote);
            file.write(std::slice::from_ref(&write)).unwrap();
            memory.write(&[write]).unwrap();
            assert_eq!(file.recover().unwrap(), memory.recover().unwrap());
        }
    }
}
