//! The embedded objects load into this kernel, and a class written through [`Maps`] is read back.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{path::PathBuf, process::Command};
use weft_abi::policy::{PREFIX_ANY, PolicyEntry, PolicyKey, PolicyPrefix};
use weft_datapath::{RealKernel, kernel::Maps};

struct Bpffs(PathBuf);

impl Bpffs {
    fn mount() -> Self {
        let path = std::env::temp_dir().join(format!("weft-load-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let done = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&path).status().unwrap();
        assert!(done.success());
        Self(path)
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn root_objects_load_and_a_class_is_read_back() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: loading programs needs root");
        return;
    }
    let bpffs = Bpffs::mount();
    let kernel = RealKernel::open(&bpffs.0, 1).expect("open");
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
    let again = RealKernel::open(&bpffs.0, 1).expect("open again");
    assert_eq!(again.maps.epoch().expect("epoch"), before + 1);
    assert_eq!(again.maps.classes().expect("classes"), vec![256]);
}
