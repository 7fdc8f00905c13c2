//! Programs are loaded by a process that is stopped again and again, as debuggers, freezers and snapshots of machines do.
//! Alone in this process: whatever else is in it stands still as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::process::Command;
use support::{Bpffs, is_root};
use weft_datapath::RealKernel;

/// Stops who is its first argument 40 times, 20 ms apart: the kernel takes longer to verify a program.
const STOPS: &str =
    "for i in $(seq 40); do kill -STOP $1; sleep 0.002; kill -CONT $1; sleep 0.02; done";

#[test]
fn root_who_is_stopped_while_programs_are_verified_loads_them_all_the_same() {
    if !is_root() {
        return;
    }
    let bpffs = Bpffs::mount();
    let me = std::process::id().to_string();
    let mut stops = Command::new("sh").args(["-c", STOPS, "sh", &me]).spawn().expect("sh");
    let opened = RealKernel::open(bpffs.path(), 1);
    assert!(stops.wait().expect("sh").success());
    drop(opened.expect("open"));
}
