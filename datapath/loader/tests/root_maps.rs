//! One script over the kernel's maps and over the ones in memory: both must tell the same story, or tests with
//! the fake show nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use support::{Datapath, is_root};
use weft_abi::{
    address::Addr4,
    endpoint::ENDPOINTS,
    ipcache::{ADDRESSES4, AddressEntry},
    map::MapSpec,
    policy::{ClassEdit, PREFIX_ANY, PolicyEntry, PolicyKey, PolicyPrefix},
};
use weft_datapath::{
    fake::FakeMaps,
    kernel::{KernelError, Maps, RawEntry},
};

/// Of a size that a script can fill.
const SMALL: MapSpec = MapSpec { capacity: 4, ..ENDPOINTS };

fn address(last: u8, identity: u32) -> RawEntry {
    let entry = AddressEntry { identity, ..AddressEntry::zeroed() };
    RawEntry { key: Addr4::new([10, 0, 0, last]).to_bytes().into(), value: entry.to_bytes().into() }
}

fn endpoint(ifindex: u32) -> RawEntry {
    RawEntry { key: ifindex.to_ne_bytes().into(), value: vec![0; SMALL.value_size as usize] }
}

fn entry(identity: u32, rule: u32) -> (PolicyPrefix, PolicyEntry) {
    let key = PolicyKey { identity, direction: 1, ..PolicyKey::zeroed() };
    (PolicyPrefix { length: PREFIX_ANY, key }, PolicyEntry { rule, ..PolicyEntry::zeroed() })
}

fn said<T: std::fmt::Debug>(result: Result<T, KernelError>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("refused: {error}"),
    }
}

/// What each call answers, and what is held after it.
fn story(maps: &dyn Maps) -> Vec<String> {
    let mut story = Vec::new();
    let mut tell = |what: &str, answer: String| {
        let mut held = maps.entries(&ADDRESSES4).unwrap();
        held.sort();
        let classes: Vec<_> = {
            let mut numbers = maps.classes().unwrap();
            numbers.sort_unstable();
            let entries = |class: u32| {
                let mut entries = maps.class_entries(class).unwrap();
                entries.sort();
                (class, entries)
            };
            numbers.into_iter().map(entries).collect()
        };
        story.push(format!("{what}: {answer}; {held:?}; {classes:?}"));
    };
    tell("two rows", said(maps.update(&ADDRESSES4, &[address(1, 300), address(2, 301)])));
    tell("one again", said(maps.update(&ADDRESSES4, &[address(1, 302)])));
    tell("no rows", said(maps.update(&ADDRESSES4, &[])));
    let gone = [address(2, 0).key, address(9, 0).key];
    tell(
        "a row and an absent one go",
        said(maps.delete(&ADDRESSES4, &gone.each_ref().map(Vec::as_slice))),
    );
    tell("prune", said(maps.prune(&ADDRESSES4, &mut |row| row.key[3] == 1)));
    tell("edit no class", said(maps.class_edit(300, &[])));
    let two = [(300, vec![entry(1, 1), entry(2, 2)]), (301, vec![])];
    tell("two classes", said(maps.class_replace(&two)));
    let (prefix, changed) = entry(1, 7);
    let edits = [
        ClassEdit::Upsert(prefix, changed),
        ClassEdit::Delete(entry(2, 0).0),
        ClassEdit::Delete(entry(5, 0).0),
    ];
    tell("edits", said(maps.class_edit(300, &edits)));
    // 64 entries are the least that a trie is made for; what fits stays when the rest does not.
    let many: Vec<ClassEdit> = (1..=70)
        .map(|n| {
            let (prefix, entry) = entry(n, 9);
            ClassEdit::Upsert(prefix, entry)
        })
        .collect();
    tell("more than its trie has room for", said(maps.class_edit(300, &many)));
    tell("fewer", said(maps.class_edit(300, &[ClassEdit::Delete(entry(2, 0).0)])));
    tell("one class whole", said(maps.class_replace(&[(300, vec![entry(3, 3)])])));
    tell("a class and an absent one go", said(maps.class_remove(&[301, 999])));
    let before = maps.epoch().unwrap();
    assert_eq!(maps.bump_epoch().unwrap(), before + 1);
    assert_eq!(maps.epoch().unwrap(), before + 1);
    // What fits stays when the rest does not.
    let rows: Vec<RawEntry> = (1..=6).map(endpoint).collect();
    tell("too many rows", said(maps.update(&SMALL, &rows)));
    tell("how many are there", said(maps.entries(&SMALL).map(|held| held.len())));
    tell("a row that is there", said(maps.update(&SMALL, &rows[..1])));
    story
}

#[test]
fn root_the_maps_in_memory_do_as_the_kernels_do() {
    if !is_root() {
        return;
    }
    let datapath = Datapath::load_with(&[(&ENDPOINTS, SMALL.capacity)]);
    let (real, fake) = (story(&*datapath.maps), story(&FakeMaps::default()));
    for (real, fake) in real.iter().zip(&fake) {
        assert_eq!(real, fake);
    }
    for full in ["map weft_endpoints is full (4 entries)", "map class 300 is full (64 entries)"] {
        assert!(real.iter().any(|line| line.contains(full)), "{real:#?}");
    }
}

/// Which class comes back to life right after it was taken out, though it had not been there.
#[test]
fn root_a_class_that_comes_after_its_removal_stays() {
    if !is_root() {
        return;
    }
    let maps = Datapath::load().maps;
    let classes = 400..600;
    for class in classes.clone() {
        maps.class_remove(&[class]).unwrap();
        maps.class_replace(&[(class, vec![entry(1, class)])]).unwrap();
    }
    // Longer than whatever still waits for a grace period.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut there = maps.classes().unwrap();
    there.sort_unstable();
    assert_eq!(there, classes.collect::<Vec<_>>());
}
