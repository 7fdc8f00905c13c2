//! Programs in front of a real interface by both ways of attaching: they judge, they are replaced in place,
//! they outlive whoever attached them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::process::Command;
use support::{Bpffs, is_root};
use weft_datapath::{RealKernel, attachment::Attachment, kernel::Programs};

/// A pair of interfaces of this test's own.
struct Pair(String);

impl Pair {
    fn make(name: &str) -> Self {
        let pair = Self(format!("wa{name}{}", std::process::id() % 100_000));
        let peer = format!("{}p", pair.0);
        ip(&["link", "add", &pair.0, "type", "veth", "peer", "name", &peer]);
        pair
    }

    fn index(&self) -> u32 {
        nix::net::if_::if_nametoindex(self.0.as_str()).unwrap()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.0]).status();
    }
}

fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ip {arguments:?}");
}

/// Names of our programs in front of an interface, by `tc filter` or in its TCX links.
fn programs(attachment: Attachment, pair: &Pair) -> Vec<String> {
    use aya::programs::{SchedClassifier, TcAttachType};
    match attachment {
        Attachment::Tcx => [TcAttachType::Ingress, TcAttachType::Egress]
            .into_iter()
            .flat_map(|side| SchedClassifier::query_tcx(&pair.0, side).unwrap().1)
            .map(|program| program.name_as_str().unwrap().to_owned())
            .collect(),
        Attachment::Clsact => ["ingress", "egress"]
            .into_iter()
            .flat_map(|side| {
                let output =
                    Command::new("tc").args(["filter", "show", "dev", &pair.0, side]).output();
                let text = String::from_utf8(output.unwrap().stdout).unwrap();
                let words: Vec<&str> = text.split_whitespace().collect();
                let names = words.windows(2).filter(|pair| pair[0] == "name");
                names.map(|pair| pair[1].to_owned()).collect::<Vec<_>>()
            })
            .collect(),
    }
}

fn outlives_and_is_replaced(attachment: Attachment, name: &str) {
    if !is_root() {
        return;
    }
    let (bpffs, pair) = (Bpffs::mount(), Pair::make(name));
    let expected = ["from_pod", "to_pod"];
    for round in 0..3 {
        let kernel = RealKernel::open_with(bpffs.path(), pair.index(), attachment).expect("open");
        kernel.programs.attach_pod(pair.index()).expect("attach");
        assert_eq!(programs(attachment, &pair), expected, "round {round}: one of each");
        drop(kernel);
        assert_eq!(programs(attachment, &pair), expected, "round {round}: they outlive it");
    }
    // An interface that came under the same pins later.
    let old = pair.index();
    drop(pair);
    let pair = Pair::make(name);
    let kernel = RealKernel::open_with(bpffs.path(), pair.index(), attachment).expect("open");
    kernel.programs.attach_pod(pair.index()).expect("attach to the new interface");
    assert_eq!(programs(attachment, &pair), expected);
    kernel.programs.detach_pod(old).expect("an interface that is gone");
    let gone = kernel.programs.attach_pod(old);
    assert!(old == pair.index() || gone.is_err(), "there is nothing to attach to");
}

#[test]
fn root_tcx_links_outlive_the_agent_and_are_replaced() {
    outlives_and_is_replaced(Attachment::Tcx, "t");
}

#[test]
fn root_clsact_filters_outlive_the_agent_and_are_replaced() {
    outlives_and_is_replaced(Attachment::Clsact, "c");
}
