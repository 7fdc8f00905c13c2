//! How one actor reaches another, whichever incarnation of it lives.

use super::{
    Request, Role, Serve,
    gate::{is_over, pass},
    shell::{Shell, Traced},
};
use crate::Refusal;
use actix::Addr;
use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// How long an asker waits by default. Nothing an agent does takes as long.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The life that counts now, and its address; none between two lives.
pub type Current<R> = Option<(u64, Addr<Shell<R>>)>;

fn number<R: Role>(current: &Current<R>) -> Option<u64> {
    current.as_ref().map(|(incarnation, _)| *incarnation)
}

/// How many messages a role did not take.
pub(super) type Shed = Arc<AtomicU64>;

/// Where a role sits, whichever incarnation of it. Handed around when an agent is composed; each caller makes an [`Edge`] of it.
pub struct Seat<R: Role> {
    name: &'static str,
    lives: watch::Receiver<Current<R>>,
    shed: Shed,
}

impl<R: Role> Clone for Seat<R> {
    fn clone(&self) -> Self {
        Self::new(self.name, self.lives.clone(), Arc::clone(&self.shed))
    }
}

impl<R: Role> Seat<R> {
    pub(super) fn new(name: &'static str, lives: watch::Receiver<Current<R>>, shed: Shed) -> Self {
        Self { name, lives, shed }
    }

    /// A caller's way to it.
    pub fn edge(&self) -> Edge<R> {
        Edge {
            name: self.name,
            lives: self.lives.clone(),
            shed: Arc::clone(&self.shed),
            held: RefCell::new(None),
            fed: Cell::new(0),
        }
    }
}

/// A message on its way to an answer.
type Sent<R, M> = actix::dev::Request<Shell<R>, Traced<M>>;

/// A caller's way to one role. It keeps one address a life, since the bound of a mailbox holds for each address.
pub struct Edge<R: Role> {
    name: &'static str,
    lives: watch::Receiver<Current<R>>,
    shed: Shed,
    held: RefCell<Current<R>>,
    /// The life that was told everything it needs.
    fed: Cell<u64>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// It died over the message, or before its turn came. Whether it was done is unknown.
    #[error("actor {0} ended before it answered")]
    Died(&'static str),
    /// It did not answer in time. It may do it yet.
    #[error("actor {0} did not answer in {1:?}")]
    Overdue(&'static str, Duration),
}

impl From<Lost> for Refusal {
    fn from(lost: Lost) -> Self {
        crate::try_again(lost)
    }
}

impl<R: Role> Edge<R> {
    /// Where it leads.
    pub fn seat(&self) -> Seat<R> {
        Seat::new(self.name, self.lives.clone(), Arc::clone(&self.shed))
    }

    /// The lives as they come and go.
    pub(super) fn lives(&self) -> watch::Receiver<Current<R>> {
        self.lives.clone()
    }

    /// Asks and waits for the answer, at most [`PATIENCE`].
    pub async fn ask<M: Request>(&self, message: M) -> Result<M::Answer, Lost>
    where
        R: Serve<M>,
    {
        self.ask_within(PATIENCE, message).await
    }

    /// Asks and waits for the answer. The work may outlive the wait: a repeat must do no harm.
    pub async fn ask_within<M: Request>(
        &self,
        patience: Duration,
        message: M,
    ) -> Result<M::Answer, Lost>
    where
        R: Serve<M>,
    {
        // What a sleeper has to say is old.
        pass().await;
        let asked = async {
            let mut lives = self.lives.clone();
            // The slot's sender lives as long as the supervisor.
            drop(lives.wait_for(Option::is_some).await.map_err(|_| self.died())?);
            self.refresh();
            let (mine, request) = self.request(message).ok_or(self.died())?;
            // A sleeper's mailbox does not close: that another life counts is the answer too.
            tokio::select! {
                answer = request => answer.ok().flatten().ok_or(self.died()),
                _ = lives.wait_for(|current| number(current) != Some(mine)) => Err(self.died()),
            }
        };
        timeout(patience, asked).await.unwrap_or(Err(Lost::Overdue(self.name, patience)))
    }

    /// Sends what may be lost when the mailbox is full or nobody lives; says whether it was taken, and counts it when not.
    pub fn offer<M: Request>(&self, message: M) -> bool
    where
        R: Serve<M>,
    {
        if is_over() {
            return false;
        }
        self.refresh();
        let held = self.held.borrow();
        let taken = held
            .as_ref()
            .is_some_and(|(_, address)| address.try_send(Traced::new(message)).is_ok());
        if !taken {
            self.shed.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// The life there is now; zero between two lives.
    pub fn incarnation(&self) -> u64 {
        number(&self.lives.borrow()).unwrap_or(0)
    }

    /// Whether the life there is now was told everything; see [`Edge::fed`].
    pub fn is_hungry(&self) -> bool {
        // Whoever was told nothing is hungry, though its first life may not have begun yet.
        self.fed.get() == 0 || self.fed.get() != self.incarnation()
    }

    /// The life of this number was told everything it needs. Take the number before telling.
    pub fn fed(&self, incarnation: u64) {
        self.fed.set(incarnation);
    }

    /// Whoever it is may not hold what it was told: tell it all again.
    pub fn starve(&self) {
        self.fed.set(0);
    }

    fn died(&self) -> Lost {
        Lost::Died(self.name)
    }

    /// A request through the held address, and whose life it is for.
    fn request<M: Request>(&self, message: M) -> Option<(u64, Sent<R, M>)>
    where
        R: Serve<M>,
    {
        let held = self.held.borrow();
        held.as_ref().map(|(life, address)| (*life, address.send(Traced::new(message))))
    }

    fn refresh(&self) {
        let lives = self.lives.borrow();
        let mut held = self.held.borrow_mut();
        if number(&lives) != number(&held) {
            held.clone_from(&lives);
        }
    }
}
