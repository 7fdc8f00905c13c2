//! The model of a kernel's maps does what the maps in memory do that agents are tested over, which the kernel taught
//! (`datapath/loader/tests/root_maps.rs`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use std::collections::BTreeMap;
use weft_abi::{
    address::NetPort,
    ipcache::ADDRESSES4,
    policy::{ClassEdit, INGRESS, PREFIX_PORT, PolicyEntry, PolicyKey, PolicyPrefix},
};
use weft_datapath::{fake::FakeMaps, kernel::Maps as _};
use weft_sim::kernel::maps::{Maps, Write};

type Entries = Vec<(PolicyPrefix, PolicyEntry)>;

/// A call of who owns maps: what the kernel is asked in one.
enum Call {
    Update(Vec<u8>, Vec<u8>),
    Delete(Vec<Vec<u8>>),
    Replace(Vec<(u32, Entries)>),
    Edit(u32, Vec<ClassEdit>),
    Remove(Vec<u32>),
    Epoch,
}

fn entry(rng: &mut fastrand::Rng) -> (PolicyPrefix, PolicyEntry) {
    let (direction, protocol, port) = (INGRESS, 6, NetPort::from_host(rng.u16(80..84)));
    let key = PolicyKey { identity: rng.u32(0..3), direction, protocol, port };
    let entry = PolicyEntry { rule: rng.u32(1..4), ..PolicyEntry::zeroed() };
    (PolicyPrefix { length: PREFIX_PORT, key }, entry)
}

fn call(rng: &mut fastrand::Rng) -> Call {
    let (keys, values) = (ADDRESSES4.key_size as usize, ADDRESSES4.value_size as usize);
    let count = rng.usize(1..5);
    // Few of each, so that they meet again.
    let key = |rng: &mut fastrand::Rng| vec![rng.u8(0..6); keys];
    let class = |rng: &mut fastrand::Rng| rng.u32(256..260);
    match rng.u8(0..6) {
        0 => {
            let mut rows = BTreeMap::new();
            (0..count).for_each(|_| drop(rows.insert(key(rng), vec![rng.u8(..); values])));
            Call::Update(
                rows.keys().flatten().copied().collect(),
                rows.into_values().flatten().collect(),
            )
        }
        1 => Call::Delete((0..count).map(|_| key(rng)).collect()),
        2 => {
            let entries = |rng: &mut fastrand::Rng| -> Entries {
                (0..rng.usize(0..5)).map(|_| entry(rng)).collect()
            };
            Call::Replace((0..count).map(|_| (class(rng), entries(rng))).collect())
        }
        3 => {
            let edit = |rng: &mut fastrand::Rng| match entry(rng) {
                (prefix, _) if rng.bool() => ClassEdit::Delete(prefix),
                (prefix, entry) => ClassEdit::Upsert(prefix, entry),
            };
            Call::Edit(class(rng), (0..count).map(|_| edit(rng)).collect())
        }
        4 => Call::Remove((0..count).map(|_| class(rng)).collect()),
        _ => Call::Epoch,
    }
}

/// The same as single writes.
fn writes(call: &Call) -> Vec<Write> {
    let map = ADDRESSES4.name;
    match call {
        Call::Update(keys, values) => {
            let keys = keys.chunks(ADDRESSES4.key_size as usize);
            let values = values.chunks(ADDRESSES4.value_size as usize);
            keys.zip(values).map(|(k, v)| Write::Row(map, k.to_vec(), v.to_vec())).collect()
        }
        Call::Delete(keys) => keys.iter().map(|key| Write::NoRow(map, key.clone())).collect(),
        Call::Replace(classes) => {
            let class = |(class, entries): &(u32, Entries)| {
                Write::Class(*class, entries.iter().copied().collect())
            };
            classes.iter().map(class).collect()
        }
        Call::Edit(class, edits) => edits.iter().map(|edit| Write::Edit(*class, *edit)).collect(),
        Call::Remove(classes) => classes.iter().map(|class| Write::NoClass(*class)).collect(),
        Call::Epoch => vec![Write::Epoch],
    }
}

/// The same to the maps in memory; whether they took all of it.
fn takes(fake: &FakeMaps, call: &Call) -> bool {
    match call {
        Call::Update(keys, values) => fake.update_flat(&ADDRESSES4, keys, values).is_ok(),
        Call::Delete(keys) => {
            fake.delete(&ADDRESSES4, &keys.iter().map(Vec::as_slice).collect::<Vec<_>>()).is_ok()
        }
        Call::Replace(classes) => fake.class_replace(classes).is_ok(),
        Call::Edit(class, edits) => fake.class_edit(*class, edits).is_ok(),
        Call::Remove(classes) => fake.class_remove(classes).is_ok(),
        Call::Epoch => fake.bump_epoch().is_ok(),
    }
}

#[test]
fn the_model_and_the_maps_in_memory_hold_the_same_whatever_is_written_and_refused() {
    for seed in 1..=60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (fake, mut model) = (FakeMaps::default(), Maps::default());
        for step in 0..150 {
            let call = call(&mut rng);
            // A kernel that refuses has done what came before in the same call.
            let left = rng.bool().then(|| rng.usize(0..4));
            fake.state().writes_left = left;
            let took = takes(&fake, &call);
            let mut writes = writes(&call).into_iter();
            let count = left.unwrap_or(usize::MAX);
            let done = writes.by_ref().take(count).all(|write| model.write(write).is_ok());
            // An edit of a class that is not there fails, room or not.
            let whole = done && writes.next().is_none();
            assert_eq!(took, whole, "seed {seed}, step {step}");
            let state = fake.state();
            let rows = state.rows.get(ADDRESSES4.name).cloned().unwrap_or_default();
            let known = model.rows.get(ADDRESSES4.name).cloned().unwrap_or_default();
            assert_eq!(
                (rows, &state.classes, state.epoch),
                (known, &model.classes, model.epoch),
                "seed {seed}, step {step}"
            );
        }
    }
}
