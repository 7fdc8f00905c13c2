//! The owner of programs over a kernel in memory (`root_attach` taught it): no pod waits for a TCX link, and what
//! somebody removed is put back and counted.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::{net::Ipv4Addr, sync::Arc, time::Duration};
use tokio::sync::watch;
use weft_agent::{
    gated::Gated,
    loader::{Config, Device, Loader, Plug, Sweep, Unpin, Unplug},
    metrics::Counts,
    runtime::{Edge, Runtime},
};
use weft_datapath::{
    fake::{Attached, DEVICE, FakeLinks},
    kernel::{LinkSpec, Links, Programs},
};

struct World {
    kernel: Arc<FakeLinks>,
    counts: Counts,
    loader: Edge<Loader>,
    mtu: watch::Receiver<u32>,
    _runtime: Runtime,
}

fn world(lull: Duration) -> World {
    let (kernel, counts, runtime) =
        (Arc::new(FakeLinks::default()), Counts::default(), Runtime::start());
    kernel.state().links.insert(DEVICE);
    let (told, mtu) = watch::channel(1500);
    let (address, told) = (Ipv4Addr::LOCALHOST, Some(Arc::new(told)));
    let device = Device { ifindex: DEVICE, address, mtu: told };
    let config = Config { program_lull: lull, ..Config::default() };
    let seat = runtime.role("loader", {
        let (kernel, counts) = (Arc::clone(&kernel), counts.clone());
        move |life| {
            let programs: Arc<dyn Programs> = kernel.clone();
            let links: Arc<dyn Links> = kernel.clone();
            let kernel = (Gated::new(programs, life.gate()), Gated::new(links, life.gate()));
            Loader::new(config, device.clone(), kernel, counts.clone())
        }
    });
    World { kernel, counts, loader: seat.edge(), mtu, _runtime: runtime }
}

impl World {
    async fn plug(&self, ifindex: u32) {
        let spec = LinkSpec {
            netns: "/run/netns/pod".into(),
            interface: "eth0".to_owned(),
            host_interface: format!("weft{ifindex}"),
            address: ifindex.into(),
            mtu: 1500,
            adopt: false,
        };
        self.loader.ask(Plug(spec)).await.unwrap().unwrap();
    }

    async fn becomes(&self, what: &str, holds: impl Fn(&Attached) -> bool) {
        for _ in 0..10_000 {
            if holds(&self.kernel.state()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("never: {what}");
    }

    fn mended(&self) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        self.counts.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = text.lines().find(|line| line.starts_with("bpf_programs_mended_total"));
        line.unwrap().to_owned()
    }
}

#[actix::test]
async fn a_pod_has_its_filters_at_once_and_its_links_when_no_pod_waits() {
    let busy = world(Duration::from_secs(3600));
    let quiet = world(Duration::from_millis(1));
    for ifindex in [10, 11, 12] {
        busy.plug(ifindex).await;
        assert!(busy.kernel.state().filters.contains(&ifindex));
        quiet.plug(ifindex).await;
    }
    assert_eq!(busy.kernel.state().links, [DEVICE].into());
    quiet.becomes("linked", |state| state.links == [DEVICE, 10, 11, 12].into()).await;
    assert_eq!(quiet.mended(), "bpf_programs_mended_total 0", "nobody removed anything");
}

#[actix::test]
async fn what_somebody_removed_is_put_back_and_counted() {
    let world = world(Duration::from_millis(1));
    for ifindex in [10, 11] {
        world.plug(ifindex).await;
    }
    world.becomes("linked", |state| state.links.len() == 3).await;
    world.kernel.state().links.clear();
    world.kernel.state().filters.remove(&11);
    world.loader.ask(Sweep).await.unwrap();
    world.becomes("all is back", |state| state.links.len() == 3 && state.filters.len() == 2).await;
    // The count comes after the deed.
    world.becomes("counted", |_| world.mended() == "bpf_programs_mended_total 7").await;
}

#[actix::test]
async fn a_pod_that_is_gone_is_not_linked() {
    let world = world(Duration::from_millis(30));
    world.plug(10).await;
    let host_interface = "weft10".to_owned();
    world.loader.ask(Unplug { host_interface, ifindex: Some(10) }).await.unwrap().unwrap();
    world.plug(11).await;
    world.becomes("the other is", |state| state.links.contains(&11)).await;
    let state = world.kernel.state();
    assert_eq!(state.detached, [10]);
    assert!(state.stray.is_empty(), "{:?}", state.stray);
}

#[actix::test]
async fn pods_get_the_mtu_that_the_device_has_now() {
    let world = world(Duration::from_millis(1));
    world.kernel.state().mtu = Some(1400);
    assert_eq!(*world.mtu.borrow(), 1500);
    world.loader.ask(Sweep).await.unwrap();
    world.becomes("told", |_| *world.mtu.borrow() == 1400).await;
}

#[actix::test]
async fn an_add_that_did_not_end_and_an_interface_that_is_gone_leave_no_pins() {
    let world = world(Duration::from_millis(1));
    for ifindex in [10, 11] {
        world.plug(ifindex).await;
    }
    world.becomes("linked", |state| state.links == [DEVICE, 10, 11].into()).await;
    // Who died over the ADD told nobody the index.
    let host_interface = "weft10".to_owned();
    world.loader.ask(Unplug { host_interface, ifindex: None }).await.unwrap().unwrap();
    assert_eq!(world.kernel.state().links, [DEVICE, 11].into());
    world.kernel.state().links.insert(99);
    world.loader.ask(Unpin).await.unwrap().unwrap();
    assert_eq!(world.kernel.state().links, [DEVICE, 11].into());
}
