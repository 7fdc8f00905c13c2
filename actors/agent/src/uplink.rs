//! The session to an operator: snapshots and deltas in, acknowledgements and endpoints out.

use crate::{
    endpoints::{Endpoints, Records},
    internal,
    ipcache::Ipcache,
    mapsync::{BumpEpoch, ClassSync},
    policy::Policy,
    published::Advance,
};
use actix::Addr;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::io::split;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use weft_types::{Delta, NodeName, PodEndpoint, Revision};
use weft_wire::{
    ToAgent, ToOperator,
    frame::{receive, send},
    tls::{self, Identity},
};

/// What became of the session, for everyone who wants to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Newest revision received.
    pub received: Revision,
    /// Revision the kernel holds; zero before the first snapshot.
    pub realised: Revision,
    /// Epoch of that revision.
    pub epoch: u64,
    /// The operator, while connected.
    pub operator: Option<SocketAddr>,
}

/// The actors that a revision goes through, in this order.
#[derive(Clone)]
pub struct Columns {
    /// Identities and policies.
    pub policy: Addr<Policy>,
    /// Addresses.
    pub ipcache: Addr<Ipcache>,
    /// Endpoints of this node.
    pub endpoints: Addr<Endpoints>,
    /// The epoch.
    pub classes: Addr<ClassSync>,
}

/// Keeps a session with one of the operators, for ever.
pub struct Uplink {
    /// This node.
    pub node: NodeName,
    /// The operators.
    pub operators: Vec<SocketAddr>,
    /// Who this agent is.
    pub identity: Identity,
    /// Where revisions go.
    pub columns: Columns,
    /// Where progress is told.
    pub progress: watch::Sender<Progress>,
    /// What the agent has to say.
    pub outbox: mpsc::Receiver<ToOperator>,
}

impl Uplink {
    /// Runs until the process ends.
    pub async fn run(mut self) {
        let mut wait = Duration::from_millis(100);
        for at in (0..self.operators.len()).cycle() {
            let Some(operator) = self.operators.get(at).copied() else { return };
            match self.session(operator).await {
                Ok(()) => wait = Duration::from_millis(100),
                Err(error) => {
                    tracing::warn!(%operator, "session: {error:#}");
                    wait = (wait * 2).min(Duration::from_secs(5));
                }
            }
            self.progress.send_modify(|p| p.operator = None);
            sleep(wait).await;
        }
    }

    async fn session(&mut self, operator: SocketAddr) -> anyhow::Result<()> {
        let stream = tls::connect(operator, &self.identity.connector()?).await?;
        let (mut from, mut to) = split(stream);
        let held = Some(self.progress.borrow().realised).filter(|r| *r != Revision::ZERO);
        send(&mut to, &ToOperator::Hello { node: self.node.clone(), held }).await?;
        match receive(&mut from).await? {
            ToAgent::Welcome { .. } => {}
            ToAgent::Refused { reason } => anyhow::bail!("refused: {reason}"),
            other => anyhow::bail!("the first message was {other:?}"),
        }
        self.progress.send_modify(|p| p.operator = Some(operator));
        let (replies, mut replying) = mpsc::channel(64);
        let columns = self.columns.clone();
        let progress = self.progress.clone();
        let hearing = hear(&mut from, columns, progress, replies);
        let outbox = &mut self.outbox;
        let speaking = async {
            loop {
                let message = tokio::select! {
                    Some(reply) = replying.recv() => reply,
                    Some(message) = outbox.recv() => message,
                    else => anyhow::bail!("nobody has anything to say"),
                };
                send(&mut to, &message).await?;
            }
        };
        tokio::select! { ended = hearing => ended, ended = speaking => ended }
    }
}

async fn hear<R: tokio::io::AsyncRead + Unpin>(
    from: &mut R,
    columns: Columns,
    progress: watch::Sender<Progress>,
    replies: mpsc::Sender<ToOperator>,
) -> anyhow::Result<()> {
    let mut snapshot: Option<Vec<Delta>> = None;
    loop {
        match receive(from).await? {
            ToAgent::Ping => replies.send(ToOperator::Pong).await?,
            ToAgent::SnapshotBegin => snapshot = Some(Vec::new()),
            ToAgent::Deltas { revision, deltas, .. } => match &mut snapshot {
                Some(all) => all.extend(deltas),
                None => advance(&columns, &progress, &replies, revision, false, deltas).await?,
            },
            ToAgent::SnapshotEnd { revision } => {
                let deltas = snapshot.take().unwrap_or_default();
                advance(&columns, &progress, &replies, revision, true, deltas).await?;
                tell_endpoints(&columns, &replies).await?;
            }
            ToAgent::Refused { reason } => anyhow::bail!("refused: {reason}"),
            ToAgent::Welcome { .. } => anyhow::bail!("a second welcome"),
        }
    }
}

/// Brings every column to a revision, bumps the epoch, acknowledges.
async fn advance(
    columns: &Columns,
    progress: &watch::Sender<Progress>,
    replies: &mpsc::Sender<ToOperator>,
    revision: Revision,
    snapshot: bool,
    deltas: Vec<Delta>,
) -> anyhow::Result<()> {
    if revision < progress.borrow().realised {
        anyhow::bail!("the operator is behind: it has {revision}");
    }
    progress.send_modify(|p| p.received = revision);
    let advance = Advance { revision, snapshot, deltas: Arc::new(deltas) };
    columns.policy.send(advance.clone()).await.map_err(internal)??;
    columns.ipcache.send(advance.clone()).await.map_err(internal)??;
    columns.endpoints.send(advance).await.map_err(internal)??;
    let epoch = columns.classes.send(BumpEpoch).await.map_err(internal)??;
    progress.send_modify(|p| {
        p.realised = revision;
        p.epoch = epoch;
    });
    Ok(replies.send(ToOperator::Acknowledge { revision }).await?)
}

/// Says which pods are here, so that the operator's table is what this node's is.
async fn tell_endpoints(
    columns: &Columns,
    replies: &mpsc::Sender<ToOperator>,
) -> anyhow::Result<()> {
    let endpoints: Vec<PodEndpoint> = columns.endpoints.send(Records).await?;
    let addresses = endpoints.iter().map(|e| e.address).collect();
    replies.send(ToOperator::EndpointsAre { addresses }).await?;
    for endpoint in endpoints {
        replies.send(ToOperator::EndpointPlugged { endpoint, trace: None }).await?;
    }
    Ok(())
}
