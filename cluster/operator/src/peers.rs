//! The operators' group on the network: mutual TLS, one connection each way, frames of what members say.
//!
//! Whoever has something to say connects, and speaks alone on its connection after both have greeted. Nothing waits for a
//! peer that is away: consensus is told, and makes up for what was dropped.

mod dial;
mod listen;
pub mod message;

use crate::{leader::Leader, sequencer::Inbox};
use actix::Addr;
use message::{Say, Told};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use weft_api::{Reply, operator::Answer};
use weft_raft::{Envelope, MemberId, Status};
use weft_wire::credentials::Credentials;

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
    /// By what they know it.
    pub credentials: Credentials,
}

/// What every connection to a peer needs.
#[derive(Clone)]
struct Speaking {
    who: Who,
    inbox: Inbox,
    /// Who knows of the agents here, and when that changed last.
    leader: Addr<Leader>,
    agents: watch::Receiver<u64>,
    errands: Peers,
}

/// A peer that is spoken to, until this is dropped.
struct Peer {
    address: String,
    queue: mpsc::Sender<Say>,
    connected: Rc<Cell<bool>>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the router is to do beside consensus.
enum Errand {
    /// Ask a member.
    Ask(MemberId, Vec<u8>, oneshot::Sender<Asked>),
    /// A member answered.
    Answered(MemberId, u64, Told),
    /// Answer a member.
    Answer(MemberId, u64, Told),
    /// A connection with a member ended: what it was asked may be lost, or its answer.
    Lost(MemberId),
}

/// What became of a question.
pub enum Asked {
    /// It was answered.
    Answered(Box<Reply<Answer>>),
    /// Nothing was done: who was asked does not lead, or was not reached.
    Nothing,
    /// Nobody knows.
    Lost,
}

/// Whoever has something to say to other members, beside consensus.
#[derive(Clone)]
pub struct Peers(mpsc::Sender<Errand>);

impl Peers {
    /// With what a router is to be told.
    pub fn new() -> (Self, Errands) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), Errands(receiver))
    }

    /// Asks a member what its admin socket is to be asked, as JSON.
    pub async fn ask(&self, member: MemberId, call: Vec<u8>) -> Asked {
        let (answer, answered) = oneshot::channel();
        if self.0.try_send(Errand::Ask(member, call, answer)).is_err() {
            return Asked::Nothing;
        }
        answered.await.unwrap_or(Asked::Lost)
    }

    /// Waits for room: an answer is not dropped.
    async fn run(&self, errand: Errand) {
        // Without a router nobody waits for anything.
        drop(self.0.send(errand).await);
    }
}

/// What a [`Router`] is told by [`Peers`].
pub struct Errands(mpsc::Receiver<Errand>);

/// Sends each message on its way, to whoever is of the group or came from it.
pub struct Router {
    speaking: Speaking,
    errands: mpsc::Receiver<Errand>,
    peers: BTreeMap<MemberId, Peer>,
    /// Where members said that they are: one that joins knows nobody else's place yet.
    introduced: BTreeMap<MemberId, String>,
    /// Who waits for an answer, of whom.
    asked: BTreeMap<u64, (MemberId, oneshot::Sender<Asked>)>,
    last: u64,
}

