//! Agents' sessions: one task each, between a TLS stream and the leader.

use crate::{
    leader::{Heard, Join, Leader, Said},
    progress::SessionId,
};
use actix::Addr;
use std::time::Duration;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use weft_types::NodeName;
use weft_wire::{
    ToAgent, ToOperator,
    frame::{receive, send},
    tls::node_of,
};

/// Messages that wait for a slow agent before its session is dropped.
const OUTBOX: usize = 1024;
/// How long a handshake and the first message may take.
const GREETING: Duration = Duration::from_secs(10);
/// How often a silent agent is asked whether it is there.
const PING: Duration = Duration::from_secs(5);
/// How long an agent may be silent.
const SILENCE: Duration = Duration::from_secs(20);

/// Accepts sessions until the process ends.
pub async fn serve(listener: TcpListener, acceptor: TlsAcceptor, leader: Addr<Leader>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (acceptor, leader) = (acceptor.clone(), leader.clone());
                tokio::task::spawn_local(async move {
                    if let Err(error) = session(stream, acceptor, leader).await {
                        tracing::info!(%peer, "session ended: {error:#}");
                    }
                });
            }
            Err(error) => tracing::warn!(%error, "accept"),
        }
    }
}

async fn session(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    leader: Addr<Leader>,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = timeout(GREETING, acceptor.accept(stream)).await??;
    let certified = node_of(&stream)?;
    let (node, held) = match timeout(GREETING, receive(&mut stream)).await?? {
        ToOperator::Hello { node, held } => (node, held),
        other => anyhow::bail!("the first message was {other:?}"),
    };
    if node != certified {
        let reason = format!("the certificate is node {certified}'s, not {node}'s");
        send(&mut stream, &ToAgent::Refused { reason: reason.clone() }).await?;
        stream.shutdown().await?;
        anyhow::bail!(reason);
    }
    let (outbox, inbox) = mpsc::channel(OUTBOX);
    let session = match leader.send(Join { node: node.clone(), held, outbox }).await? {
        Ok(session) => session,
        Err(reason) => {
            send(&mut stream, &ToAgent::Refused { reason: reason.clone() }).await?;
            stream.shutdown().await?;
            anyhow::bail!(reason);
        }
    };
    let result = converse(stream, inbox, &leader, &node, session).await;
    leader.send(Heard { node, session, said: Said::Left }).await?;
    result
}

/// Both directions until one ends.
async fn converse(
    stream: tokio_rustls::server::TlsStream<TcpStream>,
    mut inbox: mpsc::Receiver<ToAgent>,
    leader: &Addr<Leader>,
    node: &NodeName,
    session: SessionId,
) -> anyhow::Result<()> {
    let (mut from, mut to) = tokio::io::split(stream);
    let speak = async {
        loop {
            match timeout(PING, inbox.recv()).await {
                Ok(Some(message)) => send(&mut to, &message).await?,
                Ok(None) => anyhow::bail!("the leader ended it"),
                Err(_) => send(&mut to, &ToAgent::Ping).await?,
            }
        }
    };
    let listen = async {
        loop {
            let said = match timeout(SILENCE, receive(&mut from)).await?? {
                ToOperator::Acknowledge { revision } => Said::Holds(revision),
                ToOperator::EndpointPlugged { endpoint, .. } => Said::Plugged(endpoint),
                ToOperator::EndpointUnplugged { address } => Said::Unplugged(address),
                ToOperator::EndpointsAre { addresses } => Said::Endpoints(addresses),
                ToOperator::Pong => continue,
                ToOperator::Hello { .. } => anyhow::bail!("a second greeting"),
            };
            leader.send(Heard { node: node.clone(), session, said }).await?;
        }
    };
    tokio::select! { ended = speak => ended, ended = listen => ended }
}
