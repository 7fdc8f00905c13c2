//! `weft-agent`: composes the agent and runs it until it is told to stop.

use anyhow::Context;
use std::sync::Arc;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use weft_abi::{
    endpoint::ENDPOINTS,
    ipcache::{ADDRESSES4, PREFIXES4},
    map::MapSpec,
};
use weft_agent::{
    api::{self, Answering, Api, Faults},
    cni::Cni,
    config::Config,
    conntrack::Conntrack,
    endpoints::{self, Callees, Endpoints},
    gated::Gated,
    inspect::Inspector,
    ipcache::Ipcache,
    leftovers::Leftovers,
    loader::{Device, Loader},
    mapsync::{ClassSync, TableSync},
    metrics::{Counts, Metrics},
    observer::{self, Observer},
    policy::Policy,
    runtime::{self, Runtime, Seat},
    state,
    uplink::{self, Columns, Progress, Uplink},
};
use weft_api::{health::Health, transport::Server};
use weft_core::policy::RuleNames;
use weft_datapath::{
    RealKernel,
    events::RealEvents,
    kernel::{Links, Maps, Programs},
    links::{RealLinks, prepare_node},
};
use weft_process::otlp::{self, Service};
use weft_types::NodeName;
use weft_wire::credentials::Credentials;

fn main() -> anyhow::Result<()> {
    let config: Config = weft_process::config::load();
    let service = Service { name: "weft-agent", instance: Some(&config.node) };
    weft_process::logs::start(&config.logs, service);
    let ended = runtime::block_on(run(config));
    otlp::farewell();
    ended
}

