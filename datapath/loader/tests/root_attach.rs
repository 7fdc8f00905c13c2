//! Programs in front of a real interface by both ways of attaching: they judge, they are replaced in place,
//! they outlive whoever attached them; and where somebody removes them, packets are judged all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use nix::sched::{CloneFlags, setns, unshare};
use std::{
    fs::{self, File},
    io::{self, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};
use support::{Bpffs, is_root};
use weft_abi::{
    address::{Addr4, NetPort},
    drop::DropReason,
    endpoint::{ENDPOINTS, Endpoint},
    ipcache::{ADDRESSES4, AddressEntry, HOST, LOCAL},
    map::MapSpec,
    policy::{DENY, EGRESS, PolicyEntry, PolicyKey, PolicyPrefix},
};
use weft_datapath::{
    RealKernel,
    attachment::Attachment,
    kernel::{KernelError, LinkSpec, Links, Maps, Programs, RawEntry},
    links::RealLinks,
};

/// Whether links can be tried. Says so when not, where libtest captures nothing.
fn has_tcx() -> bool {
    let has = Attachment::of_this_kernel() == Attachment::Tcx;
    if !has {
        let thread = thread::current();
        let test = thread.name().unwrap_or("main");
        let _ = writeln!(io::stderr(), "skipped, for this kernel has no TCX (Linux 6.6): {test}");
    }
    has
}

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

/// All of a pod's programs; how many were missing.
fn attach(kernel: &RealKernel, ifindex: u32) -> Result<usize, KernelError> {
    Ok(kernel.programs.attach_pod(ifindex)? + kernel.programs.link_pod(ifindex)?)
}

fn outlives_and_is_replaced(attachment: Attachment, name: &str) {
    if !is_root() {
        return;
    }
    let (bpffs, pair) = (Bpffs::mount(), Pair::make(name));
    let expected = ["from_pod", "to_pod"];
    for round in 0..3 {
        let kernel =
            RealKernel::open_with(bpffs.path(), pair.index(), attachment, &[]).expect("open");
        attach(&kernel, pair.index()).expect("attach");
        assert_eq!(programs(attachment, &pair), expected, "round {round}: one of each");
        drop(kernel);
        assert_eq!(programs(attachment, &pair), expected, "round {round}: they outlive it");
    }
    // An interface that came under the same pins later.
    let old = pair.index();
    drop(pair);
    let pair = Pair::make(name);
    let kernel = RealKernel::open_with(bpffs.path(), pair.index(), attachment, &[]).expect("open");
    attach(&kernel, pair.index()).expect("attach to the new interface");
    assert_eq!(programs(attachment, &pair), expected);
    kernel.programs.detach_pod(old).expect("an interface that is gone");
    let gone = kernel.programs.attach_pod(old);
    assert!(old == pair.index() || gone.is_err(), "there is nothing to attach to");
}

#[test]
fn root_tcx_links_outlive_the_agent_and_are_replaced() {
    if has_tcx() {
        outlives_and_is_replaced(Attachment::Tcx, "t");
    }
}

#[test]
fn root_clsact_filters_outlive_the_agent_and_are_replaced() {
    outlives_and_is_replaced(Attachment::Clsact, "c");
}

const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLASS: u32 = 1000;
const DENIED: u16 = 81;

/// A pod's network namespace, with a name of this test's own.
struct Pod(String);

impl Pod {
    fn make(name: &str) -> Self {
        let pod = Self(format!("weft-attach-{name}-{}", std::process::id()));
        ip(&["netns", "add", &pod.0]);
        pod
    }

    fn spec(&self) -> LinkSpec {
        LinkSpec {
            netns: PathBuf::from("/run/netns").join(&self.0),
            interface: "eth0".to_owned(),
            host_interface: "weftpod".to_owned(),
            address: POD,
            mtu: 1500,
            adopt: false,
        }
    }

    /// A connection from the pod to its node.
    fn connect(&self, port: u16, patience: Duration) -> io::Result<TcpStream> {
        let netns = File::open(self.spec().netns).unwrap();
        let connecting = thread::spawn(move || {
            setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
            TcpStream::connect_timeout(&(NODE, port).into(), patience)
        });
        connecting.join().unwrap()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Who has which address, and that the pod may call anything but one port; its node always reaches it.
fn allow(kernel: &RealKernel, ifindex: u32, mac: [u8; 6]) {
    let put = |map: &MapSpec, key: &[u8], value: &[u8]| {
        let entry = RawEntry { key: key.to_vec(), value: value.to_vec() };
        kernel.maps.update(map, &[entry]).unwrap();
    };
    let addr4 = Addr4::new(POD.octets());
    let row = Endpoint { ifindex, identity: CLASS, class: CLASS, addr4, mac, ..Endpoint::zeroed() };
    put(&ENDPOINTS, &ifindex.to_ne_bytes(), &row.to_bytes());
    let pod = AddressEntry { identity: CLASS, flags: LOCAL, ifindex, ..AddressEntry::zeroed() };
    put(&ADDRESSES4, &POD.octets(), &pod.to_bytes());
    let node = AddressEntry { identity: 1, flags: HOST, ..AddressEntry::zeroed() };
    put(&ADDRESSES4, &NODE.octets(), &node.to_bytes());
    let mut any = PolicyPrefix { length: 40, key: PolicyKey::zeroed() };
    any.key.direction = EGRESS;
    let mut denied = PolicyPrefix { length: 64, ..any };
    (denied.key.protocol, denied.key.port) = (6, NetPort::from_host(DENIED));
    let deny = PolicyEntry { flags: DENY, precedence: 1, ..PolicyEntry::zeroed() };
    let entries = vec![(any, PolicyEntry::zeroed()), (denied, deny)];
    kernel.maps.class_replace(&[(CLASS, entries)]).unwrap();
    kernel.maps.bump_epoch().unwrap();
}

/// A real pod and its node, packets by the node's own stack; then somebody removes one thing after the other.
fn is_judged_whatever_is_removed() {
    let (bpffs, pod) = (Bpffs::mount(), Pod::make("removed"));
    ip(&["link", "set", "lo", "up"]);
    ip(&["addr", "add", &format!("{NODE}/32"), "dev", "lo"]);
    let link = RealLinks.plug(&pod.spec()).expect("plug");
    let kernel = RealKernel::open_with(bpffs.path(), 1, Attachment::Tcx, &[]).expect("open");
    let attach_again = |kernel: &RealKernel| attach(kernel, link.ifindex).unwrap();
    assert_eq!(kernel.programs.attach_pod(link.ifindex).unwrap(), 2, "nothing was there");
    RealLinks.open(&pod.spec()).expect("open the link");
    allow(&kernel, link.ifindex, link.mac);
    let listeners =
        [TcpListener::bind((NODE, 0)).unwrap(), TcpListener::bind((NODE, DENIED)).unwrap()];
    let port = listeners[0].local_addr().unwrap().port();
    let judged = |kernel: &RealKernel, when: &str| {
        pod.connect(port, Duration::from_secs(20)).expect(when);
        let before = denied(kernel);
        pod.connect(DENIED, Duration::from_millis(300)).expect_err(when);
        assert!(denied(kernel) > before, "{when}: it was dropped by its policy");
    };
    judged(&kernel, "as long as only the filters are there");
    assert_eq!(attach_again(&kernel), 2, "the links were not");
    assert_eq!(attach_again(&kernel), 0);
    judged(&kernel, "with the links in front of them");

    let remove = |name: &str| {
        fs::remove_file(bpffs.path().join(format!("links/{name}_{}", link.ifindex))).unwrap();
    };
    remove("from_pod");
    judged(&kernel, "without a link");
    remove("to_pod");
    judged(&kernel, "without any");
    // The agent is away meanwhile, and comes back.
    drop(kernel);
    let kernel = RealKernel::open_with(bpffs.path(), 1, Attachment::Tcx, &[]).expect("open again");
    judged(&kernel, "with what the agent before attached");
    assert_eq!(attach_again(&kernel), 2, "the links are back");
    tc(&["filter", "del", "dev", "weftpod", "ingress"]);
    judged(&kernel, "with a link alone");
    assert_eq!(attach_again(&kernel), 1);
    tc(&["qdisc", "del", "dev", "weftpod", "clsact"]);
    judged(&kernel, "with links alone");
    assert_eq!(attach_again(&kernel), 2);
    kernel.programs.detach_pod(link.ifindex).unwrap();
    assert_eq!(fs::read_dir(bpffs.path().join("links")).unwrap().count(), 0, "no pin is left");
}

/// Packets dropped by policy.
fn denied(kernel: &RealKernel) -> u64 {
    let reason = DropReason::PolicyDeny.number();
    let counted = kernel.maps.counted().unwrap();
    counted.iter().filter(|counted| counted.reason == reason).map(|c| c.total.packets).sum()
}

fn tc(arguments: &[&str]) {
    assert!(Command::new("tc").args(arguments).status().unwrap().success(), "tc {arguments:?}");
}

#[test]
fn root_packets_are_judged_whatever_somebody_removes() {
    if !is_root() || !has_tcx() {
        return;
    }
    // A namespace of its own is the node's.
    let node = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        is_judged_whatever_is_removed();
    });
    node.join().unwrap();
}

#[test]
fn root_an_agent_that_attaches_the_other_way_leaves_nothing_of_the_first() {
    if !is_root() || !has_tcx() {
        return;
    }
    let (bpffs, pair) = (Bpffs::mount(), Pair::make("o"));
    let (tcx, clsact) = (Attachment::Tcx, Attachment::Clsact);
    let both = ["from_pod", "to_pod"];
    for (attachment, links) in [(tcx, &both[..]), (clsact, &[]), (tcx, &both)] {
        let kernel =
            RealKernel::open_with(bpffs.path(), pair.index(), attachment, &[]).expect("open");
        attach(&kernel, pair.index()).expect("attach");
        // The kernel takes a link away some time after its pin.
        let begun = Instant::now();
        while programs(tcx, &pair) != links && begun.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(programs(tcx, &pair), links, "{attachment:?}");
        assert_eq!(programs(clsact, &pair), both, "{attachment:?}");
    }
}
