//! The operator put together: its parts are bound first, so that what cannot be had is an error at once.

use crate::{admin, config::Config, leader::Leader, sequencer::LocalSequencer, session};
use actix::Actor;
use anyhow::Context;
use std::{future::Future, net::SocketAddr};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use weft_api::transport::{Limits, Response, Server};
use weft_store::FileStore;
use weft_wire::tls::Identity;

/// An operator that is about to serve.
pub struct Operator {
    sequencer: LocalSequencer<FileStore>,
    cluster: String,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    admin: Server,
}

impl Operator {
    /// Opens what it has on disk and binds its sockets, in the context of an actix system.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let identity = Identity::read(&config.ca, &config.cert, &config.key)?;
        std::fs::create_dir_all(&config.state_dir)
            .with_context(|| format!("make {}", config.state_dir.display()))?;
        let store = FileStore::open(&config.state_dir.join("store.redb"))?;
        let sequencer = LocalSequencer::open(store, &config.cluster)?;
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("listen at {}", config.listen))?;
        Ok(Self {
            sequencer,
            cluster: config.cluster.clone(),
            listener,
            acceptor: identity.acceptor()?,
            admin: Server::bind(&config.admin_socket, Limits::default())?,
        })
    }

    /// Where agents connect.
    pub fn listens_at(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until it is told to stop; that any part of it ended is an error.
    pub async fn run(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let leader = Leader::new(Box::new(self.sequencer), self.cluster).start();
        let sessions = actix::spawn(session::serve(self.listener, self.acceptor, leader.clone()));
        let admin = actix::spawn(self.admin.serve(move |call| {
            let leader = leader.clone();
            async move { Response::from(admin::answer(leader, call).await) }
        }));
        tokio::select! {
            () = stop => Ok(()),
            ended = sessions => anyhow::bail!("serving agents ended: {ended:?}"),
            ended = admin => anyhow::bail!("serving the admin socket ended: {ended:?}"),
        }
    }
}
