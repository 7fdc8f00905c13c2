//! Who makes actors, notices their ends and stalls, and makes them anew. It has a thread of its own.

use super::{
    Life, Queues, Role, Seat, Thread,
    edge::Shed,
    shell::{Shell, Slot},
};
use actix::{Actor, Arbiter, Context};
use actix_rt::ArbiterHandle;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep},
};
use weft_api::agent::ActorRow;

/// First wait before a new life; doubled with each failure in [`MINUTE`].
const BACK_OFF: Duration = Duration::from_millis(10);
/// Longest wait.
const BACK_OFF_MAX: Duration = Duration::from_secs(2);
/// Failures are counted over this time.
const MINUTE: Duration = Duration::from_secs(60);
/// More failures of one actor in a minute end the process: its own supervisor (kubelet, systemd) starts it with a clean state.
const FAILURES_A_MINUTE: usize = 12;
/// How often a thread shows that it lives.
const BEAT: Duration = Duration::from_millis(500);
/// A thread silent for so long is replaced. That is seen up to a second later, and the stalled are back within 5 s.
const STALL: Duration = Duration::from_millis(3500);

/// What the runtime is told.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Messages that may wait for an actor, from each that sends to it; 64 when absent. Who sends more waits.
    #[arg(long, value_name = "MESSAGES", value_parser = clap::value_parser!(u16).range(1..))]
    pub mailbox: Option<u16>,
}

/// What can be done to an actor to see that others live on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Panic over a message.
    Panic,
    /// Block its thread.
    Stall(Duration),
}

/// What the supervisor is told.
pub(super) enum Report {
    Register(Child),
    Born { child: usize, incarnation: u64 },
    Died { child: usize, incarnation: u64, cause: String },
    Remake { child: usize, incarnation: u64 },
    Inject { name: String, fault: Fault, answer: tokio::sync::oneshot::Sender<bool> },
}

type Start = Box<dyn Fn(u64, &ArbiterHandle) + Send>;

/// A role under supervision, its type forgotten.
pub(super) struct Child {
    name: &'static str,
    thread: Thread,
    current: Arc<AtomicU64>,
    /// Starts an incarnation on an arbiter.
    start: Start,
    inject: Box<dyn Fn(Fault) -> bool + Send>,
    failures: VecDeque<Instant>,
    running: bool,
    last_failure: Option<String>,
    shed: Shed,
}

/// The actors of a process.
#[derive(Clone)]
pub struct Runtime {
    reports: mpsc::UnboundedSender<Report>,
    next: Arc<std::sync::atomic::AtomicUsize>,
    rows: watch::Receiver<Vec<ActorRow>>,
    queues: Queues,
    config: Config,
}

impl Runtime {
    /// Starts the threads and the supervisor, inside an actix system. The returned future of [`Runtime::failed`]
    /// tells when an actor cannot be kept alive.
    pub fn start() -> Self {
        Self::start_with(Config::default())
    }

    /// The same, configured.
    pub fn start_with(config: Config) -> Self {
        let (reports, inbox) = mpsc::unbounded_channel();
        let (show, rows) = watch::channel(Vec::new());
        let own = reports.clone();
        // Never joined: it lives as long as the process.
        let arbiter = Arbiter::new();
        arbiter.spawn(async move { Supervisor::new(own, show).run(inbox).await });
        Self { reports, next: Arc::default(), rows, queues: Queues::default(), config }
    }

