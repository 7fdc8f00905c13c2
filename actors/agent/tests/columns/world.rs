//! The agent's columns as they are wired, over links in memory and any maps.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "what tests share; each uses a part"
)]

use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};
use weft_abi::{
    endpoint::ENDPOINTS,
    ipcache::{ADDRESSES4, PREFIXES4},
    map::MapSpec,
};
use weft_agent::{
    Refusal,
    endpoints::{self, Add, Callees, Delete, Endpoints},
    gated::Gated,
    ipcache::Ipcache,
    loader::{self, Loader},
    mapsync::{ClassSync, Config, TableSync},
    metrics::Counts,
    policy::Policy,
    published::Advance,
    runtime::{Edge, Runtime},
    uplink::{Progress, tell_all},
};
use weft_api::cni::{self, Attachment};
use weft_core::policy::{Room, RuleNames};
use weft_datapath::{
    fake::{DEVICE, FakeLinks},
    kernel::{Links, Maps, Programs},
};
use weft_types::{Delta, NamespacedName, NodeName, Revision};

const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub maps: Arc<dyn Maps>,
    pub policy: Edge<Policy>,
    pub ipcache: Edge<Ipcache>,
    pub endpoints: Edge<Endpoints>,
    pub folder: tempfile::TempDir,
    _runtime: Runtime,
}

pub fn world(maps: Arc<dyn Maps>) -> World {
    let (runtime, counts) = (Runtime::start(), Counts::default());
    let node = NodeName("node1".to_owned());
    let kernel = Arc::new(FakeLinks::default());
    let classes = runtime.role("map-classes", {
        let (maps, counts) = (Arc::clone(&maps), counts.clone());
        move |life| {
            let kernel = Gated::new(Arc::clone(&maps), life.gate());
            ClassSync::new(kernel, Config::default(), counts.clone())
        }
    });
    let table = |name, map: &'static MapSpec| {
        let (maps, classes, counts) = (Arc::clone(&maps), classes.clone(), counts.clone());
        runtime.role(name, move |life| {
            let kernel = Gated::new(Arc::clone(&maps), life.gate());
            TableSync::new(kernel, map, &classes, (Config::default(), counts.clone()))
        })
    };
    let (addresses, prefixes) =
        (table("map-addresses", &ADDRESSES4), table("map-prefixes", &PREFIXES4));
    let rows = table("map-endpoints", &ENDPOINTS);
    let loader = runtime.role("loader", {
        let counts = counts.clone();
        move |life| {
            let programs: Arc<dyn Programs> = kernel.clone();
            let links: Arc<dyn Links> = kernel.clone();
            let both = (Gated::new(programs, life.gate()), Gated::new(links, life.gate()));
            let address = [192, 168, 0, 1].into();
            let device = loader::Device { ifindex: DEVICE, address, mtu: None };
            Loader::new(loader::Config::default(), device, both, counts.clone())
        }
    });
    let ipcache = runtime.role("ipcache", {
        let (node, prefixes, loader) = (node.clone(), prefixes.clone(), loader.clone());
        move |_| Ipcache::new((node.clone(), 10_000), &addresses, &prefixes, &loader)
    });
    let policy = runtime.role("policy", {
        let (classes, ipcache) = (classes.clone(), ipcache.clone());
        let room = Room { class_entries: 10_000, prefixes: 1000 };
        let rules = Arc::new(watch::channel(RuleNames::default()).0);
        move |_| Policy::new(room, &classes, &prefixes, &ipcache, Arc::clone(&rules))
    });
    let folder = tempfile::tempdir().unwrap();
    let endpoints = runtime.role("endpoints", {
        let (policy, ipcache) = (policy.clone(), ipcache.clone());
        let callees = Callees { policy, ipcache, loader, table: rows, classes };
        let (plugged, folder) = (Arc::new(watch::channel(None).0), folder.path().to_owned());
        let mtu = watch::channel(1500).1;
        let progress = watch::channel(Progress::default()).1;
        let setting = endpoints::Setting { node, folder, mtu, progress, plugged, counts };
        move |_| Endpoints::new(setting.clone(), &callees)
    });
    let (policy, ipcache, endpoints) = (policy.edge(), ipcache.edge(), endpoints.edge());
    World { maps, policy, ipcache, endpoints, folder, _runtime: runtime }
}

pub fn pod(number: u32) -> NamespacedName {
    NamespacedName::new("many", format!("pod-{number}"))
}

impl World {
    /// Every column is told, by the uplink's own order.
    pub async fn advance(
        &self,
        index: u64,
        whole: bool,
        deltas: Vec<Delta>,
    ) -> Result<(), Refusal> {
        let deltas = deltas.into_iter().map(Arc::new).collect();
        let advance = Advance { revision: Revision::new(1, index), whole, deltas };
        let all = || Advance { whole: true, ..advance.clone() };
        let columns = (&self.policy, &self.ipcache, &self.endpoints);
        // Who is told before its first life began is told everything once more, which the caller of this has not got.
        let lives = || {
            let Self { policy, ipcache, endpoints, .. } = self;
            [policy.incarnation(), ipcache.incarnation(), endpoints.incarnation()]
        };
        while lives().contains(&0) {
            sleep(Duration::from_millis(1)).await;
        }
        timeout(PATIENCE, tell_all(columns, &advance, all)).await.unwrap()
    }

    pub async fn add(&self, number: u32) -> cni::Added {
        let (answer, answered) = oneshot::channel();
        let add = cni::Add {
            attachment: attachment(number),
            netns: format!("/run/netns/{number}"),
            pod_namespace: "many".to_owned(),
            pod_name: format!("pod-{number}"),
            network: None,
            adopt: None,
        };
        self.endpoints.ask_within(PATIENCE, Add(add, answer)).await.unwrap();
        answered.await.unwrap().unwrap()
    }

    pub async fn delete(&self, number: u32) {
        let (answer, answered) = oneshot::channel();
        let delete = Delete(attachment(number).into(), answer);
        self.endpoints.ask_within(PATIENCE, delete).await.unwrap();
        answered.await.unwrap().unwrap();
    }

    pub fn rows(&self, map: &MapSpec) -> usize {
        self.maps.entries(map).unwrap().len()
    }
}

pub fn attachment(number: u32) -> Attachment {
    Attachment { container_id: format!("container{number}"), interface: "eth0".to_owned() }
}