impl Router {
    /// Nobody yet. `agents` tells when what the leader's actor knows of its own agents changed last.
    pub fn new(
        who: Who,
        inbox: Inbox,
        (leader, agents): (Addr<Leader>, watch::Receiver<u64>),
        (errands, run): (Peers, Errands),
    ) -> Self {
        let speaking = Speaking { who, inbox, leader, agents, errands };
        Self {
            speaking,
            errands: run.0,
            peers: BTreeMap::new(),
            introduced: BTreeMap::new(),
            asked: BTreeMap::new(),
            last: 0,
        }
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
                    // What finds no room is made up for.
                    Some(message) => _ = self.send(message.to, Say::Consensus(message)),
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
                Some(errand) = self.errands.recv() => if self.go(errand) {
                    self.arrange(&status.borrow());
                },
            }
        }
    }

    /// Whether somebody is not spoken to any more.
    fn go(&mut self, errand: Errand) -> bool {
        match errand {
            Errand::Ask(member, call, answer) => {
                // Some waited no longer.
                self.asked.retain(|_, (_, answer)| !answer.is_closed());
                self.last += 1;
                let say = Say::Ask { number: self.last, call };
                if self.send(member, say) {
                    self.asked.insert(self.last, (member, answer));
                } else {
                    // Whoever asked may be gone.
                    drop(answer.send(Asked::Nothing));
                }
            }
            Errand::Answered(member, number, told) => {
                if self.asked.get(&number).is_some_and(|(asked, _)| *asked == member)
                    && let Some((_, answer)) = self.asked.remove(&number)
                {
                    drop(answer.send(asked(told)));
                }
            }
            Errand::Answer(member, number, answer) => {
                return !self.answer(member, Say::Answer { number, answer });
            }
            Errand::Lost(member) => self.asked.retain(|_, (asked, _)| *asked != member),
        }
        false
    }

    /// Whether it is on its way.
    fn send(&self, member: MemberId, say: Say) -> bool {
        let connected = self.peers.get(&member).filter(|peer| peer.connected.get());
        connected.is_some_and(|peer| peer.queue.try_send(say).is_ok())
    }

    /// It waits for the connection, too: whoever asked has one with this member, and knows of no other that could end.
    /// Without room the connection ends, and the next is another: so it hears that nobody knows.
    fn answer(&mut self, member: MemberId, answer: Say) -> bool {
        let queued =
            self.peers.get(&member).is_some_and(|peer| peer.queue.try_send(answer).is_ok());
        if !queued {
            self.peers.remove(&member);
            self.asked.retain(|_, (asked, _)| *asked != member);
        }
        queued
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
        let me = self.speaking.who.member;
        places.retain(|member, address| *member != me && !address.is_empty());
        let stays =
            |member: &MemberId, peer: &mut Peer| places.get(member) == Some(&peer.address.as_str());
        let gone = self.peers.extract_if(.., |member, peer| !stays(member, peer));
        let gone: BTreeSet<MemberId> = gone.map(|(member, _)| member).collect();
        self.asked.retain(|_, (asked, _)| !gone.contains(asked));
        for (member, address) in places {
            if !self.peers.contains_key(&member) {
                let (queue, queued) = mpsc::channel(QUEUE);
                let connected = Rc::new(Cell::new(false));
                let (speaking, address) = (self.speaking.clone(), address.to_owned());
                let to =
                    dial::To { member, address: address.clone(), connected: connected.clone() };
                let task = tokio::task::spawn_local(dial::run(speaking, to, queued));
                self.peers.insert(member, Peer { address, queue, connected, task });
            }
        }
    }
}

/// An answer that cannot be read is as good as none.
fn asked(told: Told) -> Asked {
    match told {
        Told::NotLeading => Asked::Nothing,
        Told::Reply(json) => serde_json::from_slice(&json)
            .map_or(Asked::Lost, |reply| Asked::Answered(Box::new(reply))),
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
    Other { certified: MemberId, said: MemberId },
}

/// How it ended. TLS words the commonest end, that of the other process, at length.
fn ended(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the other side went away".to_owned(),
        _ => error.to_string(),
    }
}

/// Adds a length (u32, big endian) and bytes to what is written.
fn add_frame(bytes: &[u8], to: &mut Vec<u8>) -> Result<(), PeerError> {
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= FRAME_MAX);
    let length = length.ok_or(PeerError::TooLong(bytes.len()))?;
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(bytes);
    Ok(())
}

/// Writes a frame, at once.
async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), PeerError> {
    let mut frame = Vec::with_capacity(bytes.len() + size_of::<u32>());
    add_frame(bytes, &mut frame)?;
    Ok(to.write_all(&frame).await?)
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
