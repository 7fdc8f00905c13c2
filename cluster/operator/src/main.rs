//! `weft-operator`: composes the operator and runs it until it is told to stop.

use actix::Actor;
use anyhow::Context;
use clap::Parser;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use weft_api::transport::{Limits, Response, Server};
use weft_operator::{
    admin,
    config::{Config, LogFormat},
    leader::Leader,
    sequencer::LocalSequencer,
    session,
};
use weft_store::FileStore;
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
    let identity = Identity::read(&config.ca, &config.cert, &config.key)?;
    std::fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("make {}", config.state_dir.display()))?;
    let store = FileStore::open(&config.state_dir.join("store.redb"))?;
    let sequencer = LocalSequencer::open(store, &config.cluster)?;
    let leader = Leader::new(Box::new(sequencer), config.cluster.clone()).start();
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listen at {}", config.listen))?;
    actix::spawn(session::serve(listener, identity.acceptor()?, leader.clone()));
    let server = Server::bind(&config.admin_socket, Limits::default())?;
    actix::spawn(server.serve(move |call| {
        let leader = leader.clone();
        async move { Response::from(admin::answer(leader, call).await) }
    }));
    tracing::info!(listen = %config.listen, "serving");
    let mut stop = signal(SignalKind::terminate())?;
    tokio::select! { _ = stop.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
    Ok(())
}
