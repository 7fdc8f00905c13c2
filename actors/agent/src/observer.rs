//! The `Observer` actor: what the programs tell, as flows; the newest of them for whoever reads.
//!
//! Nobody waits for it, and it asks nobody: names are told to it, or lie where their owners publish them.

use crate::{
    Refusal,
    endpoints::PluggedPods,
    internal,
    metrics::Counts,
    published::Advance,
    runtime::{Life, Role, Serve, Thread, request},
    uplink::Progress,
};
use nix::time::{ClockId, clock_gettime};
use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use weft_abi::{
    event::{EVENTS, Event},
    metrics::NOTICE_EVENTS_LOST,
};
use weft_core::{
    directory::{Directory, LocalName},
    first::{Ended, Firsts},
    flow::{self, decode},
    policy::RuleNames,
    recent::{Page, Place, Recent},
    strangers::Strangers,
};
use weft_datapath::kernel::{Events, KernelError, Maps};
use weft_hubble::{flow::Flow, print::Compact, time};
use weft_process::trace;
use weft_types::{NodeName, PodEndpoint, TraceContext};

/// Flows that are kept, as many as Hubble keeps by default (`hubble.eventBufferCapacity`).
const CAPACITY: usize = 4095;
/// How long a new life waits for names before it reads on. The ring keeps what comes meanwhile, 30,000 events; flows without
/// names are better than none.
const NAMES: Duration = Duration::from_secs(5);
/// How long after it was woken it reads. A program wakes its reader only when that had read all, and a wake-up costs the packet's CPU
/// more than everything else the packet does: so there are 50 of them a second at most, and a flow is told that much later.
const GATHER: Duration = Duration::from_millis(20);
/// How often it is asked what the ring had no room for, as Hubble reports it.
const MISSED: Duration = Duration::from_secs(1);
/// Events of one turn: some 2 ms, after which readers have theirs.
const BATCH: usize = 256;

/// How the ring of events is opened, once a life.
pub type Open = Arc<dyn Fn() -> Result<Box<dyn Events>, KernelError> + Send + Sync>;

/// How many events found the ring full since it was last asked.
pub type Lost = Arc<dyn Fn() -> Result<u64, KernelError> + Send + Sync>;

/// From the programs' counters. What was lost before this is no news.
pub fn lost_of(maps: Arc<dyn Maps>) -> Lost {
    let total = move || -> Result<u64, KernelError> {
        let counted = maps.counted()?.into_iter();
        let lost = counted.filter(|counted| counted.reason == NOTICE_EVENTS_LOST);
        Ok(lost.map(|counted| counted.total.packets).sum())
    };
    let before = AtomicU64::new(total().unwrap_or_default());
    Arc::new(move || {
        let now = total()?;
        Ok(now.saturating_sub(before.swap(now, Ordering::Relaxed)))
    })
}

/// What the ring told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A flow.
    Flow(Arc<Flow>),
    /// That so many events found it full, since this was last looked at.
    Lost(u64),
}

/// What does not change over the lives of this actor.
#[derive(Clone)]
pub struct Setting {
    /// This node.
    pub node: NodeName,
    /// The ring of events.
    pub open: Open,
    /// What it had no room for.
    pub lost: Lost,
    /// The pods of this node.
    pub plugged: watch::Receiver<Option<PluggedPods>>,
    /// What rule numbers stand for.
    pub rules: watch::Receiver<RuleNames>,
    /// The cluster's name, and which revision each epoch stands for.
    pub progress: watch::Receiver<Progress>,
    /// The newest epoch whose traces ended, over all lives.
    pub traced: Arc<AtomicU64>,
    /// Where it is said how many flows there were, over all lives.
    pub end: Arc<watch::Sender<u64>>,
    /// Where it is said whose addresses operators are to be asked for.
    pub strangers: Arc<watch::Sender<Arc<[Ipv4Addr]>>>,
    /// What is counted.
    pub counts: Counts,
}

/// Owns the ring of events, and the flows they become.
pub struct Observer {
    setting: Setting,
    events: Option<Box<dyn Events>>,
    directory: Directory,
    /// Whether names were told.
    named: watch::Sender<bool>,
    recent: Recent<Told>,
    firsts: Firsts<Arc<Flow>, TraceContext>,
    strangers: Strangers,
    /// When it was last asked what the ring had no room for.
    asked: Option<Instant>,
}

