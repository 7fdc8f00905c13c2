//! The actix actor around every role, and the one seam where a panic ends.

use super::{
    Gate, Life, Request, Role, Seat, Serve,
    edge::{Current, Shed},
    gate::within,
    queue::Queues,
    supervisor::{Fault, Report},
};
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, AtomicResponse, Context, Handler, Message,
    WrapFuture,
};
use futures_util::FutureExt;
use std::{
    any::Any,
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use tracing::Instrument;

/// Makes a role for a life.
pub(super) type Factory<R> = Arc<dyn Fn(&Life<R>) -> R + Send + Sync>;

/// Where a role is published and what its lives share.
pub(super) struct Slot<R: Role> {
    pub(super) name: &'static str,
    pub(super) child: usize,
    pub(super) current: Arc<std::sync::atomic::AtomicU64>,
    pub(super) lives: watch::Sender<Current<R>>,
    pub(super) factory: Factory<R>,
    pub(super) reports: mpsc::UnboundedSender<Report>,
    pub(super) queues: Queues,
    pub(super) mailbox: usize,
    pub(super) shed: Shed,
}

impl<R: Role> Slot<R> {
    fn seat(&self) -> Seat<R> {
        Seat::new(self.name, self.lives.subscribe(), Arc::clone(&self.shed))
    }
}

/// A message on its way: its span, whose trace is its request id, and the moment it was queued.
pub struct Traced<M> {
    message: M,
    span: tracing::Span,
    sent: Instant,
}

impl<M> Traced<M> {
    pub(super) fn new(message: M) -> Self {
        Self { message, span: tracing::Span::current(), sent: Instant::now() }
    }
}

impl<M: Request> Message for Traced<M> {
    /// Nothing when the role died over it.
    type Result = Option<M::Answer>;
}

/// Messages that are told of when one of them ended a life.
const REMEMBERED: usize = 8;
/// Why a sleeper ends once it wakes up; nobody listens to it any more.
const REPLACED: &str = "it was replaced";
/// A wait in a mailbox that is worth a line in the log.
const LONG_WAIT: Duration = Duration::from_millis(500);

/// One life of a role.
pub struct Shell<R: Role> {
    slot: Arc<Slot<R>>,
    incarnation: u64,
    /// Out while a message is served.
    role: Option<R>,
    life: Option<Life<R>>,
    /// The last messages, the newest last.
    last: VecDeque<&'static str>,
    /// Dropped with the shell: ends the life's tasks.
    over: watch::Sender<()>,
}

impl<R: Role> Shell<R> {
    pub(super) fn new(slot: Arc<Slot<R>>, incarnation: u64) -> Self {
        let (over, last) = (watch::channel(()).0, VecDeque::with_capacity(REMEMBERED));
        Self { slot, incarnation, role: None, life: None, last, over }
    }

    fn gate(&self) -> Gate {
        Gate::new(Arc::clone(&self.slot.current), self.incarnation)
    }

    fn remember(&mut self, message: &'static str) {
        if self.last.len() == REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back(message);
    }

    /// The one seam where a panic ends; where in the code it was, the process's panic hook has said.
    fn panicked(&mut self, panic: &(dyn Any + Send), over: &'static str, ctx: &mut Context<Self>) {
        let last = self.last.make_contiguous().join(" ");
        let (actor, incarnation) = (self.slot.name, self.incarnation);
        tracing::error!(actor, incarnation, last, "panicked over {over}");
        self.die(format!("{} over {over}", cause_of(panic)), ctx);
    }

    /// The end of this life.
    fn die(&mut self, cause: String, ctx: &mut Context<Self>) {
        self.role = None;
        let incarnation = self.incarnation;
        self.slot.lives.send_if_modified(|current| {
            let mine = matches!(current, Some((number, _)) if *number == incarnation);
            if mine {
                *current = None;
            }
            mine
        });
        // The supervisor outlives everyone; at the end of the process nobody listens.
        drop(self.slot.reports.send(Report::Died { child: self.slot.child, incarnation, cause }));
        ctx.stop();
    }

    fn publish(&self, ctx: &Context<Self>) {
        let (gate, address) = (self.gate(), ctx.address());
        self.slot.lives.send_if_modified(|current| {
            let counts = gate.is_open();
            if counts {
                *current = Some((self.incarnation, address));
            }
            counts
        });
        drop(
            self.slot
                .reports
                .send(Report::Born { child: self.slot.child, incarnation: self.incarnation }),
        );
    }
}

/// A panic's message.
pub(super) fn cause_of(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panic: {}", text.unwrap_or_else(|| "without a message".to_owned()))
}

impl<R: Role> Actor for Shell<R> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.slot.mailbox);
        let life = Life {
            incarnation: self.incarnation,
            gate: self.gate(),
            seat: self.slot.seat(),
            shell: ctx.address(),
            over: self.over.subscribe(),
        };
        self.life = Some(life.clone());
        let factory = Arc::clone(&self.slot.factory);
        let birth = async move {
            let mut role = factory(&life);
            role.born(&life).await.map(|()| role)
        };
        let birth = AssertUnwindSafe(within(self.gate(), birth)).catch_unwind();
        ctx.wait(birth.into_actor(self).map(|born, shell, ctx| match born {
            Ok(None) => shell.die(REPLACED.to_owned(), ctx),
            Ok(Some(Ok(role))) => {
                shell.role = Some(role);
                shell.publish(ctx);
            }
            Ok(Some(Err(refusal))) => shell.die(refusal.to_string(), ctx),
            Err(panic) => shell.panicked(&*panic, "its birth", ctx),
        }));
    }
}

