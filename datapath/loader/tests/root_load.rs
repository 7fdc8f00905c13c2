//! The embedded objects load into this kernel, and a class written through [`Maps`] is read back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget};
use std::collections::BTreeSet;
use support::{Bpffs, is_root};
use weft_abi::{
    conntrack::{FLOWS4, Flow, FlowKey4, PENDING4},
    epoch::NODE_STATE,
    policy::{PREFIX_ANY, PolicyEntry, PolicyKey, PolicyPrefix},
};
use weft_datapath::{
    RealKernel,
    kernel::{Maps, RawEntry},
    maps::pin_name,
};

#[test]
fn root_objects_load_and_a_class_is_read_back() {
    if !is_root() {
        return;
    }
    let bpffs = Bpffs::mount();
    let kernel = RealKernel::open(bpffs.path(), 1).expect("open");
    let mut prefix = PolicyPrefix::zeroed();
    prefix.length = PREFIX_ANY;
    prefix.key = PolicyKey { identity: 300, direction: 1, ..PolicyKey::zeroed() };
    let entry = PolicyEntry { precedence: 7, rule: 9, ..PolicyEntry::zeroed() };
    kernel.maps.class_replace(&[(256, vec![(prefix, entry)])]).expect("replace");
    assert_eq!(kernel.maps.class_entries(256).expect("read"), vec![(prefix, entry)]);
    let before = kernel.maps.epoch().expect("epoch");
    assert_eq!(kernel.maps.bump_epoch().expect("bump"), before + 1);
    // Opening again finds what was pinned.
    drop(kernel);
    let again = RealKernel::open(bpffs.path(), 1).expect("open again");
    assert_eq!(again.maps.epoch().expect("epoch"), before + 1);
    assert_eq!(again.maps.classes().expect("classes"), vec![256]);
}

/// What kernels give up at, and what is ours of it: older ones need more steps than newer ones for the same program.
#[test]
fn root_programs_are_verified_in_a_fraction_of_the_steps_that_kernels_allow() {
    if !is_root() {
        return;
    }
    const LIMIT: u32 = 1_000_000;
    let steps = support::Datapath::load().verified();
    eprintln!("instructions verified: {steps:?}");
    assert!(steps.iter().all(|(_, steps)| *steps > 0 && *steps < LIMIT / 2), "{steps:?}");
}

#[test]
fn root_flows_of_a_lost_epoch_are_forgotten() {
    if !is_root() {
        return;
    }
    let bpffs = Bpffs::mount();
    let kernel = RealKernel::open(bpffs.path(), 1).expect("open");
    kernel.maps.bump_epoch().expect("bump");
    let (key, flow) = (FlowKey4::zeroed().to_bytes(), Flow { epoch: 2, ..Flow::zeroed() });
    let entry = RawEntry { key: key.into(), value: flow.to_bytes().into() };
    for map in [&FLOWS4, &PENDING4] {
        kernel.maps.update(map, std::slice::from_ref(&entry)).expect("a flow");
    }
    drop(kernel);
    std::fs::remove_file(bpffs.path().join("maps").join(pin_name(&NODE_STATE))).expect("its pin");
    let again = RealKernel::open(bpffs.path(), 1).expect("open again");
    assert_eq!(again.maps.epoch().expect("epoch"), 1);
    for map in [&FLOWS4, &PENDING4] {
        assert!(again.maps.entries(map).expect("read").is_empty(), "{}", map.name);
    }
}

#[test]
fn no_way_to_panic_is_left_in_the_programs() {
    for (name, object) in
        [("pod", weft_datapath::objects::POD), ("net", weft_datapath::objects::NET)]
    {
        let text = String::from_utf8_lossy(object);
        for symbol in ["rust_begin_unwind", "panic_bounds_check", "panic_fmt", "panic_const"] {
            assert!(!text.contains(symbol), "the object {name} can reach {symbol}");
        }
    }
}

#[test]
fn nothing_is_copied_byte_by_byte() {
    for (name, object) in
        [("pod", weft_datapath::objects::POD), ("net", weft_datapath::objects::NET)]
    {
        let file = object::File::parse(object).expect("an object file");
        let programs = file.section_by_name("classifier").expect("the programs");
        let targets =
            programs.relocations().filter_map(|(_, relocation)| match relocation.target() {
                RelocationTarget::Symbol(index) => file.symbol_by_index(index).ok()?.name().ok(),
                _ => None,
            });
        let called: BTreeSet<&str> = targets.collect();
        assert!(called.contains("weft_flows4"), "{name}: {called:?}");
        for function in ["memset", "memmove", "memcpy", "memcmp"] {
            assert!(!called.contains(function), "the object {name} calls {function}");
        }
    }
}