async fn run(config: Config) -> anyhow::Result<()> {
    for folder in [&config.run_dir, &config.state_dir] {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let credentials = Credentials::read(&config.ca, &config.cert, &config.key)?;
    let folder = state::folder(&config.state_dir)?;
    let links: Arc<dyn Links> = Arc::new(RealLinks);
    prepare_node()?;
    let (device, mtu) = links.device_of(config.node_address)?;
    let sizes = config.capacity.made();
    let kernel = RealKernel::open_with(&config.bpffs, device, config.attachment(), &sizes)?;
    config.capacity.kept(&*kernel.maps).iter().for_each(|kept| tracing::warn!("{kept}"));
    kernel.programs.attach_net(device)?;
    let maps: Arc<dyn Maps> = kernel.maps;
    let programs: Arc<dyn Programs> = kernel.programs;
    let node = NodeName(config.node.clone());
    let (plugged, told) = watch::channel(None);
    let (progress, seen) = watch::channel(Progress::default());
    let (rules, named) = watch::channel(RuleNames::default());
    let (flows, flowed) = watch::channel(0);
    let (told_mtu, mtu) = watch::channel(config.mtu.unwrap_or(mtu));
    let (plugged, progress) = (Arc::new(plugged), Arc::new(progress));
    let (rules, flows) = (Arc::new(rules), Arc::new(flows));
    let (strangers, asked) = watch::channel(Arc::default());
    let counts = Counts::default();

    // One line an actor, callees first: requests go down this list, never up.
    let runtime = Runtime::start_with(config.runtime);
    let sync = config.maps;
    let observer = runtime.role("observer", {
        let bpffs = config.bpffs.clone();
        let setting = observer::Setting {
            node: node.clone(),
            open: Arc::new(move || Ok(Box::new(RealEvents::open(&bpffs)?))),
            lost: observer::lost_of(Arc::clone(&maps)),
            plugged: told.clone(),
            rules: named,
            progress: seen.clone(),
            traced: Arc::default(),
            end: flows,
            strangers: Arc::new(strangers),
            counts: counts.clone(),
        };
        move |_| Observer::new(setting.clone())
    });
    let classes = runtime.role("map-classes", {
        let maps = Arc::clone(&maps);
        let counts = counts.clone();
        move |life| {
            let kernel = Gated::new(Arc::clone(&maps), life.gate());
            ClassSync::new(kernel, sync, counts.clone())
        }
    });
    let _conntrack = runtime.role("conntrack", {
        let maps = Arc::clone(&maps);
        let counts = counts.clone();
        move |life| Conntrack::new(Gated::new(Arc::clone(&maps), life.gate()), counts.clone())
    });
    let table = |name, map: &'static MapSpec| -> Seat<TableSync> {
        let (maps, classes, counts) = (Arc::clone(&maps), classes.clone(), counts.clone());
        runtime.role(name, move |life| {
            let kernel = Gated::new(Arc::clone(&maps), life.gate());
            TableSync::new(kernel, map, &classes, (sync, counts.clone()))
        })
    };
    let (addresses, prefixes) =
        (table("map-addresses", &ADDRESSES4), table("map-prefixes", &PREFIXES4));
    let rows = table("map-endpoints", &ENDPOINTS);
    let inspector = runtime.role("inspector", {
        let tables = [addresses.clone(), prefixes.clone(), rows.clone()];
        let (node, classes) = (config.node.clone(), classes.clone());
        move |_| Inspector::new(node.clone(), Arc::clone(&maps), &tables, &classes)
    });
    let loader = runtime.role("loader", {
        let follows = config.mtu.is_none().then(|| Arc::new(told_mtu));
        let device = Device { ifindex: device, address: config.node_address, mtu: follows };
        let (config, counts) = (config.programs, counts.clone());
        move |life| {
            let programs = Gated::new(Arc::clone(&programs), life.gate());
            let links = Gated::new(Arc::clone(&links), life.gate());
            Loader::new(config, device.clone(), (programs, links), counts.clone())
        }
    });
    let ipcache = runtime.role("ipcache", {
        let (node, prefixes, loader) = (node.clone(), prefixes.clone(), loader.clone());
        let room = config.capacity.address_entries as usize;
        move |_| Ipcache::new((node.clone(), room), &addresses, &prefixes, &loader)
    });
    let policy = runtime.role("policy", {
        let (classes, ipcache) = (classes.clone(), ipcache.clone());
        let room = config.capacity.policies();
        move |_| Policy::new(room, &classes, &prefixes, &ipcache, Arc::clone(&rules))
    });
    let endpoints = runtime.role("endpoints", {
        let (policy, ipcache) = (policy.clone(), ipcache.clone());
        let (loader, classes) = (loader.clone(), classes.clone());
        let callees = Callees { policy, ipcache, loader, table: rows, classes };
        let node = node.clone();
        let folder = folder.clone();
        let (progress, counts) = (seen.clone(), counts.clone());
        let setting = endpoints::Setting { node, folder, mtu, progress, plugged, counts };
        move |_| Endpoints::new(setting.clone(), &callees)
    });
    let _uplink = runtime.role("uplink", {
        let (policy, ipcache, endpoints) = (policy.clone(), ipcache.clone(), endpoints.clone());
        let observer = observer.clone();
        let columns = Columns { policy, ipcache, endpoints, classes, observer };
        let (config, state_dir) = (config.uplink.clone(), config.state_dir.clone());
        let setting = uplink::Setting {
            node,
            config,
            credentials,
            numbers: Arc::default(),
            progress,
            plugged: told.clone(),
            strangers: asked,
            state_dir,
            counts: counts.clone(),
        };
        move |_| Uplink::new(setting.clone(), &columns)
    });

    let answering = Answering {
        endpoints: &endpoints,
        policy: &policy,
        ipcache: &ipcache,
        inspector: &inspector,
        observer: &observer,
    };
    let queue = config.run_dir.join("delete-queue");
    let cni = Cni::new(config.cni, &endpoints, &loader, seen.clone(), queue);
    let setting = api::Setting {
        node: config.node.clone(),
        runtime: runtime.clone(),
        progress: seen.clone(),
        leftovers: Leftovers::new(&loader, &endpoints, cni.clone(), folder),
        cni: cni.clone(),
        plugged: told,
        flows: flowed,
        counts: counts.clone(),
        faults: if config.allow_faults { Faults::Allowed } else { Faults::Refused },
    };
    let api = Api::new(setting, &answering);
    if let Some(address) = config.metrics.metrics_listen {
        let (inspector, endpoints) = (inspector.edge(), endpoints.edge());
        let progress = seen;
        let metrics = Metrics { counts, runtime: runtime.clone(), progress, inspector, endpoints };
        let (health, api) = (Health::bind(address).await?, api.clone());
        actix::spawn(health.serve(async move || metrics.render().await, move || api.healthy()));
    }
    actix::spawn(cni.drain());
    let server = Server::bind(&config.run_dir.join("agent.sock"), config.api.limits())?;
    actix::spawn(server.serve(move |call| {
        let api = api.clone();
        api.answer(call)
    }));
    tracing::info!(node = %config.node, "serving");
    let mut stop = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = stop.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
        why = runtime.failed() => Err(anyhow::anyhow!(why)),
    }
}