impl<R: Serve<M>, M: Request> Handler<Traced<M>> for Shell<R> {
    type Result = AtomicResponse<Self, Option<M::Answer>>;

    fn handle(&mut self, traced: Traced<M>, _: &mut Self::Context) -> Self::Result {
        let Traced { message, span, sent } = traced;
        let (actor, of, waited) = (self.slot.name, name_of::<M>(), sent.elapsed());
        self.slot.queues.waited(actor, of, waited);
        self.remember(of);
        let span = tracing::debug_span!(parent: &span, "serve", actor, message = of);
        if waited > LONG_WAIT {
            tracing::info!(parent: &span, ?waited, "late");
        }
        let seam = span.clone();
        let (role, life) = (self.role.take(), self.life.clone());
        let served = async move {
            let (mut role, life) = (role?, life?);
            let answer = role.serve(message, &life).await;
            Some((role, answer))
        };
        let served = within(self.gate(), served.instrument(span));
        let served = AssertUnwindSafe(served).catch_unwind();
        AtomicResponse::new(Box::pin(served.into_actor(self).map(move |served, shell, ctx| {
            match served {
                Ok(Some(Some((role, answer)))) => {
                    shell.role = Some(role);
                    return Some(answer);
                }
                Ok(Some(None)) => shell.die("its role was lost".to_owned(), ctx),
                Ok(None) => shell.die(REPLACED.to_owned(), ctx),
                Err(panic) => seam.in_scope(|| shell.panicked(&*panic, of, ctx)),
            }
            None
        })))
    }
}

/// A type's name without its path.
fn name_of<M>() -> &'static str {
    let whole = std::any::type_name::<M>();
    whole.rsplit("::").next().unwrap_or(whole)
}

/// Ends a life from inside.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Die(pub(super) String);

impl<R: Role> Handler<Die> for Shell<R> {
    type Result = ();

    fn handle(&mut self, Die(cause): Die, ctx: &mut Self::Context) {
        self.die(cause, ctx);
    }
}

impl Request for Fault {
    type Answer = ();
}

impl<R: Role> Serve<Fault> for R {
    #[allow(clippy::panic, reason = "what is asked for: the seam is tried by what it is for")]
    async fn serve(&mut self, fault: Fault, _: &Life<Self>) {
        match fault {
            Fault::Panic => panic!("asked for by fault injection"),
            // Blocks the thread, as a bug would.
            Fault::Stall(time) => std::thread::sleep(time),
        }
    }
}