impl Observer {
    /// With no flows yet; numbers go on where the life before ended.
    pub fn new(mut setting: Setting) -> Self {
        setting.plugged.mark_changed();
        setting.rules.mark_changed();
        setting.progress.mark_changed();
        let recent = Recent::new(CAPACITY, *setting.end.borrow());
        let directory = Directory::new(setting.node.clone());
        Self {
            setting,
            events: None,
            directory,
            named: watch::channel(false).0,
            recent,
            firsts: Firsts::default(),
            strangers: Strangers::default(),
            asked: None,
        }
    }

    /// Takes what owners published since the last look.
    fn look(&mut self) {
        let Setting { plugged, rules, progress, traced, .. } = &mut self.setting;
        // Their senders live as long as the process.
        if plugged.has_changed().unwrap_or_default() {
            let local = plugged.borrow_and_update().clone().unwrap_or_default();
            let named = local.pods.iter().map(|(address, pod)| {
                let PodEndpoint { name, identity, .. } = pod.endpoint.clone();
                (*address, LocalName { name, endpoint: pod.id, identity })
            });
            self.directory.set_local(named.collect());
        }
        if rules.has_changed().unwrap_or_default() {
            self.directory.set_rules(Arc::clone(&rules.borrow_and_update()));
        }
        if progress.has_changed().unwrap_or_default() {
            let progress = progress.borrow_and_update();
            self.directory.set_cluster(progress.cluster.clone());
            self.directory.set_epochs(progress.epochs.clone());
            let open = traced.load(Ordering::Relaxed).saturating_add(1);
            for (epoch, causes) in progress.causes.range(open..) {
                // Those that it knows already it takes as it took them before.
                end(self.firsts.realised(*epoch, causes.clone()), traced);
            }
        }
    }

    /// Takes a batch of events; says how many there were.
    fn drain(&mut self) -> Result<usize, Refusal> {
        self.look();
        let (offset, now) = (wall_offset()?, monotonic()?);
        self.tell_ripe(offset, now);
        // Nobody answers: nobody is waited for.
        let asks = self.setting.progress.borrow().operator.is_some();
        let Some(mut events) = self.events.take() else { return Ok(0) };
        let drained = events.drain(BATCH, &mut |record| match record {
            Ok(event) => {
                let directory = &self.directory;
                let ends = [event.source, event.destination].map(flow::address);
                let is_stranger = |address| asks && directory.is_stranger(address);
                if let Some(event) = self.strangers.meet(event, ends, now, is_stranger) {
                    self.tell(&event, offset);
                }
            }
            Err(malformed) => self.setting.counts.malformed(malformed),
        });
        self.events = Some(events);
        self.ask();
        self.miss();
        self.setting.end.send_replace(self.recent.end());
        Ok(drained)
    }

    fn tell(&mut self, event: &Event, offset: u64) {
        let flow = Arc::new(decode(event, offset, &self.directory));
        self.setting.counts.flow(&flow);
        end(self.firsts.judged(event.epoch, || Arc::clone(&flow)), &self.setting.traced);
        self.recent.push(Told::Flow(flow));
    }

    fn tell_ripe(&mut self, offset: u64, now: Duration) {
        let directory = &self.directory;
        let ripe = self.strangers.ripe(now, |address| directory.is_stranger(address));
        ripe.iter().for_each(|event| self.tell(event, offset));
    }

    /// Says whom it wants to know.
    fn ask(&self) {
        self.setting.strangers.send_if_modified(|known| {
            let last = self.strangers.asked().last();
            // The newest is the last of those that are kept.
            let modified = last.is_some() && known.last().copied() != last;
            if modified {
                *known = self.strangers.asked().collect();
            }
            modified
        });
    }

