//! `weft-agent`: composes the agent and runs it until it is told to stop.

use actix::{Actor, Addr, Arbiter};
use anyhow::Context;
use clap::Parser;
use std::sync::Arc;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};
use weft_abi::{
    endpoint::ENDPOINTS,
    ipcache::{ADDRESSES4, PREFIXES4},
    map::MapSpec,
};
use weft_agent::{
    api::Api,
    config::{Config, LogFormat},
    endpoints::{Callees, Endpoints},
    ipcache::Ipcache,
    loader::Loader,
    mapsync::{ClassSync, TableSync},
    policy::Policy,
    state,
    uplink::{Columns, Progress, Uplink},
};
use weft_api::transport::{Limits, Response, Server};
use weft_datapath::{
    RealKernel,
    kernel::{Links, Maps, Programs},
    links::{RealLinks, prepare_node},
};
use weft_types::NodeName;
use weft_wire::tls::Identity;

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let logs = tracing_subscriber::fmt().with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    actix::System::new().block_on(run(config))
}

async fn run(config: Config) -> anyhow::Result<()> {
    for folder in [&config.run_dir, &config.state_dir] {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let identity = Identity::read(&config.ca, &config.cert, &config.key)?;
    let links: Arc<dyn Links> = Arc::new(RealLinks);
    prepare_node()?;
    let (device, mtu) = links.device_of(config.node_address)?;
    let kernel = RealKernel::open(&config.bpffs, device)?;
    kernel.programs.attach_net(device)?;
    let maps: Arc<dyn Maps> = kernel.maps;
    let programs: Arc<dyn Programs> = kernel.programs;

    // Whoever calls the kernel has a thread of its own kind; the rest is here, on `control`.
    let (map_thread, load_thread) = (Arbiter::new(), Arbiter::new());
    let table = |map: &'static MapSpec| -> Addr<TableSync> {
        let maps = Arc::clone(&maps);
        TableSync::start_in_arbiter(&map_thread.handle(), move |_| TableSync::new(maps, map))
    };
    let loader = Loader::start_in_arbiter(&load_thread.handle(), {
        let links = Arc::clone(&links);
        move |_| Loader::new(programs, links)
    });
    let classes = ClassSync::start_in_arbiter(&map_thread.handle(), {
        let maps = Arc::clone(&maps);
        move |_| ClassSync::new(maps)
    });
    let node = NodeName(config.node.clone());
    let ipcache =
        Ipcache::new(node.clone(), table(&ADDRESSES4), table(&PREFIXES4), loader.clone()).start();
    let policy = Policy::new(classes.clone(), ipcache.clone()).start();
    let (say, outbox) = mpsc::channel(1024);
    let callees = Callees {
        policy: policy.clone(),
        ipcache: ipcache.clone(),
        loader,
        table: table(&ENDPOINTS),
        classes: classes.clone(),
        uplink: say,
    };
    let mut records = state::read(&config.state_dir)?;
    // A link that vanished with its pod leaves nothing to recover.
    let plugged = links.plugged()?;
    records.retain(|r| plugged.contains(&(r.host_interface.clone(), r.ifindex)));
    let endpoints = Endpoints::new(
        node.clone(),
        config.state_dir.clone(),
        config.mtu.unwrap_or(mtu),
        records,
        callees,
    )
    .start();
    let (progress, seen) = watch::channel(Progress::default());
    let columns = Columns { policy, ipcache, endpoints: endpoints.clone(), classes };
    let operators = config.operator.clone();
    actix::spawn(Uplink { node, operators, identity, columns, progress, outbox }.run());

    let queue = config.run_dir.join("delete-queue");
    let api = Api { node: config.node.clone(), endpoints, progress: seen, queue };
    api.drain().await;
    let server = Server::bind(&config.run_dir.join("agent.sock"), Limits::default())?;
    actix::spawn(server.serve(move |call| {
        let api = api.clone();
        async move { Response::from(api.answer(call).await) }
    }));
    tracing::info!(node = %config.node, "serving");
    let mut stop = signal(SignalKind::terminate())?;
    tokio::select! { _ = stop.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
    Ok(())
}
