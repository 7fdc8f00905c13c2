//! A real etcd does what the model in memory does, and what a file does not have to: members end, answers are lost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

mod model;
mod real_etcd;

use model::{answers_as_the_model, labels, namespace, step};
use proptest::test_runner::{Config, TestRunner};
use real_etcd::{Etcd, eventually};
use std::{
    cell::Cell,
    collections::BTreeMap,
    io::{Read, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};
use weft_store::{Batch, Comparing, EtcdStore, Fence, MemoryStore, Store, StoreError};
use weft_types::{Identity, Object, object::Namespace};

const FENCE: Fence = Fence { generation: 1, term: 1, round: 0, writes: 0 };

/// Under the fence that there is.
fn write(store: &mut dyn Store, batch: &Batch) -> Result<(), StoreError> {
    let (_, fence) = store.founded()?.unwrap();
    store.write(fence, batch)
}

fn numbers(range: std::ops::Range<u32>) -> Batch {
    let identities = range.map(|n| (Identity(n), labels((n % 250) as u8))).collect();
    Batch { identities, ..Batch::default() }
}

#[test]
fn an_etcd_answers_as_the_model() {
    let etcd = Etcd::of(1);
    drop(etcd.answering("/weft/"));
    let cases = Cell::new(0);
    let mut runner =
        TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let steps = proptest::collection::vec(step(), 1..12);
    let ran = runner.run(&steps, |steps| {
        // A cluster of its own for each case; beside it others, which it does not see.
        cases.set(cases.get() + 1);
        answers_as_the_model(steps, || etcd.open(&format!("/weft/{:04}/", cases.get())));
        Ok(())
    });
    ran.unwrap();
}

#[test]
fn more_than_a_page_is_listed_whole_and_more_than_a_transaction_takes_is_written() {
    let etcd = Etcd::of(1);
    let mut store = etcd.answering("/weft/blue/");
    store.raise(&"blue".into(), None, FENCE).unwrap();
    let objects = (0..=1_200).map(namespace).collect();
    let batch = Batch { put: objects, ..numbers(256..2_756) };
    write(&mut store, &batch).unwrap();
    let all = store.identities().unwrap();
    assert_eq!(all, batch.identities);
    assert!(all.windows(2).all(|two| two[0].0 < two[1].0), "in the order of their numbers");
    assert_eq!(store.objects().unwrap().len(), 1_201);
    // Every part compares the fence.
    let late = store.write(Fence { term: 0, ..FENCE }, &batch);
    assert!(matches!(late, Err(StoreError::Fenced { .. })), "{late:?}");
}

/// Several transactions go side by side, in no order.
#[test]
fn of_what_is_removed_and_put_by_several_transactions_all_is_there() {
    let etcd = Etcd::of(1);
    let mut store = etcd.answering("/weft/blue/");
    let mut memory = MemoryStore::new(Comparing::Always);
    let objects: Vec<Object> = (0..=250).map(namespace).collect();
    for turn in 0..10 {
        let numbers = numbers(256..1_256).identities.into_iter();
        let batch = Batch {
            forget: (256..1_256).map(Identity).collect(),
            given: Some(Identity(turn)),
            identities: numbers.map(|(n, _)| (n, labels(((n.0 + turn) % 250) as u8))).collect(),
            put: objects.clone(),
            remove: objects.iter().map(Object::key).collect(),
        };
        for store in [&mut store as &mut dyn Store, &mut memory] {
            if turn == 0 {
                store.raise(&"blue".into(), None, FENCE).unwrap();
            }
            write(store, &batch).unwrap();
        }
        assert_eq!(store.identities().unwrap(), memory.identities().unwrap());
        assert_eq!(store.objects().unwrap(), memory.objects().unwrap());
        assert_eq!(store.given().unwrap(), memory.given().unwrap());
    }
}

/// Between a client and etcd: something is done before each piece of what the client says goes on.
fn between(etcd: &Etcd, mut before: impl FnMut() + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    let to = etcd.endpoints()[0].trim_start_matches("http://").to_owned();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut member = TcpStream::connect(&to).unwrap();
            let mut answers = (member.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut answers.0, &mut answers.1));
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = client.read(&mut piece) {
                before();
                if member.write_all(&piece[..length]).is_err() {
                    break;
                }
            }
        }
    });
    at
}

