//! Routes to other nodes' prefixes, in a network namespace with routes that others made.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

mod support;

use nix::sched::{CloneFlags, unshare};
use std::{net::Ipv4Addr, process::Command};
use weft_datapath::{kernel::Links, links::RealLinks};

const OTHERS: [&str; 4] = [
    "default via 172.30.0.1 dev eth9 metric 50",
    "10.9.0.0/24 via 172.30.0.9 dev eth9 proto static",
    "10.244.2.0/24 via 172.30.0.77 dev eth9 proto bird",
    "10.244.7.0/24 via 172.30.0.7 dev eth9 proto static",
];

fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The main table but for what the kernel made, one route a line.
fn routes() -> Vec<String> {
    let lines = ip("-4 route show table main");
    let lines = lines.lines().map(str::trim).filter(|line| !line.contains("proto kernel"));
    lines.map(str::to_owned).collect()
}

fn to(third: u8, via: u8) -> (Ipv4Addr, u8, Ipv4Addr) {
    ([10, 244, third, 0].into(), 24, [172, 30, 0, via].into())
}

#[track_caller]
fn others_are_all_there() {
    let present = routes();
    for other in OTHERS {
        assert!(present.iter().any(|line| line == other), "{other} of {present:?}");
    }
}

fn ours() -> Vec<String> {
    routes().into_iter().filter(|line| line.contains("proto 87")).collect()
}

#[test]
fn root_routes_of_others_are_never_touched() {
    if !support::is_root() {
        return;
    }
    let alone = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link add eth9 type veth peer name eth8");
        ip("link set eth8 up");
        ip("addr add 172.30.0.2/24 dev eth9");
        ip("link set eth9 up");
        for other in OTHERS {
            ip(&format!("route add {other}"));
        }
        let links = RealLinks;
        links.set_routes(&[to(1, 3), to(3, 5), to(7, 7)]).expect("none is in the way");
        assert_eq!(
            ours(),
            [
                "10.244.1.0/24 via 172.30.0.3 dev eth9 proto 87",
                "10.244.3.0/24 via 172.30.0.5 dev eth9 proto 87"
            ],
            "one that leads where ours would is good enough"
        );
        others_are_all_there();

        // A node has another address; one is in the way of another node's; both after and before it are made.
        let refused = links.set_routes(&[to(1, 4), to(2, 4), to(4, 6)]).unwrap_err().to_string();
        assert!(refused.contains("10.244.2.0/24") && refused.contains("another"), "{refused}");
        assert_eq!(
            ours(),
            [
                "10.244.1.0/24 via 172.30.0.4 dev eth9 proto 87",
                "10.244.4.0/24 via 172.30.0.6 dev eth9 proto 87"
            ]
        );
        others_are_all_there();

        // Once it is out of the way, ours comes.
        ip("route del 10.244.2.0/24 via 172.30.0.77");
        links.set_routes(&[to(2, 4)]).expect("nothing is in the way");
        assert_eq!(ours(), ["10.244.2.0/24 via 172.30.0.4 dev eth9 proto 87"]);
        // And goes, beside one of another metric that is not ours.
        ip("route add 10.244.2.0/24 via 172.30.0.77 dev eth9 metric 9");
        links.set_routes(&[]).expect("remove ours");
        assert_eq!(ours(), [""; 0]);
        assert!(
            routes()
                .iter()
                .any(|line| line.starts_with("10.244.2.0/24") && line.contains("metric 9"))
        );
        assert!(routes().iter().any(|line| line.starts_with("default via 172.30.0.1")));
    });
    alone.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}
