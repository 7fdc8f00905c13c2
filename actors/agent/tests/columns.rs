//! What a kernel that refuses writes leaves behind: nothing, once it takes them again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

#[path = "columns/world.rs"]
mod world;

use std::{fs, sync::Arc};
use weft_abi::ipcache::{ADDRESSES4, PREFIXES4};
use weft_datapath::{fake::FakeMaps, kernel::Maps};
use weft_types::{Delta, Identity, LabelSet, Node, NodeName, Source, Workload, label::key};
use world::{World, pod, world};

fn node(number: u8) -> Delta {
    Delta::NodeUpsert(Node {
        name: NodeName(format!("node{number}")),
        address: [192, 168, 0, number].into(),
        pod_cidrs: vec![format!("10.0.{number}.0/24").parse().unwrap()],
    })
}

fn workload(number: u32, identity: u32) -> [Delta; 2] {
    let mut labels = LabelSet::new();
    labels.insert(Source::K8s, key::NAMESPACE, "many");
    labels.insert(Source::K8s, "app", format!("app-{identity}"));
    let (node, identity) = (NodeName("node1".to_owned()), Identity(identity));
    [
        Delta::IdentityUpsert(identity, labels),
        Delta::WorkloadUpsert(Workload { name: pod(number), node, identity }),
    ]
}

/// From here on every write is refused, or none is.
fn refuses(maps: &FakeMaps, refused: bool) {
    maps.state().writes_left = refused.then_some(0);
}

fn rows(world: &World) -> (usize, usize) {
    (world.rows(&ADDRESSES4), world.rows(&PREFIXES4))
}

#[actix::test]
async fn what_goes_while_the_kernel_refuses_is_gone_when_it_does_not() {
    let maps = Arc::new(FakeMaps::default());
    let world = world(Arc::clone(&maps) as Arc<dyn Maps>);
    world.advance(1, true, vec![node(1)]).await.unwrap();
    let before = rows(&world);
    world.advance(2, false, vec![node(2)]).await.unwrap();
    assert_eq!(rows(&world), (before.0 + 1, before.1 + 1));
    refuses(&maps, true);
    let gone = Delta::NodeDelete(NodeName("node2".to_owned()));
    world.advance(3, false, vec![gone]).await.unwrap_err();
    refuses(&maps, false);
    // What one missed it gets whole, and that says nothing of what is gone.
    world.advance(3, true, vec![node(1)]).await.unwrap();
    assert_eq!(rows(&world), before);
}

#[actix::test]
async fn a_relabelled_pod_is_remembered_when_its_class_is_there() {
    let maps = Arc::new(FakeMaps::default());
    let world = world(Arc::clone(&maps) as Arc<dyn Maps>);
    let cluster = [node(1)].into_iter().chain(workload(1, 300)).collect();
    world.advance(1, true, cluster).await.unwrap();
    world.add(1).await;
    let remembers = |identity: u32| {
        let files: Vec<_> = fs::read_dir(world.folder.path()).unwrap().flatten().collect();
        assert_eq!(files.len(), 1, "{files:?}");
        let text = fs::read_to_string(files[0].path()).unwrap();
        text.contains(&format!("\"identity\":{identity},"))
    };
    assert!(remembers(300));
    refuses(&maps, true);
    world.advance(2, false, workload(1, 301).into()).await.unwrap_err();
    // An agent that is made anew now finds the class that its file names.
    assert!(remembers(300) && !maps.class_entries(300).unwrap().is_empty());
    refuses(&maps, false);
    world.advance(2, true, [node(1)].into_iter().chain(workload(1, 301)).collect()).await.unwrap();
    assert!(remembers(301) && !maps.class_entries(301).unwrap().is_empty());
}
