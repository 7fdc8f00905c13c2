//! The operator put together: its parts are bound first, so that what cannot be had is an error at once.

use crate::{
    admin::Admin,
    admission::{self, Admission},
    config::Config,
    founding::{self, FoundingError},
    keeper::{Keeper, Told},
    leader::Leader,
    leading::{Leading, Standing},
    messages::{Applied, StoreTold, Transfer},
    metrics::Metrics,
    peers::{Errands, Listener, Peers, Router, Who},
    sequencer::{GroupSequencer, Inbox, Sequenced},
    session::{self, Sessions},
};
use actix::{Actor, Addr};
use anyhow::Context;
use std::{cell::RefCell, future::Future, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{
        mpsc::{self, UnboundedReceiver},
        watch,
    },
    task::JoinHandle,
    time::timeout,
};
use weft_api::{
    health::Health,
    transport::{Limits, Response, Server},
};
use weft_raft::{Envelope, Role, Status};
use weft_store::{EtcdStore, FileDisk, FileStore, MemberDisk, Store};
use weft_wire::credentials::Credentials;

/// Messages of the member that wait to be sent on their ways.
const OUTBOX: usize = 4096;

/// Time that another member has to begin to lead: an election's.
const HAND_OVER: Duration = Duration::from_secs(1);

