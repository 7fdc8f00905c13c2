//! The connection to one peer: made, greeted and made again, for what is to be said to it.

use super::{Errand, PATIENCE, PeerError, Speaking, Who, add_frame, message::Say, read, write};
use crate::{member::Work, messages::OwnAgents};
use std::{cell::Cell, rc::Rc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::client::TlsStream;
use weft_raft::{Answer, Hello, MemberId, OLDEST_PEER, PEER_VERSION, encode};
use weft_types::codec;
use weft_wire::tls::connect_to_member;

/// Before the second attempt; twice as long each time, up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(50);
/// Shorter than an election takes.
const LONGEST: Duration = Duration::from_millis(400);
/// Bytes of frames that wait and share a write: each write is a record of TLS, a packet, and somebody woken at the other end.
const SHARED: usize = 64 << 10;
/// Between two words about agents where nothing else is said: thousands acknowledge a change within some milliseconds.
const AGENTS: Duration = Duration::from_millis(2);
/// Bytes of an answer to a greeting.
const ANSWER_MAX: usize = 4096;

/// Whom it is to.
pub(super) struct To {
    pub(super) member: MemberId,
    pub(super) address: String,
    /// Whether what is said now has a chance to be heard.
    pub(super) connected: Rc<Cell<bool>>,
}

/// Says what comes to a peer, as long as anything can come.
pub(super) async fn run(mut speaking: Speaking, to: To, mut queue: mpsc::Receiver<Say>) {
    let To { member, address, connected } = to;
    let (mut pause, mut told) = (FIRST, String::new());
    loop {
        let ended = match greet(&speaking.who, member, &address).await {
            Ok(stream) => {
                tracing::info!(%member, address, "connected to a peer");
                (pause, told) = (FIRST, String::new());
                connected.set(true);
                let ended = speak(stream, &mut queue, &mut speaking).await;
                connected.set(false);
                // What waits is of a time that is over.
                while queue.try_recv().is_ok() {}
                speaking.errands.run(Errand::Lost(member)).await;
                ended
            }
            Err(error) => Err(error),
        };
        let Err(why) = ended else { return };
        let why = why.to_string();
        if why != told {
            tracing::warn!(%member, address, "not connected to a peer: {why}");
            told = why;
        }
        speaking.inbox.offer(Work::Unreachable(member));
        sleep(pause).await;
        pause = (2 * pause).min(LONGEST);
    }
}

async fn greet(
    who: &Who,
    member: MemberId,
    address: &str,
) -> Result<TlsStream<TcpStream>, PeerError> {
    let greeted = async {
        let mut stream = connect_to_member(address, member.0, &who.credentials.connector()).await?;
        let hello = Hello {
            version: PEER_VERSION,
            cluster: who.cluster.clone(),
            generation: who.generation,
            from: who.member,
            to: member,
            address: who.address.clone(),
        };
        let mut bytes = Vec::new();
        codec::encode_into(&hello, &mut bytes).map_err(|e| PeerError::Greeting(e.0))?;
        write(&mut stream, &bytes).await?;
        stream.flush().await?;
        let answer = read(&mut stream, ANSWER_MAX).await?;
        match codec::decode(&answer).map_err(|e| PeerError::Greeting(e.0))? {
            Answer::Welcome(OLDEST_PEER..=PEER_VERSION) => Ok::<_, PeerError>(stream),
            Answer::Welcome(version) => Err(weft_raft::Malformed::Version(version).into()),
            Answer::Refused(why) => Err(PeerError::Refused(why)),
        }
    };
    timeout(PATIENCE, greeted).await?
}

/// Whether they are to be told next; not when nobody can change them any more.
fn agents_changed(speaking: &Speaking) -> bool {
    speaking.agents.has_changed().unwrap_or_default()
}

/// Says what comes; an error when the peer is not there any more, nothing when nobody can say more.
async fn speak(
    mut stream: TlsStream<TcpStream>,
    queue: &mut mpsc::Receiver<Say>,
    speaking: &mut Speaking,
) -> Result<(), PeerError> {
    let (mut told, mut due) = (None, Instant::now());
    speaking.agents.mark_changed();
    loop {
        let mut nothing = [0];
        let agents = async {
            sleep_until(due).await;
            speaking.agents.changed().await
        };
        let mut next = tokio::select! {
            Ok(()) = agents => {
                speaking.agents.mark_changed();
                None
            }
            say = queue.recv() => match say {
                Some(say) => Some(say),
                None => return Ok(()),
            },
            // It says nothing here, so what comes is its end.
            ended = stream.read(&mut nothing) => {
                ended?;
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        };
        let mut frames = Vec::new();
        loop {
            // Agents first: what vouches for an entry comes after the sessions that there were before it.
            if agents_changed(speaking) {
                speaking.agents.borrow_and_update();
                let Ok((rows, change)) = speaking.leader.send(OwnAgents { since: told }).await
                else {
                    return Ok(());
                };
                (told, due) = (Some(change), Instant::now() + AGENTS);
                add_frame(&encode(&Say::Agents(rows))?, &mut frames)?;
            }
            if let Some(say) = next {
                add_frame(&encode(&say)?, &mut frames)?;
            }
            next = queue.try_recv().ok();
            if next.is_none() || frames.len() >= SHARED {
                timeout(PATIENCE, stream.write_all(&frames)).await??;
                frames.clear();
            }
            if next.is_none() {
                break;
            }
        }
        timeout(PATIENCE, stream.flush()).await??;
    }
}
