//! The owners of maps over maps in memory: they write the difference, they read back after a failure, they find and
//! mend what was changed behind their backs, and they say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use weft_abi::{
    address::Addr4,
    endpoint::ENDPOINTS,
    ipcache::{ADDRESSES4, AddressEntry},
    map::MapSpec,
    policy::{CLASSES, ClassEdit, PREFIX_ANY, PolicyEntry, PolicyKey, PolicyPrefix},
};
use weft_agent::{
    gated::Gated,
    mapsync::{
        BumpEpoch, Change, ClassStep, ClassSync, Config, Describe, Fill, FillClasses, ReadClasses,
        Sweep, TableSync,
    },
    metrics::Counts,
    runtime::{Edge, Fault, Lost, Role, Runtime},
};
use weft_core::{
    mapsync::{Edits, Rows},
    policy::Entries,
};
use weft_datapath::{fake::FakeMaps, kernel::Maps};

/// A map that four rows fill.
static SMALL: MapSpec = MapSpec { capacity: 4, ..ENDPOINTS };

struct World {
    kernel: Arc<FakeMaps>,
    runtime: Runtime,
    table: Edge<TableSync>,
    small: Edge<TableSync>,
    classes: Edge<ClassSync>,
    counts: Counts,
}

fn world() -> World {
    let kernel = Arc::new(FakeMaps::default());
    let maps: Arc<dyn Maps> = kernel.clone();
    let (runtime, counts) = (Runtime::start(), Counts::default());
    let classes = runtime.role("map-classes", {
        let maps = Arc::clone(&maps);
        let counts = counts.clone();
        move |life| {
            let kernel = Gated::new(Arc::clone(&maps), life.gate());
            ClassSync::new(kernel, Config::default(), counts.clone())
        }
    });
    let table = |name, map: &'static MapSpec| {
        let (maps, classes, counts) = (Arc::clone(&maps), classes.clone(), counts.clone());
        let made = runtime.role(name, move |life| {
            let kernel = Gated::new(Arc::clone(&maps), life.gate());
            TableSync::new(kernel, map, &classes, (Config::default(), counts.clone()))
        });
        made.edge()
    };
    let (table, small) = (table("map-addresses", &ADDRESSES4), table("map-small", &SMALL));
    World { kernel, table, small, classes: classes.edge(), runtime, counts }
}

fn key(last: u8) -> Vec<u8> {
    Addr4::new([10, 0, 0, last]).to_bytes().into()
}

fn value(identity: u32) -> Vec<u8> {
    AddressEntry { identity, ..AddressEntry::zeroed() }.to_bytes().into()
}

fn rows(identities: &[(u8, u32)]) -> Rows {
    identities.iter().map(|(last, identity)| (key(*last), value(*identity))).collect()
}

fn change(last: u8, identity: u32) -> Change {
    Change(Edits::from([(key(last), Some(value(identity)))]))
}

fn entries(rules: &[(u32, u32)]) -> Entries {
    let entry = |(identity, rule): &(u32, u32)| {
        let key = PolicyKey { identity: *identity, direction: 1, ..PolicyKey::zeroed() };
        let entry = PolicyEntry { rule: *rule, ..PolicyEntry::zeroed() };
        (PolicyPrefix { length: PREFIX_ANY, key }, entry)
    };
    rules.iter().map(entry).collect()
}

impl World {
    fn held(&self) -> Rows {
        self.kernel.state().rows.get(ADDRESSES4.name).cloned().unwrap_or_default()
    }

    /// How many writes an action costs.
    async fn writes(&self, act: impl Future<Output = ()>) -> usize {
        let before = self.kernel.state().written;
        act.await;
        self.kernel.state().written - before
    }

