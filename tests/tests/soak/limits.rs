//! How little room the lab's agents have, and whether it was used up.

use crate::{agents::comes_to, cluster::CLASS_ENTRIES};
use std::process::{Command, Output};
use weft_abi::{
    conntrack::{FLOWS4, PENDING4},
    metrics::NOTICE_FLOWS_FULL,
};
use weft_datapath::{RealKernel, kernel::Maps};
use weft_tests::lab::{Lab, program};

/// Answered flows: fewer than there are.
const FLOW_ENTRIES: u32 = 64;
/// Flows that nobody answered yet: some seconds of [`crate::flood`].
const PENDING_ENTRIES: u32 = 1024;

/// A command that may start agents.
pub(crate) fn limited(words: &[&str]) -> Command {
    let mut command = Command::new(program("weft"));
    command.args(words);
    command.env("WEFT_AGENT_CLASS_ENTRIES", CLASS_ENTRIES.to_string());
    command.env("WEFT_AGENT_FLOW_ENTRIES", FLOW_ENTRIES.to_string());
    command.env("WEFT_AGENT_PENDING_ENTRIES", PENDING_ENTRIES.to_string());
    command
}

/// Starts one of the lab's agents, or its operator.
pub(crate) fn starts(lab: &Lab, what: &str, which: &[&str]) -> Output {
    let words = [&["lab", what, "start", "--name", &lab.name], which].concat();
    limited(&words).output().unwrap()
}

/// The tables that a node's programs write were full, which was counted and is said, and had no more than they may.
#[track_caller]
pub(crate) fn are_reached(lab: &Lab, node: &str) {
    let wanted = format!("map {} is full ({PENDING_ENTRIES} entries)", PENDING4.name);
    comes_to(lab, node, |status| status.notices.iter().any(|said| said.contains(&wanted)));
    let maps = RealKernel::open(&lab.dir().join(node).join("bpf"), 1).unwrap().maps;
    for (map, size) in [(&FLOWS4, FLOW_ENTRIES), (&PENDING4, PENDING_ENTRIES)] {
        let entries = maps.entries(map).unwrap().len();
        assert_eq!(maps.capacity(map), size, "{node}: {}", map.name);
        assert!(entries <= size as usize, "{node}: {} has {entries}", map.name);
    }
    let counted = maps.counted().unwrap();
    let full = counted.iter().any(|counted| counted.reason == NOTICE_FLOWS_FULL);
    assert!(full, "{node}: {} was never full: {counted:?}", FLOWS4.name);
}
