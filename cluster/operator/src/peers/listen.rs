//! Connections from peers: who they are, and what they say.

use super::{
    Errand, FRAME_MAX, PATIENCE, PeerError, Peers, Who,
    message::{Say, Told},
    read, write,
};
use crate::{
    admin::Admin,
    admission::Admission,
    member::Work,
    messages::{Introduced, OthersAgents},
    metrics::Refusal,
    sequencer::Inbox,
};
use std::{cell::RefCell, collections::BTreeMap, convert::Infallible, rc::Rc};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use weft_raft::{Answer, Hello, Malformed, MemberId, decode};
use weft_types::codec;
use weft_wire::tls::member_of;

/// Bytes of a greeting.
const HELLO_MAX: usize = 4096;

/// Hears peers.
pub struct Listener {
    /// Who is to be spoken to here.
    pub who: Who,
    /// Where what they say goes.
    pub inbox: Inbox,
    /// Where it goes where they are.
    pub introductions: mpsc::Sender<(MemberId, String)>,
    /// Who answers what they ask.
    pub admin: Admin,
    /// By whom they get the answers.
    pub peers: Peers,
    /// Who may try.
    pub admission: Admission,
    /// What ends each member's connection when it is dropped: of two the newer counts.
    pub current: RefCell<BTreeMap<MemberId, oneshot::Sender<()>>>,
}

impl Listener {
    /// Accepts connections for ever.
    pub async fn run(self, listener: TcpListener) {
        let this = Rc::new(self);
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok((stream, peer)) => (stream, peer.ip()),
                Err(error) => {
                    tracing::warn!("accept a peer: {error}");
                    sleep(PATIENCE / 10).await;
                    continue;
                }
            };
            let Some(admitted) = this.admission.admit(peer) else {
                this.admission.refuse(peer, Refusal::Limit, "too many handshakes at once");
                continue;
            };
            let this = Rc::clone(&this);
            tokio::task::spawn_local(async move {
                let greeted = match timeout(PATIENCE, this.greet(stream)).await {
                    Ok(greeted) => greeted,
                    Err(late) => Err(late.into()),
                };
                drop(admitted);
                match greeted {
                    Ok((stream, member)) => this.stand(stream, member).await,
                    Err(why) => this.admission.refuse(peer, refusal(&why), &why.to_string()),
                }
            });
        }
    }

    async fn stand(&self, stream: TlsStream<TcpStream>, member: MemberId) {
        let (end, over) = oneshot::channel();
        self.current.borrow_mut().insert(member, end);
        tokio::select! {
            ended = self.hear(stream, member) => {
                let Err(why) = ended;
                tracing::info!(%member, "a peer's connection ended: {why}");
                self.peers.run(Errand::Lost(member)).await;
            }
            _ = over => {
                tracing::info!(%member, "a peer's connection gave way to a newer one");
                self.peers.run(Errand::Lost(member)).await;
            }
        }
    }

    async fn hear(
        &self,
        mut stream: TlsStream<TcpStream>,
        member: MemberId,
    ) -> Result<Infallible, PeerError> {
        loop {
            match decode(&read(&mut stream, FRAME_MAX).await?)? {
                Say::Consensus(envelope) if envelope.from == member => {
                    self.inbox.offer(Work::Hear(envelope));
                }
                Say::Consensus(envelope) => {
                    return Err(PeerError::Other { certified: member, said: envelope.from });
                }
                Say::Agents(rows) => {
                    // Without an actor there is no operator.
                    _ = self.admin.leader.send(OthersAgents { member, rows }).await;
                }
                Say::Ask { number, call } => self.answer(member, number, &call)?,
                Say::Answer { number, answer } => {
                    self.peers.run(Errand::Answered(member, number, answer)).await;
                }
            }
        }
    }

    /// Answers in its own time.
    fn answer(&self, member: MemberId, number: u64, call: &[u8]) -> Result<(), PeerError> {
        let call = serde_json::from_slice(call)
            .map_err(|error| Malformed::Unreadable(format!("a call: {error}")))?;
        let (admin, peers) = (self.admin.clone(), self.peers.clone());
        tokio::task::spawn_local(async move {
            let told = match admin.answer_here(call).await {
                Some(reply) => match serde_json::to_vec(&reply) {
                    Ok(json) => Told::Reply(json),
                    // Nothing is answered, so nobody knows what was done.
                    Err(error) => return tracing::error!("answer member {member}: {error}"),
                },
                None => Told::NotLeading,
            };
            peers.run(Errand::Answer(member, number, told)).await;
        });
        Ok(())
    }

    /// Who knows less than the group is written in has no part in it.
    async fn introduce(&self, hello: &Hello, spoken: u8) -> Answer {
        let introduced = Introduced { member: hello.from, version: hello.version };
        match self.admin.leader.send(introduced).await {
            Ok(Ok(())) => Answer::Welcome(spoken),
            Ok(Err(why)) => Answer::Refused(why.message),
            Err(_) => Answer::Refused("this operator is stopping".to_owned()),
        }
    }

    async fn greet(
        &self,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, MemberId), PeerError> {
        stream.set_nodelay(true)?;
        let mut stream = self.who.credentials.acceptor().accept(stream).await?;
        let member = member_of(&stream)?;
        let hello = read(&mut stream, HELLO_MAX).await?;
        let hello: Hello = codec::decode(&hello).map_err(|e| PeerError::Greeting(e.0))?;
        let answer = match hello.from.0 {
            said if said == member => {
                let Who { cluster, generation, member, .. } = &self.who;
                match hello.answer(cluster, *generation, *member) {
                    Answer::Welcome(version) => self.introduce(&hello, version).await,
                    refused @ Answer::Refused(_) => refused,
                }
            }
            _ => Answer::Refused(format!("the certificate is member {member}'s")),
        };
        let mut bytes = Vec::new();
        codec::encode_into(&answer, &mut bytes).map_err(|e| PeerError::Greeting(e.0))?;
        write(&mut stream, &bytes).await?;
        stream.flush().await?;
        match answer {
            Answer::Welcome(_) => {
                drop(self.introductions.try_send((hello.from, hello.address)));
                Ok((stream, hello.from))
            }
            Answer::Refused(why) => Err(PeerError::Refused(why)),
        }
    }
}

/// As the other sessions' are counted.
fn refusal(why: &PeerError) -> Refusal {
    match why {
        PeerError::Tls(_) => Refusal::NotANode,
        PeerError::Io(_) | PeerError::Late(_) => Refusal::Silent,
        PeerError::TooLong(_) | PeerError::Greeting(_) => Refusal::Protocol,
        PeerError::Malformed(_) => Refusal::Version,
        PeerError::Refused(_) | PeerError::Other { .. } => Refusal::OtherNode,
    }
}
