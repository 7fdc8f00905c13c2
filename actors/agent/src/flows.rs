//! Flows on their way from the ring to one reader, who may be slow: the ring goes on without it, and it is told what it missed.

use crate::{
    Refusal,
    metrics::Counts,
    observer::{Observer, Read, Told},
    runtime::Edge,
};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use weft_api::agent::Answer;
use weft_core::recent::Place;

/// Flows that are read together, and that may wait for the reader's socket.
const PAGE: usize = 256;

/// One reader.
pub struct Reader {
    /// Who has the flows.
    pub observer: Edge<Observer>,
    /// How many there were.
    pub end: watch::Receiver<u64>,
    /// What is counted.
    pub counts: Counts,
    /// Whether it goes on after what is there now.
    pub follow: Follow,
}

/// Whether a reader goes on after what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Until it leaves.
    On,
    /// No.
    Off,
}

impl Reader {
    /// Sends it the newest `last` and, if it follows, those to come, on a task of this thread.
    pub fn start(self, last: u64) -> mpsc::Receiver<Result<Answer, Refusal>> {
        let (send, receive) = mpsc::channel(PAGE);
        tokio::task::spawn_local(async move {
            // None means that the reader left.
            let _left: Option<()> = self.run(last, &send).await;
        });
        receive
    }

    async fn run(mut self, last: u64, send: &mpsc::Sender<Result<Answer, Refusal>>) -> Option<()> {
        let (mut place, mut until) = (Place::Newest(last), None);
        loop {
            // Seen before reading: what comes meanwhile is news.
            self.end.mark_unchanged();
            let page = match self.observer.ask(Read { place, most: PAGE }).await {
                Ok(page) => page,
                // It is made anew; its numbers go on, so what was lost is known.
                Err(_) if self.follow == Follow::On && !send.is_closed() => continue,
                Err(lost) => return send.send(Err(lost.into())).await.ok(),
            };
            if page.lost > 0 {
                self.counts.overtaken(page.lost);
                send.send(Ok(Answer::FlowsLost(page.lost))).await.ok()?;
            }
            for told in page.items {
                let answer = match &*told {
                    Told::Flow(flow) => Answer::Flow(Arc::clone(flow)),
                    Told::Lost(lost) => Answer::EventsLost(*lost),
                };
                send.send(Ok(answer)).await.ok()?;
            }
            place = Place::At(page.next);
            let until = *until.get_or_insert(page.end);
            match self.follow {
                Follow::Off if page.next >= until => return Some(()),
                Follow::On if page.next == page.end => tokio::select! {
                    more = self.end.changed() => more.ok()?,
                    () = send.closed() => return None,
                },
                Follow::On | Follow::Off => {}
            }
        }
    }
}