#[test]
fn a_listing_that_a_compaction_cuts_short_is_begun_anew_and_one_that_always_is_is_said() {
    let etcd = Etcd::of(1);
    let mut store = etcd.answering("/weft/blue/");
    store.raise(&"blue".into(), None, FENCE).unwrap();
    let put = (0..=1_200).map(namespace).collect();
    write(&mut store, &Batch { put, ..Batch::default() }).unwrap();

    let left = Arc::new(AtomicUsize::new(0));
    let (compactions, runtime) = (Arc::clone(&left), tokio::runtime::Runtime::new().unwrap());
    let mut admin = runtime.block_on(etcd_client::Client::connect(etcd.endpoints(), None)).unwrap();
    let at = between(&etcd, move || {
        if compactions.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            runtime.block_on(async {
                let newest = admin.put("/other", "", None).await.unwrap();
                let newest = newest.header().unwrap().revision();
                admin.compact(newest, None).await.unwrap();
            });
        }
    });
    let cut_short = EtcdStore::open(&[at], "/weft/blue/").unwrap();
    cut_short.founded().unwrap();
    // Before the first page and before the second, at least.
    left.store(4, SeqCst);
    assert_eq!(cut_short.objects().unwrap().len(), 1_201);
    assert_eq!(left.load(SeqCst), 0, "there were compactions");
    left.store(usize::MAX, SeqCst);
    let said = cut_short.objects().unwrap_err().to_string();
    assert!(said.contains("etcd was compacted each of 5 times"), "{said}");
}

#[test]
fn a_copy_of_an_etcd_from_before_a_write_takes_none_after_it() {
    let mut etcd = Etcd::of(1);
    let mut store = etcd.answering("/weft/blue/");
    store.raise(&"blue".into(), None, FENCE).unwrap();
    write(&mut store, &numbers(256..300)).unwrap();
    let (_, before) = store.founded().unwrap().unwrap();
    // Several transactions are one write.
    let put = (0..300).map(namespace).collect();
    write(&mut store, &Batch { put, ..Batch::default() }).unwrap();
    let (_, after) = store.founded().unwrap().unwrap();
    assert_eq!(after, before.after_a_write());
    let backup = etcd.back_up();
    eventually(|| write(&mut store, &numbers(300..301)).ok());
    let (_, newest) = eventually(|| store.founded().ok()).unwrap();
    etcd.restore(&backup);
    let refused = eventually(|| match store.write(newest, &numbers(301..302)) {
        Err(refused @ StoreError::Fenced { .. }) => Some(refused.to_string()),
        Err(StoreError::Ambiguous { .. } | StoreError::Failed { .. }) => None,
        other => panic!("{other:?}"),
    });
    assert!(refused.ends_with("an older copy of the store took its place"), "{refused}");
    assert_eq!(eventually(|| store.identities().ok()).len(), 44);
}

#[test]
fn more_bytes_than_a_transaction_takes_are_written_too() {
    let etcd = Etcd::of(1);
    let mut store = etcd.answering("/weft/blue/");
    store.raise(&"blue".into(), None, FENCE).unwrap();
    // etcd takes 1.5 MiB at once.
    let labels = BTreeMap::from([("long".to_owned(), "x".repeat(100_000))]);
    let long = |n: u8| Object::Namespace(Namespace { name: n.to_string(), labels: labels.clone() });
    let put = (0..40).map(long).collect();
    write(&mut store, &Batch { put, ..Batch::default() }).unwrap();
    assert_eq!(store.objects().unwrap().len(), 40);
}

/// As an answer that was lost leaves one who wrote, or as somebody else does who should not be there.
#[test]
fn a_record_that_is_not_as_it_was_known_is_looked_at_again() {
    let etcd = Etcd::of(1);
    let (mut one, mut other) = (etcd.answering("/weft/blue/"), etcd.open("/weft/blue/"));
    one.raise(&"blue".into(), None, FENCE).unwrap();
    write(&mut one, &numbers(256..300)).unwrap();
    assert_eq!(other.identities().unwrap().len(), 44);
    let forget = Batch { forget: vec![Identity(256)], ..numbers(300..310) };
    write(&mut one, &forget).unwrap();
    write(&mut other, &Batch { forget: vec![Identity(257)], ..numbers(310..320) }).unwrap();
    let given = Batch { identities: vec![(Identity(315), labels(0))], ..Batch::default() };
    let taken = write(&mut one, &given);
    assert!(matches!(taken, Err(StoreError::Taken { number: Identity(315), .. })), "{taken:?}");
    let all: Vec<u32> = one.identities().unwrap().iter().map(|(number, _)| number.0).collect();
    assert_eq!(all, (258..320).collect::<Vec<_>>());
}

