//! The embedded objects load into this kernel, and a class written through [`Maps`] is read back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use support::{Bpffs, is_root};
use weft_abi::policy::{PREFIX_ANY, PolicyEntry, PolicyKey, PolicyPrefix};
use weft_datapath::{RealKernel, kernel::Maps};

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
