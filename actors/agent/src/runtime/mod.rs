//! How actors live and die here; everything that actix does not do, and nothing about networks.
//!
//! An actor is a [`Role`]: a struct with `async fn serve(&mut self, message)`, one message at a time. A [`shell`] runs it on an
//! arbiter and is the one seam where panics end; the [`supervisor`] makes it anew from its factory, with back-off and a
//! new *incarnation*; an [`edge`] is how others reach whichever incarnation lives; a [`gate`] keeps the dead
//! from touching the kernel.
//!
//! Three verbs: [`Edge::ask`] waits for an answer; [`Edge::offer`] is shed when there is no room, and counted; what coalesces is a state that
//! its owner publishes in a [`tokio::sync::watch`] channel, of which readers see the newest.

pub mod edge;
pub mod gate;
pub mod life;
pub mod queue;
pub mod shell;
pub mod supervisor;

pub use edge::{Edge, Lost, Seat};
pub use gate::{Gate, is_over, pass};
pub use life::Life;
pub use queue::Queues;
pub use supervisor::{Config, Fault, Runtime};

use crate::Refusal;

/// Runs something in which actors can be started, until it is done.
pub fn block_on<F: Future>(work: F) -> F::Output {
    actix::System::new().block_on(work)
}

/// The threads that actors live on. What blocks stays apart from what must not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// Decisions: no system calls beyond a socket's.
    Control,
    /// Short calls on eBPF maps.
    Maps,
    /// Programs, links, routes, disks: slow calls.
    Loader,
    /// Events and flows.
    Observe,
}

impl Thread {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Control, Self::Maps, Self::Loader, Self::Observe];
}

/// What one actor does.
pub trait Role: Sized + Unpin + 'static {
    /// Where it lives.
    const THREAD: Thread;
    /// Messages that may wait, for each edge that leads here; an asker beyond them waits its turn.
    const MAILBOX: usize = 64;

    /// The first thing in a life, before any message. A failure ends this life.
    fn born(&mut self, _life: &Life<Self>) -> impl Future<Output = Result<(), Refusal>> {
        async { Ok(()) }
    }
}

/// A message with its answer.
pub trait Request: Send + 'static {
    /// What comes back.
    type Answer: Send + 'static;
}

/// A role that takes a message. The next message waits until this one is answered.
pub trait Serve<M: Request>: Role {
    /// Does it.
    fn serve(&mut self, message: M, life: &Life<Self>) -> impl Future<Output = M::Answer>;
}

/// Declares a message: `request!(Name { fields } -> Answer)`.
macro_rules! request {
    ($message:ty => $answer:ty) => {
        impl $crate::runtime::Request for $message {
            type Answer = $answer;
        }
    };
}
pub(crate) use request;

/// Someone this role talks to was made anew and knows nothing: tell it all again.
#[derive(Clone, Copy, Debug)]
pub struct Refeed;
request!(Refeed => ());