    /// Ends a life and waits for the next.
    async fn crash<R: Role>(&self, name: &str, edge: &Edge<R>) {
        let life = edge.incarnation();
        assert!(self.runtime.inject(name, Fault::Panic).await);
        while edge.incarnation() <= life {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn change(&self, change: Change) -> Result<(), String> {
        self.table.ask(change).await.unwrap().map_err(|refusal| refusal.message)
    }
}

#[actix::test]
async fn a_part_says_nothing_of_the_whole() {
    let world = world();
    let refused = world.change(change(1, 300)).await.unwrap_err();
    assert!(refused.contains("not filled yet"), "{refused}");
    assert!(world.held().is_empty());
}

#[actix::test]
async fn what_an_earlier_life_wrote_is_read_and_only_the_difference_is_written() {
    let world = world();
    world.kernel.state().rows.insert(ADDRESSES4.name, rows(&[(1, 300), (2, 301), (3, 302)]));
    let wanted = rows(&[(1, 300), (2, 999), (4, 303)]);
    let fill = async { world.table.ask(Fill(wanted.clone())).await.unwrap().unwrap() };
    // One row changed, one added, one gone; and the epoch, since flows were judged by what was there.
    assert_eq!(world.writes(fill).await, 4);
    assert_eq!(world.held(), wanted);
    assert_eq!(world.writes(async { world.change(change(5, 304)).await.unwrap() }).await, 1);
    // Who takes its place finds it all there.
    world.crash("map-addresses", &world.table).await;
    let again = rows(&[(1, 300), (2, 999), (4, 303), (5, 304)]);
    let fill = async { world.table.ask(Fill(again.clone())).await.unwrap().unwrap() };
    assert_eq!(world.writes(fill).await, 0);
}

#[actix::test]
async fn after_a_failed_write_the_kernel_is_read_not_guessed() {
    let world = world();
    world.table.ask(Fill(rows(&[(1, 300)]))).await.unwrap().unwrap();
    world.kernel.state().writes_left = Some(1);
    let three =
        Edits::from([(key(2), Some(value(301))), (key(3), Some(value(302))), (key(1), None)]);
    let refused = world.change(Change(three)).await.unwrap_err();
    assert!(refused.contains("write weft_addresses4"), "{refused}");
    let row = world.table.ask(Describe).await.unwrap();
    assert!(row.problem.is_some_and(|problem| problem.contains("write weft_addresses4")));
    // The next change brings all that was asked for.
    world.kernel.state().writes_left = None;
    world.change(change(4, 303)).await.unwrap();
    assert_eq!(world.held(), rows(&[(2, 301), (3, 302), (4, 303)]));
    assert_eq!(world.table.ask(Describe).await.unwrap().problem, None);
}

#[actix::test]
async fn a_sweep_mends_what_was_changed_behind_its_back_and_makes_flows_stale() {
    let world = world();
    let wanted = rows(&[(1, 300), (2, 301)]);
    world.table.ask(Fill(wanted.clone())).await.unwrap().unwrap();
    let epoch = world.kernel.state().epoch;
    world.table.ask(Sweep).await.unwrap();
    assert_eq!(world.kernel.state().epoch, epoch, "nothing to mend is no reason");
    {
        let mut state = world.kernel.state();
        let held = state.rows.get_mut(ADDRESSES4.name).unwrap();
        held.remove(&key(1));
        held.insert(key(2), value(666));
        held.insert(key(3), value(667));
    }
    world.table.ask(Sweep).await.unwrap();
    assert_eq!(world.held(), wanted);
    assert_eq!(world.table.ask(Describe).await.unwrap().mended, 3);
    let said = world.counts.notices().recent(Instant::now());
    let wanted = "map weft_addresses4: 3 entries were not as written, and were mended";
    assert!(said[0].contains(wanted), "{said:?}");
    assert!(world.kernel.state().epoch > epoch, "flows were judged by what was wrong");
}

#[actix::test]
async fn a_full_map_is_said_and_room_is_used_as_soon_as_there_is_some() {
    let world = world();
    let endpoint = |n: u32| (n.to_ne_bytes().to_vec(), vec![0; SMALL.value_size as usize]);
    world.small.ask(Fill((1..=4).map(endpoint).collect())).await.unwrap().unwrap();
    let add = |n| Change(Edits::from([(endpoint(n).0, Some(endpoint(n).1))]));
    let refused = world.small.ask(add(5)).await.unwrap().unwrap_err();
    assert!(refused.message.contains("map weft_endpoints is full (4 entries)"), "{refused}");
    let remove = Change(Edits::from([(endpoint(1).0, None)]));
    // What is over goes first, so that what was refused fits now.
    world.small.ask(remove).await.unwrap().unwrap();
    let held: Vec<Vec<u8>> = world.kernel.state().rows[SMALL.name].keys().cloned().collect();
    assert_eq!(held, (2..=5).map(|n| endpoint(n).0).collect::<Vec<_>>());
}

#[actix::test]
async fn classes_change_whole_and_come_back_whole() {
    let world = world();
    let refused = world.classes.ask(ClassStep::Replace(BTreeMap::new())).await.unwrap();
    assert!(refused.unwrap_err().message.contains("not filled yet"));
    let two = BTreeMap::from([(300, entries(&[(1, 1)])), (301, entries(&[(2, 2)]))]);
    world.classes.ask(FillClasses(two.clone())).await.unwrap().unwrap();
    assert_eq!(world.kernel.state().classes, two);
    // An edit that fails in the middle: the next step swaps the class in whole.
    world.kernel.state().writes_left = Some(1);
    let upsert = |rule| {
        let (prefix, entry) = entries(&[(rule, rule)]).pop_first().unwrap();
        ClassEdit::Upsert(prefix, entry)
    };
    let edits = BTreeMap::from([(300, vec![upsert(5), upsert(6)])]);
    assert!(world.classes.ask(ClassStep::Edit(edits)).await.unwrap().is_err());
    world.kernel.state().writes_left = None;
    world.classes.ask(ClassStep::Remove([301].into())).await.unwrap().unwrap();
    let expected = BTreeMap::from([(300, entries(&[(1, 1), (5, 5), (6, 6)]))]);
    assert_eq!(world.kernel.state().classes, expected);
    // A class that someone took out comes back at the next sweep, and flows are judged again.
    let epoch = world.kernel.state().epoch;
    world.kernel.state().classes.clear();
    world.classes.ask(Sweep).await.unwrap();
    assert_eq!(world.kernel.state().classes, expected);
    assert!(world.kernel.state().epoch > epoch);
    let row = world.classes.ask(Describe).await.unwrap();
    assert_eq!((row.name.as_str(), row.mended), (CLASSES.name, 1));
    // A new life keeps what is there until it is told.
    world.crash("map-classes", &world.classes).await;
    assert_eq!(world.classes.ask(ReadClasses).await.unwrap().unwrap(), expected);
    let epoch = world.kernel.state().epoch;
    assert_eq!(world.classes.ask(BumpEpoch).await.unwrap().unwrap(), epoch + 1);
}

#[actix::test]
async fn a_class_whose_trie_is_full_grows_in_the_step_that_fills_it() {
    let world = world();
    let mut wanted = BTreeMap::from([(300, entries(&[(1, 1)])), (301, entries(&[(1, 1)]))]);
    world.classes.ask(FillClasses(wanted.clone())).await.unwrap().unwrap();
    let room = |world: &World| world.kernel.state().class_room[&300];
    let before = room(&world);
    let added = entries(&(2..=before + 10).map(|n| (n, 7)).collect::<Vec<_>>());
    let edits = added.iter().map(|(prefix, entry)| ClassEdit::Upsert(*prefix, *entry)).collect();
    let one = entries(&[(2, 8)]).into_iter().map(|(p, e)| ClassEdit::Upsert(p, e)).collect();
    let edits: BTreeMap<u32, Vec<ClassEdit>> = [(300, edits), (301, one)].into();
    world.classes.ask(ClassStep::Edit(edits)).await.unwrap().unwrap();
    wanted.get_mut(&300).unwrap().extend(added);
    wanted.get_mut(&301).unwrap().extend(entries(&[(2, 8)]));
    assert_eq!(world.kernel.state().classes, wanted, "others are edited all the same");
    assert!(room(&world) >= before + 10, "{} after {before}", room(&world));
    assert_eq!(world.classes.ask(Describe).await.unwrap().problem, None);
}

#[actix::test]
async fn a_call_that_the_kernel_holds_costs_its_thread_and_what_it_did_late_is_mended() {
    let world = world();
    world.table.ask(Fill(rows(&[(1, 300)]))).await.unwrap().unwrap();
    let (begun, held) = (Instant::now(), Duration::from_secs(8));
    world.kernel.state().slow = Some(held);
    let lost = world.table.ask_within(2 * held, change(1, 666)).await.unwrap_err();
    assert_eq!(lost, Lost::Died("map-addresses"), "who asked is told, and asks the next life");
    let wanted = rows(&[(1, 301), (2, 302)]);
    // The next life works while the old one is in the kernel yet; so do the others of the thread.
    world.table.ask_within(2 * held, Fill(wanted.clone())).await.unwrap().unwrap();
    let one = BTreeMap::from([(300, entries(&[(1, 1)]))]);
    world.classes.ask_within(2 * held, FillClasses(one)).await.unwrap().unwrap();
    assert!(begun.elapsed() < held, "{:?}", begun.elapsed());
    assert_eq!(world.held(), wanted);
    while world.held() == wanted {
        assert!(begun.elapsed() < 3 * held, "the call never came back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.held()[&key(1)], value(666), "a call in the kernel cannot be called back");
    let epoch = world.kernel.state().epoch;
    world.table.ask(Sweep).await.unwrap();
    assert_eq!(world.held(), wanted);
    assert!(world.kernel.state().epoch > epoch, "flows were judged by what was wrong");
    assert_eq!(world.counts.mended_of(ADDRESSES4.name), 1);
}
