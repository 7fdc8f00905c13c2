//! What a role may do besides answering: reach itself, start tasks that end with it, give up.

use super::{Edge, Gate, Refeed, Role, Seat, Serve, gate::within, shell::Shell};
use actix::Addr;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use tokio::sync::watch;
use tracing::Instrument;

/// One life of a role.
pub struct Life<R: Role> {
    pub(super) incarnation: u64,
    pub(super) gate: Gate,
    pub(super) seat: Seat<R>,
    pub(super) shell: Addr<Shell<R>>,
    /// Closed when the life is over.
    pub(super) over: watch::Receiver<()>,
}

impl<R: Role> Clone for Life<R> {
    fn clone(&self) -> Self {
        Self {
            incarnation: self.incarnation,
            gate: self.gate.clone(),
            seat: self.seat.clone(),
            shell: self.shell.clone(),
            over: self.over.clone(),
        }
    }
}

impl<R: Role> Life<R> {
    /// How many lives there were, this one included.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The gate that this life's effects pass.
    pub fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// An edge to this role, whichever incarnation will live then.
    pub fn edge(&self) -> Edge<R> {
        self.seat.edge()
    }

    /// Ends this life; the supervisor makes the next.
    pub fn give_up(&self, cause: String) {
        // A full mailbox has room for its own sender; a closed one is what is wanted.
        drop(self.shell.try_send(super::shell::Die(cause)));
    }

    /// Runs a task beside the mailbox, on this thread, in the span of now, no longer than this life. Its panic
    /// ends the life.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let life = self.clone();
        let mut over = self.over.clone();
        let supervised = async move {
            tokio::select! {
                _ = over.changed() => {}
                ended = AssertUnwindSafe(within(life.gate(), task)).catch_unwind() => {
                    if let Err(panic) = ended {
                        life.give_up(super::shell::cause_of(&*panic));
                    }
                }
            }
        };
        tokio::task::spawn_local(supervised.in_current_span());
    }

    /// Sends [`Refeed`] to this role whenever the other is made anew.
    pub fn refeed_after<O: Role>(&self, other: &Edge<O>)
    where
        R: Serve<Refeed>,
    {
        let me = self.edge();
        let mut lives = other.lives();
        self.spawn(async move {
            // The first change is seen too: a life may end before this task's first turn. Who is not hungry is not fed.
            while lives.changed().await.is_ok() {
                if lives.borrow_and_update().is_some() {
                    // It must not be lost; a task of a life that is over ends here.
                    while me.ask(Refeed).await.is_err() {}
                }
            }
        });
    }

    /// Does something again and again, first after one period.
    pub fn every<M>(&self, period: std::time::Duration, message: fn() -> M)
    where
        M: super::Request,
        R: Serve<M>,
    {
        let me = self.edge();
        self.spawn(async move {
            loop {
                tokio::time::sleep(period).await;
                drop(me.ask(message()).await);
            }
        });
    }
}