    /// Puts a role under supervision, by the name that `weft status` and logs show; `make` makes it for
    /// each of its lives.
    pub fn role<R: Role>(
        &self,
        name: &'static str,
        make: impl Fn(&Life<R>) -> R + Send + Sync + 'static,
    ) -> Seat<R> {
        let child = self.next.fetch_add(1, Ordering::Relaxed);
        let (lives, seen) = watch::channel(None);
        let (current, shed) = (Arc::new(AtomicU64::new(0)), Shed::default());
        let slot = Arc::new(Slot {
            name,
            child,
            current: Arc::clone(&current),
            lives,
            factory: Arc::new(make),
            reports: self.reports.clone(),
            queues: self.queues.clone(),
            shed: Arc::clone(&shed),
            mailbox: self.config.mailbox.map_or(R::MAILBOX, usize::from),
        });
        let seat = Seat::new(name, seen, Arc::clone(&shed));
        let target = seat.clone();
        let start = Box::new(move |incarnation, arbiter: &ArbiterHandle| {
            let slot = Arc::clone(&slot);
            // Whoever waits for an answer of the life before is told that there will be none.
            slot.lives.send_if_modified(|current| current.take().is_some());
            Shell::start_in_arbiter(arbiter, move |_: &mut Context<Shell<R>>| {
                Shell::new(slot, incarnation)
            });
        });
        let inject = Box::new(move |fault| target.edge().offer(fault));
        let registered = self.reports.send(Report::Register(Child {
            name,
            thread: R::THREAD,
            current,
            start,
            inject,
            failures: VecDeque::new(),
            running: false,
            last_failure: None,
            shed,
        }));
        // The supervisor ends with the process alone.
        drop(registered);
        seat
    }

    /// How long messages waited for them.
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// The actors as they are.
    pub fn actors(&self) -> Vec<ActorRow> {
        self.rows.borrow().clone()
    }

    /// Returns when an actor failed too often to go on, saying which and why.
    pub async fn failed(&self) -> String {
        let mut rows = self.rows.clone();
        let bad = |rows: &Vec<ActorRow>| rows.iter().any(|row| row.state == FAILED);
        match rows.wait_for(bad).await {
            Ok(rows) => rows
                .iter()
                .find(|row| row.state == FAILED)
                .map(|row| {
                    let why = row.last_failure.as_deref().unwrap_or_default();
                    format!(
                        "actor {} failed {FAILURES_A_MINUTE} times in a minute: {why}",
                        row.name
                    )
                })
                .unwrap_or_default(),
            Err(_) => "the supervisor ended".to_owned(),
        }
    }

    /// Makes an actor fail; false when there is none of this name or it does not listen.
    pub async fn inject(&self, name: &str, fault: Fault) -> bool {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let inject = Report::Inject { name: name.to_owned(), fault, answer };
        self.reports.send(inject).is_ok() && answered.await.unwrap_or(false)
    }
}

const RUNNING: &str = "running";
const RESTARTING: &str = "restarting";
const FAILED: &str = "failed";

/// A thread and its sign of life.
struct Lane {
    thread: Thread,
    arbiter: Arbiter,
    beats: Arc<AtomicU64>,
    seen: (u64, Instant),
}

