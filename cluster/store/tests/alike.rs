//! The models in memory do what the files do: simulations that run over them say something of these.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

mod model;

use model::{answers_as_the_model, step};
use proptest::prelude::proptest;
use weft_raft::{
    Body, Disk, Entry, Group, MemberId, MemoryDisk, Origin, SavedSnapshot, Truncate, Vote, Write,
};
use weft_store::{FileDisk, FileStore, MemberDisk};

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
        answers_as_the_model(steps, || FileStore::open(&path).unwrap());
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
