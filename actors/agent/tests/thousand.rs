//! A thousand endpoints on one node: all are plugged at once, a policy about all of them is enforced, all go again, and the
//! agent's memory is of their number. Links are in memory; maps in memory, and the kernel's where the test may.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

#[path = "columns/world.rs"]
mod world;

use futures_util::future::join_all;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Instant,
};
use weft_abi::{endpoint::ENDPOINTS, ipcache::ADDRESSES4};
use weft_agent::endpoints::CountEndpoints;
use weft_datapath::{RealKernel, fake::FakeMaps, kernel::Maps};
use weft_types::{
    Delta, Identity, LabelSet, NamespacedName, Node, NodeName, Policy as NetworkPolicy, Selector,
    Source, Workload,
    label::key,
    policy::{Isolation, Peer, Peers, PolicyId, PolicyKind, Ports, Rule},
};
use world::{pod, world};

const PODS: u32 = 1000;
/// Pods of one label set.
const ALIKE: u32 = 20;
/// Memory that a pod may take of the agent, over all of its actors: this holds some 20 KB for a map's rows, its label
/// set's class and what waits for it.
const MEMORY_A_POD: u64 = 40 << 10;
/// Less than any record of it takes, over what the allocator keeps.
const LEFT_A_POD: u64 = 2 << 10;

/// The node, and who is to run here.
fn cluster() -> Vec<Delta> {
    let name = NodeName("node1".to_owned());
    let node = Node {
        name: name.clone(),
        address: [192, 168, 0, 1].into(),
        pod_cidrs: vec!["10.0.0.0/20".parse().unwrap()],
    };
    let identity = |number: u32| Identity(300 + number / ALIKE);
    let labels = (0..PODS).step_by(ALIKE as usize).map(|number| {
        let mut labels = LabelSet::new();
        labels.insert(Source::K8s, key::NAMESPACE, "many");
        labels.insert(Source::K8s, "app", format!("app-{}", number / ALIKE));
        Delta::IdentityUpsert(identity(number), labels)
    });
    let workloads = (0..PODS).map(|number| {
        let (name, node) = (pod(number), name.clone());
        Delta::WorkloadUpsert(Workload { name, node, identity: identity(number) })
    });
    [Delta::NodeUpsert(node)].into_iter().chain(labels).chain(workloads).collect()
}

/// Whoever is in the namespace may reach whoever is.
fn policy() -> Delta {
    let rule =
        Rule { peers: Peers::Only(vec![Peer::Pods(Selector::default())]), ports: Ports::All };
    Delta::PolicyUpsert(NetworkPolicy {
        id: PolicyId {
            kind: PolicyKind::NetworkPolicy,
            name: NamespacedName::new("many", "each-other"),
        },
        subject: Selector::default(),
        ingress: Isolation::Isolated(vec![rule]),
        egress: Isolation::Open,
    })
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

async fn live(maps: Arc<dyn Maps>, what: &str) {
    /// What the process takes of memory is whose world is there: one at a time.
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _alone = ALONE.lock().await;
    let world = world(maps);
    world.advance(1, true, cluster()).await.unwrap();
    let (before, begun) = (resident(), Instant::now());
    let added = join_all((0..PODS).map(|number| world.add(number))).await;
    let (plugged, grown) = (begun.elapsed(), resident().saturating_sub(before));
    let addresses: BTreeSet<_> = added.iter().map(|added| added.address).collect();
    assert_eq!(addresses.len(), PODS as usize, "each has an address of its own");
    assert_eq!(world.rows(&ENDPOINTS), PODS as usize);
    assert_eq!(world.rows(&ADDRESSES4), PODS as usize + 1, "and the node's");
    let classes = world.maps.classes().unwrap();
    assert_eq!(classes.len(), (PODS / ALIKE) as usize);
    let begun = Instant::now();
    world.advance(2, false, vec![policy()]).await.unwrap();
    let enforced = begun.elapsed();
    for class in &classes {
        // Each label set of the namespace, and the egress that stays open.
        let entries = world.maps.class_entries(*class).unwrap();
        assert_eq!(entries.len(), (PODS / ALIKE) as usize + 1, "class {class}");
    }
    let begun = Instant::now();
    join_all((0..PODS).map(|number| world.delete(number))).await;
    let gone = begun.elapsed();
    assert_eq!(world.endpoints.ask(CountEndpoints).await.unwrap().len(), 0);
    assert_eq!((world.rows(&ENDPOINTS), world.rows(&ADDRESSES4)), (0, 1));
    assert_eq!(world.maps.classes().unwrap(), Vec::<u32>::new());
    eprintln!(
        "{what}: {PODS} plugged in {plugged:?}, a policy in {enforced:?}, gone in {gone:?}, {} KiB each",
        (grown / u64::from(PODS)) >> 10
    );
    assert!(grown < u64::from(PODS) * MEMORY_A_POD, "{grown} bytes for {PODS} pods");
    // Whoever comes and goes leaves nothing: what is left of them would be more each time. What an allocator keeps while others
    // have the processors is not.
    let mut left = vec![resident()];
    let is_stable = |left: &[u64]| {
        left.windows(2).any(|two| two[1].saturating_sub(two[0]) < u64::from(PODS) * LEFT_A_POD)
    };
    while !is_stable(&left) {
        assert!(left.len() < 10, "{left:?} bytes after {PODS} pods went each time");
        join_all((0..PODS).map(|number| world.add(number))).await;
        join_all((0..PODS).map(|number| world.delete(number))).await;
        left.push(resident());
    }
}

#[actix::test]
async fn a_thousand_endpoints_come_are_judged_and_go() {
    live(Arc::new(FakeMaps::default()), "in memory").await;
}

/// A bpffs of the test's own.
struct Bpffs(PathBuf);

impl Bpffs {
    fn mount() -> Self {
        let path = std::env::temp_dir().join(format!("weft-thousand-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        assert!(
            Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&path).status().unwrap().success()
        );
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[actix::test]
async fn root_a_thousand_endpoints_in_the_kernels_maps() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: the kernel's maps need root");
        return;
    }
    let bpffs = Bpffs::mount();
    live(RealKernel::open(bpffs.path(), 1).expect("open").maps, "in the kernel").await;
}
