//! The operators' group on the network: mutual TLS, one connection each way, frames of what members say.
//!
//! Whoever has something to say connects, and speaks alone on its connection after both have greeted. Nothing waits for a
//! peer that is away: consensus is told, and makes up for what was dropped.

mod dial;
mod listen;

use crate::sequencer::Inbox;
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_raft::{Envelope, MemberId, Status};

pub use listen::Listener;

/// What the operator is told of its group.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// This operator's number in its group: never another's, nor again after its disk is lost.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub member: u64,
    /// Where the group's other operators connect; nowhere when absent, and this operator stays alone.
    #[arg(long, value_name = "IP:PORT")]
    pub peer_listen: Option<SocketAddr>,
    /// Where they reach it, as 10.0.0.1:4901; where it listens when absent.
    #[arg(long, value_name = "HOST:PORT")]
    pub peer_address: Option<String>,
    /// Found no cluster: a group has this number for its next member (weft cluster member add), and will say the rest.
    #[arg(long)]
    pub join: bool,
    /// Found the cluster anew from the store when this operator's disk is lost: only when no other operator of its group lives,
    /// since this ends theirs. An operator that listens for no peers is alone, and does so by itself.
    #[arg(long, conflicts_with = "join")]
    pub found_anew: bool,
}

impl Config {
    /// Where peers reach this operator; empty when they do not.
    pub fn address(&self) -> String {
        let listens = || self.peer_listen.map(|listen| listen.to_string());
        self.peer_address.clone().or_else(listens).unwrap_or_default()
    }

    /// Whether its group may have other members, which nobody said are gone.
    pub fn may_have_others(&self) -> bool {
        self.peer_listen.is_some() && !self.found_anew
    }

    /// Its number.
    pub fn id(&self) -> MemberId {
        MemberId(self.member)
    }
}

/// Messages that wait for one peer.
const QUEUE: usize = 1024;
/// Longest message, in bytes; a snapshot comes in parts, and a command is no longer than what the admin socket takes.
const FRAME_MAX: usize = 64 << 20;
/// How long a connection and its greeting may take, and a peer to take what it is sent.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who this member is to its peers.
#[derive(Clone)]
pub struct Who {
    /// The cluster.
    pub cluster: String,
    /// Which life of it the log is of.
    pub generation: u16,
    /// This member.
    pub member: MemberId,
    /// Where it is reached.
    pub address: String,
    /// With its certificate.
    pub connector: TlsConnector,
    /// With its certificate.
    pub acceptor: TlsAcceptor,
}

/// A peer that is spoken to, until this is dropped.
struct Peer {
    address: String,
    queue: mpsc::Sender<Envelope>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends each message on its way, to whoever is of the group or came from it.
pub struct Router {
    who: Who,
    inbox: Inbox,
    peers: BTreeMap<MemberId, Peer>,
    /// Where members said that they are: one that joins knows nobody else's place yet.
    introduced: BTreeMap<MemberId, String>,
}

impl Router {
    /// Nobody yet.
    pub fn new(who: Who, inbox: Inbox) -> Self {
        Self { who, inbox, peers: BTreeMap::new(), introduced: BTreeMap::new() }
    }

    /// Until the member ends.
    pub async fn run(
        mut self,
        mut messages: mpsc::Receiver<Envelope>,
        mut status: watch::Receiver<Status>,
        mut introductions: mpsc::Receiver<(MemberId, String)>,
    ) {
        self.arrange(&status.borrow_and_update());
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => self.send(message),
                    None => return,
                },
                changed = status.changed() => match changed {
                    Ok(()) => self.arrange(&status.borrow_and_update()),
                    Err(_) => return,
                },
                Some((member, address)) = introductions.recv() => {
                    self.introduced.insert(member, address);
                    self.arrange(&status.borrow());
                }
            }
        }
    }

    fn send(&self, message: Envelope) {
        if let Some(peer) = self.peers.get(&message.to) {
            drop(peer.queue.try_send(message));
        }
    }

    /// Speaks to those of the group, where they are now, and while there is none to whoever came.
    fn arrange(&mut self, status: &Status) {
        let members = status.group.members.iter();
        let mut places: BTreeMap<MemberId, &str> =
            members.map(|(id, member)| (*id, member.address.as_str())).collect();
        for (member, address) in &self.introduced {
            if status.group.members.is_empty() || places.contains_key(member) {
                places.insert(*member, address);
            }
        }
        places.retain(|member, address| *member != self.who.member && !address.is_empty());
        self.peers.retain(|member, peer| places.get(member) == Some(&peer.address.as_str()));
        for (member, address) in places {
            if !self.peers.contains_key(&member) {
                let (queue, queued) = mpsc::channel(QUEUE);
                let (who, inbox) = (self.who.clone(), self.inbox.clone());
                let dialled = dial::run(who, member, address.to_owned(), queued, inbox);
                let task = tokio::task::spawn_local(dialled);
                self.peers.insert(member, Peer { address: address.to_owned(), queue, task });
            }
        }
    }
}

/// Why a connection between members ended.
#[derive(Debug, thiserror::Error)]
enum PeerError {
    #[error("{0}")]
    Tls(#[from] weft_wire::tls::TlsError),
    #[error("the connection ended: {}", ended(.0))]
    Io(#[from] std::io::Error),
    #[error("nothing came in {} s", PATIENCE.as_secs())]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("a message of {0} bytes is longer than may be")]
    TooLong(usize),
    #[error("what came is no greeting: {0}")]
    Greeting(String),
    #[error(transparent)]
    Malformed(#[from] weft_raft::Malformed),
    #[error("refused: {0}")]
    Refused(String),
    #[error("member {certified} speaks as member {said}")]
    Other { certified: u64, said: MemberId },
}

/// How it ended. TLS words the commonest end, that of the other process, at length.
fn ended(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the other side went away".to_owned(),
        _ => error.to_string(),
    }
}

/// Writes a length (u32, big endian) and bytes.
async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), PeerError> {
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= FRAME_MAX);
    to.write_u32(length.ok_or(PeerError::TooLong(bytes.len()))?).await?;
    Ok(to.write_all(bytes).await?)
}

/// Reads as many bytes as their length says, grown as they come.
async fn read(from: &mut (impl AsyncRead + Unpin), longest: usize) -> Result<Vec<u8>, PeerError> {
    let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
    if length > longest {
        return Err(PeerError::TooLong(length));
    }
    let mut bytes = Vec::new();
    from.take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    Ok(bytes)
}
