//! How an agent greets an operator, in a version that both speak.

use crate::{
    ToAgent, ToOperator, VERSIONS,
    frame::{FRAME_MAX, FrameError, receive_greeting, send_in},
};
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

/// A connection whose operator answered the greeting.
#[derive(Debug)]
pub struct Greeted<S> {
    /// The connection.
    pub stream: S,
    /// What the operator was told.
    pub hello: ToOperator,
    /// The version that both speak, or in which it was refused.
    pub version: u16,
    /// What it answered.
    pub answer: ToAgent,
}

/// Why no operator was greeted.
#[derive(Debug, thiserror::Error)]
pub enum NotGreeted {
    /// What was said or heard.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It did not answer.
    #[error("no welcome in {0:?}")]
    Silent(Duration),
}

/// Greets over a new connection with the newest version, and over another one with what the operator speaks when that is an
/// older one and all that it knows. An answer is waited for so long, each time.
pub async fn greet<S: AsyncRead + AsyncWrite + Unpin, E: From<NotGreeted>>(
    mut connect: impl AsyncFnMut() -> Result<(S, ToOperator), E>,
    patience: Duration,
) -> Result<Greeted<S>, E> {
    let mut offered = VERSIONS.newest;
    loop {
        let (mut stream, hello) = connect().await?;
        let (version, answer) = say(&mut stream, &hello, offered, patience).await?;
        let next = match answer {
            ToAgent::Refused { .. } => VERSIONS.offer_next(offered, version),
            _ => None,
        };
        match next {
            Some(next) => offered = next,
            None => return Ok(Greeted { stream, hello, version, answer }),
        }
    }
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    hello: &ToOperator,
    offered: u16,
    patience: Duration,
) -> Result<(u16, ToAgent), NotGreeted> {
    send_in(stream, offered, hello).await?;
    let answer = timeout(patience, receive_greeting(stream, FRAME_MAX)).await;
    Ok(answer.map_err(|_| NotGreeted::Silent(patience))??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use tokio::io::DuplexStream;
    use weft_types::{NodeName, Revision};

    fn hello() -> ToOperator {
        ToOperator::Hello {
            node: NodeName("node1".to_owned()),
            session: 1,
            held: None,
            from: None,
            identities: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// How an agent is answered by an operator that takes only one version, as releases up to 5 did, or that refuses it
    /// whatever it offers; and what it offered.
    fn answered(takes: Option<u16>, speaks: u16) -> (u16, ToAgent, Vec<u16>) {
        let offers = RefCell::new(Vec::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let greeted = runtime.expect("a runtime").block_on(async {
            let set = tokio::task::LocalSet::new();
            let offered = &offers;
            set.run_until(greet(
                async || {
                    let (ours, mut theirs) = tokio::io::duplex(1 << 10);
                    let (tell, told) = tokio::sync::oneshot::channel();
                    tokio::task::spawn_local(async move {
                        let heard = receive_greeting::<ToOperator>(&mut theirs, FRAME_MAX).await;
                        let (offer, _) = heard.expect("a greeting");
                        let answer = match takes == Some(offer) {
                            true => ToAgent::Welcome {
                                cluster: "blue".to_owned(),
                                revision: Revision::ZERO,
                            },
                            false => ToAgent::Refused { reason: "no".to_owned() },
                        };
                        _ = tell.send(offer);
                        send_in(&mut theirs, speaks, &answer).await.expect("it listens");
                    });
                    offered.borrow_mut().push(told);
                    Ok::<(DuplexStream, ToOperator), NotGreeted>((ours, hello()))
                },
                Duration::from_secs(5),
            ))
            .await
            .expect("an answer")
        });
        let offers = offers.into_inner().into_iter().map(|mut offer| offer.try_recv().unwrap_or(0));
        (greeted.version, greeted.answer, offers.collect())
    }

    #[test]
    fn an_operator_of_the_release_before_is_greeted_in_its_version() {
        let (version, answer, offers) = answered(Some(5), 5);
        assert!(matches!(answer, ToAgent::Welcome { .. }), "{answer:?}");
        assert_eq!((version, offers), (5, vec![VERSIONS.newest, 5]));
    }

    #[test]
    fn one_that_refuses_for_another_reason_is_asked_no_more() {
        let (_, answer, offers) = answered(None, VERSIONS.newest);
        assert!(matches!(answer, ToAgent::Refused { .. }), "{answer:?}");
        assert_eq!(offers, [VERSIONS.newest]);
        let (_, answer, offers) = answered(None, 5);
        assert!(matches!(answer, ToAgent::Refused { .. }), "{answer:?}");
        assert_eq!(offers, [VERSIONS.newest, 5]);
    }
}