impl Lane {
    fn new(thread: Thread) -> Self {
        let (arbiter, beats) = (Arbiter::new(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&beats);
        arbiter.spawn(async move {
            loop {
                sleep(BEAT).await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { thread, arbiter, beats, seen: (0, Instant::now()) }
    }

    /// Whether it was silent for too long.
    fn is_stalled(&mut self, now: Instant) -> bool {
        let beats = self.beats.load(Ordering::Relaxed);
        if beats != self.seen.0 {
            self.seen = (beats, now);
        }
        now.duration_since(self.seen.1) >= STALL
    }
}

struct Supervisor {
    reports: mpsc::UnboundedSender<Report>,
    show: watch::Sender<Vec<ActorRow>>,
    children: Vec<Child>,
    lanes: Vec<Lane>,
}

impl Supervisor {
    fn new(reports: mpsc::UnboundedSender<Report>, show: watch::Sender<Vec<ActorRow>>) -> Self {
        let lanes = Thread::ALL.into_iter().map(Lane::new).collect();
        Self { reports, show, children: Vec::new(), lanes }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Report>) {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            tokio::select! {
                report = inbox.recv() => match report {
                    Some(report) => self.take(report),
                    None => return,
                },
                _ = beat.tick() => {
                    let now = Instant::now();
                    // Whoever was stopped himself (a paused machine) knows nothing of others.
                    if now.duration_since(last) > 2 * BEAT {
                        self.lanes.iter_mut().for_each(|lane| lane.seen.1 = now);
                    }
                    last = now;
                    self.replace_stalled(now);
                }
            }
            self.publish();
        }
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Register(child) => {
                self.children.push(child);
                self.make(self.children.len() - 1);
            }
            Report::Born { child, incarnation } => {
                if let Some(child) = self.counting(child, incarnation) {
                    child.running = true;
                    if incarnation > 1 {
                        tracing::info!(actor = child.name, incarnation, "made anew");
                    }
                }
            }
            Report::Died { child, incarnation, cause } => self.bury(child, incarnation, cause),
            Report::Remake { child, incarnation } => {
                if self.counting(child, incarnation).is_some() {
                    self.make(child);
                }
            }
            Report::Inject { name, fault, answer } => {
                let target = self.children.iter().find(|child| child.name == name);
                // Whoever asked may have gone.
                let _ = answer.send(target.is_some_and(|child| (child.inject)(fault)));
            }
        }
    }

    /// The child, if this incarnation is the one that counts.
    fn counting(&mut self, child: usize, incarnation: u64) -> Option<&mut Child> {
        let child = self.children.get_mut(child)?;
        (child.current.load(Ordering::Acquire) == incarnation).then_some(child)
    }

    fn bury(&mut self, index: usize, incarnation: u64, cause: String) {
        let reports = self.reports.clone();
        let Some(child) = self.counting(index, incarnation) else { return };
        let now = Instant::now();
        child.failures.retain(|at| now.duration_since(*at) < MINUTE);
        child.failures.push_back(now);
        child.running = false;
        tracing::error!(actor = child.name, incarnation, cause, "actor ended");
        child.last_failure = Some(cause);
        let doublings = u32::try_from(child.failures.len() - 1).unwrap_or(u32::MAX).min(16);
        let wait = BACK_OFF.saturating_mul(1 << doublings).min(BACK_OFF_MAX);
        tokio::task::spawn_local(async move {
            sleep(wait).await;
            drop(reports.send(Report::Remake { child: index, incarnation }));
        });
    }

    /// The next life of a child. From here on effects of the life before do not pass its gate.
    fn make(&mut self, index: usize) {
        let Some(child) = self.children.get_mut(index) else { return };
        let Some(lane) = self.lanes.iter().find(|lane| lane.thread == child.thread) else { return };
        let incarnation = child.current.fetch_add(1, Ordering::AcqRel) + 1;
        child.running = false;
        (child.start)(incarnation, &lane.arbiter.handle());
    }

    fn replace_stalled(&mut self, now: Instant) {
        let stalled: Vec<Thread> = self
            .lanes
            .iter_mut()
            .filter_map(|lane| lane.is_stalled(now).then_some(lane.thread))
            .collect();
        for thread in stalled {
            tracing::error!(?thread, "silent for {STALL:?}: replaced with all its actors");
            for lane in self.lanes.iter_mut().filter(|lane| lane.thread == thread) {
                // It ends once it wakes up.
                lane.arbiter.stop();
                *lane = Lane::new(thread);
            }
            for index in 0..self.children.len() {
                if let Some(child) = self.children.get_mut(index).filter(|c| c.thread == thread) {
                    child.last_failure = Some(format!("its thread was silent for {STALL:?}"));
                    self.make(index);
                }
            }
        }
    }

    fn publish(&self) {
        let rows: Vec<ActorRow> = self.children.iter().map(Child::row).collect();
        self.show.send_if_modified(|shown| {
            let changed = *shown != rows;
            if changed {
                *shown = rows;
            }
            changed
        });
    }
}

impl Child {
    fn row(&self) -> ActorRow {
        let state = if self.failures.len() > FAILURES_A_MINUTE {
            FAILED
        } else if self.running {
            RUNNING
        } else {
            RESTARTING
        };
        ActorRow {
            name: self.name.to_owned(),
            incarnation: self.current.load(Ordering::Acquire),
            state: state.to_owned(),
            last_failure: self.last_failure.clone(),
            shed: self.shed.load(Ordering::Relaxed),
        }
    }
}
