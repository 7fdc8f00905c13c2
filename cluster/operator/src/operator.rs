//! The operator put together: its parts are bound first, so that what cannot be had is an error at once.

use crate::{
    admin::Admin,
    admission::{self, Admission},
    allocator::Allocator,
    config::Config,
    founding::{self, FoundingError},
    labels,
    leader::Leader,
    messages::Applied,
    metrics::Metrics,
    sequencer::{GroupSequencer, Sequenced},
    session::{self, Sessions},
};
use actix::{Actor, Addr};
use anyhow::Context;
use std::{future::Future, net::SocketAddr, sync::Arc};
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc::UnboundedReceiver, watch},
};
use tokio_rustls::TlsAcceptor;
use weft_api::{
    health::Health,
    transport::{Limits, Response, Server},
};
use weft_store::{EtcdStore, FileDisk, FileStore, MemberDisk, Store};
use weft_wire::tls::Identity;

/// An operator that is about to serve.
pub struct Operator {
    leader: Leader,
    tip: watch::Receiver<crate::leader::Tip>,
    stream: UnboundedReceiver<Sequenced>,
    allocator: Allocator,
    metrics: Arc<Metrics>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    admin: Server,
    health: Option<Health>,
    sessions: session::Config,
    admission: admission::Config,
}

impl Operator {
    /// Opens what it has on disk and binds its sockets, in the context of an actix system.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&config.state_dir)
            .with_context(|| format!("make {}", config.state_dir.display()))?;
        let store: Box<dyn Store> = if config.etcd.is_empty() {
            Box::new(FileStore::open(&config.state_dir.join("store.redb"))?)
        } else {
            Box::new(EtcdStore::open(&config.etcd, &format!("/weft/{}/", config.cluster))?)
        };
        let disk = FileDisk::open(&config.state_dir.join("raft.redb"))?;
        Self::over(config, store, Box::new(disk)).await
    }

    /// The same over another store and disk.
    pub async fn over(
        config: &Config,
        mut store: Box<dyn Store>,
        disk: Box<dyn MemberDisk>,
    ) -> anyhow::Result<Self> {
        let old = config.state_dir.join("log.redb");
        if old.exists() {
            return Err(FoundingError::OldRelease(old).into());
        }
        let identity = Identity::read(&config.ca, &config.cert, &config.key)?;
        let metrics = Arc::new(Metrics::default());
        let (mut founded, mut writer) =
            founding::begin(&mut *store, disk, &config.cluster, Arc::clone(&metrics))?;
        tracing::info!(cluster = %config.cluster, revision = %founded.revision,
            term = founded.fence.term, "the cluster's state is read");
        let mut allocator = Allocator::new(store, founded.fence, Arc::clone(&metrics))?;
        labels::apply(&config.labels, &mut founded, &mut allocator, &mut writer)?;
        let (sequencer, stream) = GroupSequencer::start(writer)?;
        let (leader, tip) =
            Leader::new(founded, Box::new(sequencer), Arc::clone(&metrics), config.leader);
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("listen at {}", config.listen))?;
        let health = match config.metrics_listen {
            Some(address) => Some(Health::bind(address).await?),
            None => None,
        };
        let admin = Server::bind(&config.admin_socket, Limits::default())?;
        let acceptor = identity.acceptor()?;
        let (sessions, admission) = (config.sessions, config.admission);
        Ok(Self {
            leader,
            tip,
            stream,
            allocator,
            metrics,
            listener,
            acceptor,
            admin,
            health,
            sessions,
            admission,
        })
    }

    /// Where agents connect.
    pub fn listens_at(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Where metrics are served.
    pub fn metrics_at(&self) -> Option<SocketAddr> {
        self.health.as_ref().map(Health::listens_at)
    }

    /// Serves until it is told to stop; that any part of it ended is an error.
    pub async fn run(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let leader = self.leader.start();
        // One place applies what is committed, whoever proposed it.
        let applying = actix::spawn(apply(self.stream, leader.clone()));
        let sessions = Sessions {
            acceptor: self.acceptor,
            leader: leader.clone(),
            tip: self.tip,
            admission: Admission::new(Arc::clone(&self.metrics), self.admission),
            metrics: Arc::clone(&self.metrics),
            config: self.sessions,
        };
        let sessions = actix::spawn(sessions.serve(self.listener));
        let admin =
            Admin { leader: leader.clone(), allocator: Arc::new(Mutex::new(self.allocator)) };
        let admin = actix::spawn(self.admin.serve(move |call| {
            let answer = admin.clone().answer(call);
            async move { Response::from(answer.await) }
        }));
        let metrics = self.metrics;
        let health = async move {
            match self.health {
                Some(health) => health.serve(async move || metrics.render(), || Ok(())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop => Ok(()),
            ended = applying => anyhow::bail!("the log ended: {ended:?}; see the error before this"),
            ended = sessions => anyhow::bail!("serving agents ended: {ended:?}"),
            ended = admin => anyhow::bail!("serving the admin socket ended: {ended:?}"),
            ended = actix::spawn(health) => anyhow::bail!("serving metrics ended: {ended:?}"),
        }
    }
}

async fn apply(mut stream: UnboundedReceiver<Sequenced>, leader: Addr<Leader>) {
    while let Some(sequenced) = stream.recv().await {
        if leader.send(Applied(sequenced)).await.is_err() {
            return;
        }
    }
}
