//! What keeps an actor that was replaced, and wakes up later, from changing anything.

use std::{
    future::{pending, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};

tokio::task_local! {
    /// Of the life that this code runs in.
    static MINE: Gate;
}

/// Whether this code runs in a life that was replaced. What it goes on to do until it waits for something is to change nothing.
pub fn is_over() -> bool {
    MINE.try_with(|gate| !gate.is_open()).unwrap_or(false)
}

/// Goes on as long as the life that this code runs in counts. A sleeper gets no further.
pub async fn pass() {
    if is_over() {
        pending().await
    }
}

/// Does work of a life, up to where it waits when the life is replaced: then there is no answer.
pub(super) async fn within<F: Future>(gate: Gate, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    let mine = gate.clone();
    let counting = poll_fn(move |context| {
        if gate.is_open() { work.as_mut().poll(context).map(Some) } else { Poll::Ready(None) }
    });
    MINE.scope(mine, counting).await
}

/// Open as long as the incarnation it was made for is the one that counts.
#[derive(Clone, Debug)]
pub struct Gate {
    current: Arc<AtomicU64>,
    mine: u64,
}

impl Gate {
    /// For one incarnation.
    pub fn new(current: Arc<AtomicU64>, mine: u64) -> Self {
        Self { current, mine }
    }

    /// A gate that nobody closes, for what is not supervised.
    pub fn always() -> Self {
        Self::new(Arc::new(AtomicU64::new(0)), 0)
    }

    /// Whether effects may pass.
    pub fn is_open(&self) -> bool {
        self.current.load(Ordering::Acquire) == self.mine
    }
}
