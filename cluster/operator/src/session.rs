//! Agents' sessions: one task each, between a TLS stream and the leader.
//!
//! A session is a position in the leader's history: it pulls what comes next when it has sent what came
//! before, so however slow an agent is, it holds one frame.

use crate::{
    admission::Admission,
    history::Snapshot,
    leader::{Leader, Tip},
    messages::{Aside, Heard, Join, Joined, Pull, Pulled, Said},
    metrics::{Metrics, Refusal},
    progress::{NotJoined, SessionId},
};
use actix::{Addr, MailboxError, prelude::SendError};
use std::{net::IpAddr, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{error::Elapsed, sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use weft_state::interests::{Scope, View};
use weft_types::{NodeName, Revision};
use weft_wire::{
    ToAgent, ToOperator, VERSIONS,
    credentials::Credentials,
    frame::{FrameError, encode, encode_in, receive_greeting, receive_within, send_in},
    tls::node_of,
};

/// Longest message of an agent: all addresses of a /14, with their identities.
const HEARD_MAX: usize = 3 << 20;
/// How often a silent agent is asked whether it is there; agents wait several times as long.
const PING: Duration = Duration::from_secs(2);
/// Addresses that an agent may have asked for; of more the oldest are forgotten, as it does itself.
pub const ASKED_MAX: usize = 1024;
/// Pause after an accept that failed: descriptors come back when sessions end.
const PAUSE: Duration = Duration::from_millis(100);

/// What sessions are told.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// How long a handshake and an agent's first message may take.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub session_greeting: Duration,
    /// How long an agent may be silent, or may take to read one frame; it is asked every 2 s.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = humantime::parse_duration)]
    pub session_silence: Duration,
    /// Tell agents of all identities and pods, and not of those alone that policies of their pods name, or that they ask for.
    #[arg(long)]
    pub push_everything: bool,
}

impl Config {
    const fn scope(self) -> Scope {
        if self.push_everything { Scope::Everything } else { Scope::Interests }
    }
}

/// What every session needs.
pub struct Sessions {
    /// By what agents know this operator, and it them.
    pub credentials: Credentials,
    /// Whom they speak to.
    pub leader: Addr<Leader>,
    /// What is newest.
    pub tip: watch::Receiver<Tip>,
    /// Who may try.
    pub admission: Admission,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How long agents are waited for.
    pub config: Config,
}

/// An agent that may speak.
struct Greeted {
    /// The version that both speak.
    version: u16,
    node: NodeName,
    session: SessionId,
    /// Up to where it was told.
    from: Option<Revision>,
    joined: Joined,
}

/// Why there is no session, or none any more.
enum End {
    Refused(Refusal, String),
    /// Its number is not newer than this one, which the node had: the agent counts on from there.
    Stale(SessionId),
    Over(String),
}

impl From<Elapsed> for End {
    fn from(_: Elapsed) -> Self {
        Self::Over("the agent did not answer, or did not read, in time".to_owned())
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        let why = error.to_string();
        match error {
            FrameError::Io(_) => Self::Over(why),
            FrameError::Version(_) => Self::Refused(Refusal::Version, why),
            FrameError::TooLong(_) | FrameError::Malformed(_) => {
                Self::Refused(Refusal::Protocol, why)
            }
        }
    }
}

impl From<MailboxError> for End {
    fn from(_: MailboxError) -> Self {
        Self::Over("the operator is stopping".to_owned())
    }
}

impl Sessions {
    /// Accepts sessions for ever.
    pub async fn serve(self, listener: TcpListener) {
        let sessions = Rc::new(self);
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok((stream, peer)) => (stream, peer.ip()),
                Err(error) => {
                    tracing::warn!("accept a session: {error}");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let Some(admitted) = sessions.admission.admit(peer) else {
                let why = "too many handshakes at once";
                sessions.admission.refuse(peer, Refusal::Limit, why);
                continue;
            };
            let sessions = Rc::clone(&sessions);
            tokio::task::spawn_local(async move {
                let greeted = sessions.greet(stream).await;
                drop(admitted);
                let ended = match greeted {
                    Ok((stream, greeted)) => {
                        let node = greeted.node.clone();
                        (sessions.stand(stream, greeted).await, Some(node))
                    }
                    Err(end) => (Err(end), None),
                };
                sessions.farewell(peer, ended);
            });
        }
    }

    fn farewell(&self, peer: IpAddr, (end, node): (Result<(), End>, Option<NodeName>)) {
        match (end, node) {
            (Ok(()), _) => {}
            (Err(End::Refused(refusal, why)), _) => self.admission.refuse(peer, refusal, &why),
            (Err(End::Over(why)), Some(node)) => tracing::info!(%node, "session ended: {why}"),
            (Err(End::Stale(newest)), _) => {
                tracing::info!(%peer, newest = newest.0, "session not taken: its number was used")
            }
            (Err(End::Over(why)), None) => self.admission.refuse(peer, Refusal::Silent, &why),
        }
    }

    /// From a connection to a session that stands.
    async fn greet(&self, stream: TcpStream) -> Result<(TlsStream<TcpStream>, Greeted), End> {
        drop(stream.set_nodelay(true));
        let mut stream =
            timeout(self.config.session_greeting, self.credentials.acceptor().accept(stream))
                .await?
                .map_err(|error| End::Refused(Refusal::Handshake, format!("TLS: {error}")))?;
        let certified =
            node_of(&stream).map_err(|error| End::Refused(Refusal::NotANode, error.to_string()))?;
        let first =
            timeout(self.config.session_greeting, receive_greeting(&mut stream, HEARD_MAX)).await?;
        let (offered, first) = match first {
            Ok((offered, message)) => (offered, Ok(message)),
            Err(error) => (VERSIONS.oldest, Err(error)),
        };
        let version = VERSIONS.agree(offered).unwrap_or(VERSIONS.oldest);
        let refusal = match first {
            Ok(ToOperator::Hello { node, session, held, from, identities, asked })
                if node == certified =>
            {
                let session = SessionId(session);
                let told = identities.into_iter().collect();
                let mut view = View::new(node.clone(), self.config.scope(), told);
                view.ask(asked, ASKED_MAX);
                match self
                    .leader
                    .send(Join { node: node.clone(), session, held, from, view })
                    .await?
                {
                    Ok(joined) => {
                        return Ok((stream, Greeted { version, node, session, from, joined }));
                    }
                    Err(NotJoined::Stale(_, newest)) => End::Stale(newest),
                    Err(why) => End::Refused(Refusal::Ahead, why.to_string()),
                }
            }
            Ok(ToOperator::Hello { node, .. }) => {
                let why = format!("the certificate is node {certified}'s, not {node}'s");
                End::Refused(Refusal::OtherNode, why)
            }
            Ok(_) => End::Refused(Refusal::Protocol, "the first message is no greeting".to_owned()),
            Err(error) => error.into(),
        };
        let answer = match &refusal {
            End::Refused(_, reason) => Some(ToAgent::Refused { reason: reason.clone() }),
            End::Stale(newest) => Some(ToAgent::Stale { session: newest.0 }),
            End::Over(_) => None,
        };
        if let Some(answer) = answer {
            // That it does not hear why changes nothing.
            let told = async {
                send_in(&mut stream, version, &answer).await?;
                Ok::<(), FrameError>(stream.shutdown().await?)
            };
            drop(timeout(self.config.session_greeting, told).await);
        }
        Err(refusal)
    }

    /// Both directions until one ends.
    async fn stand(
        &self,
        stream: TlsStream<TcpStream>,
        Greeted { version, node, session, from, joined }: Greeted,
    ) -> Result<(), End> {
        let Joined { cluster, revision, asides, over } = joined;
        let (reads, writes) = split(stream);
        let welcome = encode_in(version, &ToAgent::Welcome { cluster, revision })?;
        let _counted = self.metrics.session(version);
        let ended = tokio::select! {
            ended = self.speak(writes, (&node, session, asides), (&welcome, from)) => ended,
            ended = self.listen(reads, &node, session) => ended,
            _ = over => Err(End::Over("another session of this node, or its Node changed".to_owned())),
        };
        self.leader.send(Heard { node, session, said: Said::Left }).await?.ok();
        ended
    }

    async fn speak(
        &self,
        mut to: impl AsyncWrite + Unpin,
        (node, session, mut asides): (&NodeName, SessionId, mpsc::Receiver<Aside>),
        (welcome, mut sent): (&[u8], Option<Revision>),
    ) -> Result<(), End> {
        let mut tip = self.tip.clone();
        self.write(&mut to, welcome).await?;
        loop {
            while let Ok(aside) = asides.try_recv() {
                self.say(&mut to, aside).await?;
            }
            // Seen before it is asked for: what comes in between is another change.
            tip.borrow_and_update();
            let pull = Pull { node: node.clone(), session, sent };
            let is_newest = match self.leader.send(pull).await? {
                None => return Err(End::Over("it is superseded".to_owned())),
                Some(Pulled::Snapshot(snapshot)) => {
                    if self.tell_all(&mut to, &tip, &snapshot).await? {
                        sent = Some(snapshot.revision);
                    }
                    false
                }
                Some(Pulled::Push(frame, revision)) => {
                    self.write(&mut to, &frame).await?;
                    self.metrics.pushes.inc();
                    self.metrics.pushed_bytes.inc_by(frame.len() as u64);
                    sent = Some(revision);
                    // That there is nothing more need not be asked then.
                    tip.borrow_and_update().newest == revision
                }
                Some(Pulled::Nothing) => true,
            };
            if is_newest {
                tokio::select! {
                    changed = tip.changed() => if changed.is_err() {
                        return Err(End::Over("the operator is stopping".to_owned()));
                    },
                    Some(aside) = asides.recv() => self.say(&mut to, aside).await?,
                    () = sleep(PING) => self.write(&mut to, &encode(&ToAgent::Ping)?).await?,
                }
            }
        }
    }

    async fn say(&self, to: &mut (impl AsyncWrite + Unpin), aside: Aside) -> Result<(), End> {
        match aside {
            // It does so next.
            Aside::Pull => Ok(()),
            Aside::Tell(message) => self.write(to, &encode(&message)?).await,
        }
    }

    /// Sends a snapshot; false when it became too old on the way, and a newer one has to be begun.
    async fn tell_all(
        &self,
        to: &mut (impl AsyncWrite + Unpin),
        tip: &watch::Receiver<Tip>,
        snapshot: &Snapshot,
    ) -> Result<bool, End> {
        self.metrics.snapshots.inc();
        for frame in &snapshot.frames {
            if tip.borrow().floor > snapshot.revision {
                return Ok(false);
            }
            self.write(to, frame).await?;
            self.metrics.pushed_bytes.inc_by(frame.len() as u64);
        }
        Ok(true)
    }

    async fn write(&self, to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> Result<(), End> {
        let written = async {
            to.write_all(frame).await?;
            to.flush().await
        };
        timeout(self.config.session_silence, written)
            .await?
            .map_err(|error| FrameError::Io(error).into())
    }

    async fn listen(
        &self,
        mut from: impl AsyncRead + Unpin,
        node: &NodeName,
        session: SessionId,
    ) -> Result<(), End> {
        loop {
            let said =
                match timeout(self.config.session_silence, receive_within(&mut from, HEARD_MAX))
                    .await??
                {
                    ToOperator::Acknowledge { revision, trace } => Said::Holds(revision, trace),
                    ToOperator::Behind { revision, reason } => Said::Behind(revision, reason),
                    ToOperator::EndpointPlugged { endpoint, .. } if endpoint.node != *node => {
                        let why = format!("node {node} speaks for a pod of node {}", endpoint.node);
                        return Err(End::Refused(Refusal::OtherNode, why));
                    }
                    ToOperator::EndpointPlugged { endpoint, trace } => {
                        Said::Plugged(endpoint, trace)
                    }
                    ToOperator::EndpointUnplugged { address, trace } => {
                        Said::Unplugged(address, trace)
                    }
                    ToOperator::EndpointsAre { endpoints } => Said::Endpoints(endpoints),
                    ToOperator::Who { addresses } => Said::Who(addresses),
                    ToOperator::Pong => continue,
                    ToOperator::Hello { .. } => {
                        let why = "a second greeting".to_owned();
                        return Err(End::Refused(Refusal::Protocol, why));
                    }
                };
            let mut heard = Heard { node: node.clone(), session, said };
            // Nothing comes of what its kernel holds that would have to be waited for, but room.
            if matches!(heard.said, Said::Holds(..) | Said::Behind(..)) {
                match self.leader.try_send(heard) {
                    Err(SendError::Full(back)) => heard = back,
                    Ok(()) => continue,
                    Err(SendError::Closed(_)) => return Err(MailboxError::Closed.into()),
                }
            }
            // What was not recorded is told again with the next session.
            self.leader.send(heard).await?.map_err(|failure| End::Over(failure.message))?;
        }
    }
}
