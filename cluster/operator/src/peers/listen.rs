//! Connections from peers: who they are, and what they say.

use super::{FRAME_MAX, PATIENCE, PeerError, Who, read, write};
use crate::{admission::Admission, member::Work, metrics::Refusal, sequencer::Inbox};
use std::{convert::Infallible, rc::Rc};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use weft_raft::{Answer, Hello, MemberId, decode};
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
    /// Who may try.
    pub admission: Admission,
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
                    Ok((stream, member)) => {
                        let Err(why) = this.hear(stream, member).await;
                        tracing::info!(member, "a peer's connection ended: {why}");
                    }
                    Err(why) => this.admission.refuse(peer, refusal(&why), &why.to_string()),
                }
            });
        }
    }

    async fn hear(
        &self,
        mut stream: TlsStream<TcpStream>,
        member: u64,
    ) -> Result<Infallible, PeerError> {
        loop {
            let envelope = decode(&read(&mut stream, FRAME_MAX).await?)?;
            if envelope.from.0 != member {
                return Err(PeerError::Other { certified: member, said: envelope.from });
            }
            self.inbox.offer(Work::Hear(envelope));
        }
    }

    async fn greet(&self, stream: TcpStream) -> Result<(TlsStream<TcpStream>, u64), PeerError> {
        stream.set_nodelay(true)?;
        let mut stream = self.who.acceptor.accept(stream).await?;
        let member = member_of(&stream)?;
        let hello = read(&mut stream, HELLO_MAX).await?;
        let hello: Hello = codec::decode(&hello).map_err(|e| PeerError::Greeting(e.0))?;
        let answer = match hello.from.0 {
            said if said == member => {
                hello.answer(&self.who.cluster, self.who.generation, self.who.member)
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
                Ok((stream, member))
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