    /// Puts what the ring had no room for between the flows.
    fn miss(&mut self) {
        if self.asked.is_some_and(|asked| asked.elapsed() < MISSED) {
            return;
        }
        self.asked = Some(Instant::now());
        match (self.setting.lost)() {
            Ok(0) => {}
            Ok(lost) => {
                let what = format!(
                    "the ring of events was full: {lost} events of flows were not told, all packets were judged"
                );
                self.setting.counts.notices().tell(Instant::now().into(), EVENTS.name, what);
                self.recent.push(Told::Lost(lost));
            }
            Err(error) => tracing::warn!(%error, "what the ring of events lost cannot be read"),
        }
    }
}

/// Ends traces with the packet that was judged first under what they changed: a span at its own time, and a line.
fn end(ended: Option<Ended<Arc<Flow>, TraceContext>>, traced: &AtomicU64) {
    let Some((flow, traces)) = ended else { return };
    let at = time::parse(&flow.time).unwrap_or_default();
    for (epoch, cause) in traces {
        traced.fetch_max(epoch, Ordering::Relaxed);
        let flow = Compact { policy_names: true, ..Compact::default() }.line(&flow);
        let span =
            tracing::debug_span!(parent: None, "packet", epoch, flow, begun_ns = at, ended_ns = at);
        drop(trace::adopt(span, Some(cause)));
    }
}

fn monotonic() -> Result<Duration, Refusal> {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).map_err(internal)
}

/// Nanoseconds that the wall clock is ahead of the one that programs read. Taken anew each time, since it is set.
fn wall_offset() -> Result<u64, Refusal> {
    let wall = clock_gettime(ClockId::CLOCK_REALTIME).map(Duration::from).map_err(internal)?;
    let ahead = wall.saturating_sub(monotonic()?);
    u64::try_from(ahead.as_nanos()).map_err(internal)
}

impl Role for Observer {
    const THREAD: Thread = Thread::Observe;

    async fn born(&mut self, life: &Life<Self>) -> Result<(), Refusal> {
        let events = (self.setting.open)().map_err(internal)?;
        let readiness = events.readiness().map_err(internal)?;
        self.events = Some(events);
        let (me, this) = (life.edge(), life.clone());
        let (mut named, mut plugged) = (self.named.subscribe(), self.setting.plugged.clone());
        life.spawn(async move {
            let names = async {
                // Their senders end with this life, and so does this task.
                drop(named.wait_for(|named| *named).await);
                drop(plugged.wait_for(Option::is_some).await);
            };
            // Either way it goes on.
            drop(timeout(NAMES, names).await);
            let ended = readiness.whenever(async || {
                sleep(GATHER).await;
                loop {
                    match me.ask(Drain).await {
                        Ok(Drained::Some) => {}
                        Ok(Drained::Waits) => sleep(GATHER).await,
                        Ok(Drained::All) => break,
                        // It is being replaced, and so is this task.
                        Err(_) => {}
                    }
                }
            });
            this.give_up(ended.await.to_string());
        });
        Ok(())
    }
}

/// Take a batch of events.
struct Drain;
request!(Drain => Drained);

/// Whether events may be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    All,
    Some,
    /// None is left, but some flows wait for names.
    Waits,
}

impl Serve<Drain> for Observer {
    async fn serve(&mut self, _: Drain, life: &Life<Self>) -> Drained {
        // There is one ring and one place in it: who was replaced keeps its hands off.
        if !life.gate().is_open() {
            return Drained::All;
        }
        match self.drain() {
            Ok(BATCH) => Drained::Some,
            Ok(_) if self.strangers.wait() => Drained::Waits,
            Ok(_) => Drained::All,
            Err(refusal) => {
                life.give_up(refusal.to_string());
                Drained::All
            }
        }
    }
}

impl Serve<Advance> for Observer {
    async fn serve(&mut self, advance: Advance, _: &Life<Self>) -> Result<(), Refusal> {
        if advance.whole {
            self.directory.clear();
        }
        advance.deltas.iter().for_each(|delta| self.directory.take(delta));
        self.named.send_replace(true);
        Ok(())
    }
}

/// Flows from a place on, at most so many.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// Where to begin.
    pub place: Place,
    /// How many.
    pub most: usize,
}
request!(Read => Page<Told>);

impl Serve<Read> for Observer {
    async fn serve(&mut self, read: Read, _: &Life<Self>) -> Page<Told> {
        // The last of a burst may have been lost after the last that was not.
        self.miss();
        self.recent.read(read.place, read.most)
    }
}