/// An operator that is about to serve.
pub struct Operator {
    calls: Admin,
    tip: watch::Receiver<crate::leader::Tip>,
    standing: watch::Receiver<Standing>,
    group: watch::Receiver<Status>,
    hearing: JoinHandle<&'static str>,
    metrics: Arc<Metrics>,
    listener: TcpListener,
    credentials: Credentials,
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
            let prefix = format!("/weft/{}/", config.cluster);
            Box::new(EtcdStore::open_by(&config.etcd_tls.files(), &config.etcd, &prefix)?)
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
        let credentials = Credentials::read(&config.ca, &config.cert, &config.key)?;
        let metrics = Arc::new(Metrics::kept_in(&config.state_dir));
        let cluster = config.cluster()?;
        let begun =
            founding::begin(&mut *store, disk, &cluster, &config.peers, Arc::clone(&metrics));
        let (founded, mut writer) = begun.inspect_err(|error| {
            if let Some(invariant) = error.violates() {
                metrics.violations.saw(invariant, error);
            }
        })?;
        tracing::info!(cluster = %config.cluster, revision = %founded.revision,
            term = founded.led, "the cluster's state is read");
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("listen at {}", config.listen))?;
        let health = match config.metrics_listen {
            Some(address) => Some(Health::bind(address).await?),
            None => None,
        };
        let admin = Server::bind(&config.admin_socket, Limits::default())?;
        let (keeper, told) = Keeper::start(store, cluster.clone(), Arc::clone(&metrics))?;
        let looks = keeper.looks();
        let (generation, alone) = (founded.revision.generation(), founded.led.is_some());
        let (messages, outgoing) = mpsc::channel(OUTBOX);
        let status = writer.connect(messages);
        let (sequencer, stream) = GroupSequencer::start(writer)?;
        let inbox = sequencer.inbox();
        let made = (config.labels.labels.clone(), config.identities.grace());
        let (leading, standing) = Leading::new(&cluster, generation, made, keeper);
        let kind = if config.etcd.is_empty() { "file" } else { "etcd" };
        let told_with = (Arc::clone(&metrics), config.leader, kind);
        let (leader, watched) =
            Leader::new(founded, Box::new(sequencer), leading, status.clone(), told_with);
        let leader = leader.start();
        let (peers, errands) = Peers::new();
        let calls = Admin { leader: leader.clone(), group: status.clone(), peers, store: looks };
        let meeting = (generation, inbox, &metrics, watched.agents);
        Self::meet(config, &credentials, &calls, meeting, (outgoing, errands)).await?;
        let mut hearing = actix::spawn(hear(stream, told, leader.clone()));
        let mut stands = standing.clone();
        // An agent must not meet an operator that has yet to adopt what the store holds: it may be ahead of that.
        tokio::select! {
            stood = stands.wait_for(|standing| !alone || *standing != Standing::Waiting) => {
                if let Standing::Broken(why) = &*stood? {
                    anyhow::bail!("{why}");
                }
            }
            ended = &mut hearing => anyhow::bail!("{}", ended?),
        }
        let (sessions, admission) = (config.sessions, config.admission);
        Ok(Self {
            calls,
            tip: watched.tip,
            standing,
            group: status,
            hearing,
            metrics,
            listener,
            credentials,
            admin,
            health,
            sessions,
            admission,
        })
    }

    /// Has the member speak with its peers, if it may have any.
    async fn meet(
        config: &Config,
        credentials: &Credentials,
        admin: &Admin,
        (generation, inbox, metrics, agents): (u16, Inbox, &Arc<Metrics>, watch::Receiver<u64>),
        (outgoing, errands): (mpsc::Receiver<Envelope>, Errands),
    ) -> anyhow::Result<()> {
        let Some(address) = config.peers.peer_listen else { return Ok(()) };
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listen for peers at {address}"))?;
        let who = Who {
            cluster: config.cluster.clone(),
            generation,
            member: config.peers.id(),
            address: config.peers.address(),
            credentials: credentials.clone(),
        };
        let (introductions, introduced) = mpsc::channel(OUTBOX);
        let Admin { leader, group, peers, .. } = admin.clone();
        let router =
            Router::new(who.clone(), inbox.clone(), (leader, agents), (peers.clone(), errands));
        actix::spawn(router.run(outgoing, group, introduced));
        let heard = Listener {
            who,
            inbox,
            introductions,
            admin: admin.clone(),
            peers,
            admission: Admission::new(Arc::clone(metrics), config.admission),
            current: RefCell::default(),
        };
        actix::spawn(heard.run(listener));
        Ok(())
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
        let (calls, leader) = (self.calls.clone(), self.calls.leader);
        let mut standing = self.standing;
        let sessions = Sessions {
            credentials: self.credentials,
            leader: leader.clone(),
            tip: self.tip,
            admission: Admission::new(Arc::clone(&self.metrics), self.admission),
            metrics: Arc::clone(&self.metrics),
            config: self.sessions,
        };
        let sessions = actix::spawn(sessions.serve(self.listener));
        let admin = actix::spawn(self.admin.serve(move |call| {
            let answer = calls.clone().answer(call);
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
            () = stop => {
                hand_over(&leader, self.group).await;
                Ok(())
            }
            ended = self.hearing => anyhow::bail!("{}", ended?),
            broken = standing.wait_for(|standing| matches!(standing, Standing::Broken(_))) => {
                match &*broken? {
                    Standing::Broken(why) => anyhow::bail!("{why}"),
                    Standing::Waiting | Standing::Serving => Ok(()),
                }
            }
            ended = sessions => anyhow::bail!("serving agents ended: {ended:?}"),
            ended = admin => anyhow::bail!("serving the admin socket ended: {ended:?}"),
            ended = actix::spawn(health) => anyhow::bail!("serving metrics ended: {ended:?}"),
        }
    }
}

/// Before it ends, a leader has another lead, so that nobody has to find out that it is gone.
async fn hand_over(leader: &Addr<Leader>, mut group: watch::Receiver<Status>) {
    let others = group.borrow().group.voters().count() > 1;
    if others && matches!(leader.send(Transfer(None)).await, Ok(Ok(_))) {
        let handed = group.wait_for(|status| !matches!(status.role, Role::Leader | Role::Elected));
        // Whoever does not take it is found out.
        drop(timeout(HAND_OVER, handed).await);
    }
}

/// Tells the leader what is committed, whoever proposed it, and what the store says; why that ended.
async fn hear(
    mut stream: UnboundedReceiver<Sequenced>,
    mut told: UnboundedReceiver<Told>,
    leader: Addr<Leader>,
) -> &'static str {
    loop {
        let heard = tokio::select! {
            sequenced = stream.recv() => match sequenced {
                Some(sequenced) => leader.send(Applied(sequenced)).await,
                None => return "the log ended; see the error before this",
            },
            told = told.recv() => match told {
                Some(told) => leader.send(StoreTold(told)).await,
                None => return "the store's thread ended; see the error before this",
            },
        };
        if heard.is_err() {
            return "the leader ended; see the error before this";
        }
    }
}