#[test]
fn a_store_of_another_layout_is_refused() {
    let etcd = Etcd::of(1);
    drop(etcd.answering("/weft/"));
    let mut store = etcd.open("/weft/blue/");
    store.raise(&"blue".into(), None, FENCE).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let layout = |version: u8| {
        runtime.block_on(async {
            let mut client = etcd_client::Client::connect(etcd.endpoints(), None).await.unwrap();
            let value = client.get("/weft/blue/cluster", None).await.unwrap();
            let mut value = value.kvs()[0].value().to_vec();
            value[0] = version;
            client.put("/weft/blue/cluster", value, None).await.unwrap();
        });
        store.founded().unwrap_err().to_string()
    };
    assert!(layout(1).starts_with("read cluster: it is of version 1, this program knows 2 alone"));
    assert!(layout(3).ends_with("this program knows 2: use a newer program"));
}

#[test]
fn whoever_is_not_there_is_passed_over() {
    let etcd = Etcd::of(1);
    drop(etcd.answering("/weft/"));
    // Refused at once, as by a member that has ended; calls go to both in turn.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoints = [format!("http://{nobody}"), etcd.endpoints().remove(0)];
    let mut store = EtcdStore::open(&endpoints, "/weft/blue/").unwrap();
    store.raise(&"blue".into(), None, FENCE).unwrap();
    for number in 256..276 {
        write(&mut store, &numbers(number..number + 1)).unwrap();
        assert_eq!(store.identities().unwrap().len(), number as usize - 255);
    }
}

#[test]
fn who_is_nowhere_is_named() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let store = EtcdStore::open(&[format!("http://{nobody}")], "/weft/blue/").unwrap();
    let said = store.founded().unwrap_err().to_string();
    let wanted =
        format!("read the fence: etcd at http://{nobody}: tcp connect error: Connection refused");
    assert!(said.starts_with(&wanted), "{said}");
}

#[test]
fn a_member_may_end_and_all_may_return() {
    let mut etcd = Etcd::of(3);
    let mut store = etcd.answering("/weft/blue/");
    store.raise(&"blue".into(), None, FENCE).unwrap();
    write(&mut store, &numbers(256..300)).unwrap();

    // Each in its turn, so the leader of that moment is among them.
    for member in 0..3_u32 {
        etcd.kill(member as usize);
        let batch = numbers(300 + member..301 + member);
        eventually(|| match write(&mut store, &batch) {
            Ok(()) => Some(()),
            Err(StoreError::Ambiguous { .. } | StoreError::Failed { .. }) => None,
            Err(other) => panic!("{other}"),
        });
        let there = eventually(|| store.identities().ok());
        assert!(there.contains(&batch.identities[0]), "what was said to be written is there");
        etcd.start(member as usize);
        // Two of three are there again before the next one ends.
        eventually(|| {
            EtcdStore::open(&etcd.endpoints()[member as usize..][..1], "/weft/blue/")
                .ok()?
                .founded()
                .ok()
        });
    }

    // Without any the outcome of a write is open, and that is said in time.
    let (_, fence) = eventually(|| store.founded().ok()).unwrap();
    (0..3).for_each(|member| etcd.kill(member));
    let begun = Instant::now();
    let lost = store.write(fence, &numbers(400..401));
    assert!(matches!(lost, Err(StoreError::Ambiguous { .. })), "{lost:?}");
    assert!(matches!(store.identities(), Err(StoreError::Failed { .. })));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());

    (0..3).for_each(|member| etcd.start(member));
    assert_eq!(eventually(|| store.identities().ok()).len(), 47, "nobody was there to write it");
    let late = Fence { term: 0, ..FENCE };
    let found = eventually(|| match store.write(late, &numbers(400..401)) {
        Err(StoreError::Fenced { found, .. }) => Some(found),
        Err(StoreError::Ambiguous { .. }) => None,
        other => panic!("{other:?}"),
    });
    assert_eq!(found, Some(fence));
}
