//! The `Uplink` actor: what operators published, on its way to everyone; and the session that it comes by.

mod columns;
mod disk;
mod numbers;
mod progress;
mod turns;

pub use columns::tell_all;
pub use numbers::SessionNumbers;
pub use progress::Progress;

use crate::{
    Refusal,
    endpoints::{Endpoints, PluggedPods, Spread},
    ipcache::Ipcache,
    journal::Journal,
    mapsync::{BumpEpoch, ClassSync},
    metrics::Counts,
    observer::Observer,
    policy::Policy,
    published::{Advance, Published},
    runtime::{Edge, Life, Refeed, Role, Seat, Serve, Thread, is_over, request},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, split},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tracing::{Instrument, Span, field::Empty};
use turns::{Ended, Turns};
use weft_api::FailureKind;
use weft_core::patience::BACK_OFF;
use weft_process::trace;
use weft_types::{NodeName, Revision, TraceContext};
use weft_wire::{
    ToAgent, ToOperator, VERSIONS,
    credentials::Credentials,
    frame::{receive, send},
    greeting::{Greeted, greet},
    tls,
};

/// How long the uplink may take for what it hears, a snapshot of everything at most.
const REALISED: Duration = Duration::from_secs(20);
/// How long what the kernel did not take is left alone.
const AGAIN: Duration = Duration::from_millis(200);
/// Messages of the operator that are taken together at most.
const BATCH: usize = 256;

/// What an agent is told of its operators.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Operators to connect to, as 10.0.0.1:4900; several with commas.
    #[arg(long, required = true, value_delimiter = ',', value_name = "IP:PORT")]
    pub operator: Vec<SocketAddr>,
    /// How long an operator may be silent before its session is given up; it says something every 2 s.
    #[arg(long, value_name = "TIME", default_value = "6s", value_parser = humantime::parse_duration)]
    pub session_silence: Duration,
    /// Longest wait between two tries to reach an operator.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    pub session_retry_max: Duration,
    /// How long a session lasts with another operator than the one that this node's name chooses: then that one is tried again,
    /// so that agents spread over the operators again after one was away.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    pub session_away: Duration,
}

/// What does not change over the lives of this actor.
#[derive(Clone)]
pub struct Setting {
    /// This node.
    pub node: NodeName,
    /// The operators and how long they are waited for.
    pub config: Config,
    /// Who this agent is.
    pub credentials: Credentials,
    /// What its sessions are numbered by.
    pub numbers: Arc<SessionNumbers>,
    /// Where progress is told.
    pub progress: Arc<watch::Sender<Progress>>,
    /// Who is plugged here, once that is known.
    pub plugged: watch::Receiver<Option<PluggedPods>>,
    /// Addresses of pods elsewhere that somebody here speaks with and nobody was told of; the newest last.
    pub strangers: watch::Receiver<Arc<[Ipv4Addr]>>,
    /// Folder of what must survive the agent.
    pub state_dir: PathBuf,
    /// What is counted.
    pub counts: Counts,
}

impl Setting {
    /// Tells progress; what a sleeper has to tell is old.
    fn tell(&self, change: impl FnOnce(&mut Progress)) {
        if !is_over() {
            self.progress.send_modify(change);
        }
    }
}

/// The actors that a revision goes through, in this order.
#[derive(Clone)]
pub struct Columns {
    /// Identities and policies.
    pub policy: Seat<Policy>,
    /// Addresses.
    pub ipcache: Seat<Ipcache>,
    /// Endpoints of this node.
    pub endpoints: Seat<Endpoints>,
    /// The epoch.
    pub classes: Seat<ClassSync>,
    /// Who listens: it is told, and not waited for.
    pub observer: Seat<Observer>,
}

/// Owns the session and what was published.
pub struct Uplink {
    setting: Setting,
    published: Published,
    /// What was published, on disk; none while it is being written.
    journal: Option<Journal>,
    policy: Edge<Policy>,
    ipcache: Edge<Ipcache>,
    endpoints: Edge<Endpoints>,
    classes: Edge<ClassSync>,
    observer: Edge<Observer>,
    /// The session's way out, while there is one.
    say: Option<mpsc::Sender<ToOperator>>,
    /// Why the newest revision is not realised, as this session was told.
    excuse: Option<(Revision, String)>,
    /// The revision that is on disk.
    recorded: Revision,
    /// Changes that some column may not have.
    pending: bool,
    /// What caused them.
    causes: Vec<(Revision, TraceContext)>,
    retrying: bool,
    /// Whether what could not be kept is about to be tried again.
    keeping: bool,
}

impl Uplink {
    /// With nothing yet.
    pub fn new(setting: Setting, columns: &Columns) -> Self {
        Self {
            journal: Some(Journal::new(&setting.state_dir)),
            setting,
            published: Published::default(),
            policy: columns.policy.edge(),
            ipcache: columns.ipcache.edge(),
            endpoints: columns.endpoints.edge(),
            classes: columns.classes.edge(),
            observer: columns.observer.edge(),
            say: None,
            excuse: None,
            recorded: Revision::ZERO,
            pending: false,
            causes: Vec::new(),
            retrying: false,
            keeping: false,
        }
    }

    /// One message of the operator; whether the session goes on.
    fn hear(&mut self, message: ToAgent) -> Result<(), String> {
        match message {
            ToAgent::SnapshotBegin => self.published.begin_snapshot(),
            ToAgent::Deltas { revision, deltas, trace } => {
                if !self.published.take(revision, deltas) {
                    return Err(format!("the operator is behind: it has {revision}"));
                }
                self.causes.extend(trace.map(|cause| (revision, cause)));
                self.pending = true;
            }
            ToAgent::SnapshotEnd { revision } => {
                if !self.published.end_snapshot(revision) {
                    return Err(format!("the operator is behind: its snapshot is of {revision}"));
                }
                self.pending = true;
            }
            // What finds no room is waited for a little in vain.
            ToAgent::Spread { address, behind } => {
                self.endpoints.offer(Spread { address, behind });
            }
            ToAgent::Ping => self.answer(ToOperator::Pong),
            ToAgent::Refused { reason } => return Err(format!("refused: {reason}")),
            ToAgent::Welcome { .. } => return Err("a second welcome".to_owned()),
            ToAgent::Stale { .. } => return Err("a welcome taken back".to_owned()),
        }
        Ok(())
    }

    fn answer(&self, message: ToOperator) {
        // A session that does not take it is ending; the next one says what is needed.
        if let Some(say) = &self.say {
            drop(say.try_send(message));
        }
    }

    /// Brings every column to the newest revision, as what caused it; of several that came together the last
    /// one has the parts, and each its own line.
    async fn realise(&mut self, life: &Life<Self>) {
        if !self.published.is_current() {
            return;
        }
        let revision = self.published.revision();
        let mut spans = realising(revision, &self.causes);
        // What nobody caused, as a snapshot, waits for no packet.
        let caused = if self.causes.is_empty() { Vec::new() } else { contexts(&spans) };
        if let Some(last) = spans.pop() {
            let with = trace::of(&last).map(tracing::field::display);
            spans.iter().for_each(|span| _ = span.record("with", &with));
            self.realise_now(revision, caused, life).instrument(last).await;
        }
    }

    async fn realise_now(
        &mut self,
        revision: Revision,
        caused: Vec<TraceContext>,
        life: &Life<Self>,
    ) {
        self.setting.tell(|p| p.received = revision);
        match self.advance(life).await {
            Ok(epoch) => {
                self.pending = false;
                self.excuse = None;
                self.causes.clear();
                tracing::info!(epoch, "realised");
                let mut back = None;
                self.setting.tell(|p| back = p.realise(revision, epoch, caused));
                if let Some((invariant, seen)) = back {
                    self.setting.counts.violated(invariant, &seen);
                }
                self.answer(ToOperator::Acknowledge { revision, trace: trace::current() });
            }
            Err(error) => {
                tracing::warn!(%revision, %error, "not realised yet");
                let refused = (error.kind == FailureKind::Refused).then_some(revision);
                self.setting.tell(|p| (p.problem, p.refused) = (Some(error.to_string()), refused));
                self.excuse(revision, error.to_string());
                self.again(life);
            }
        }
        if self.observer.is_hungry() {
            self.again(life);
        }
    }

    /// Tells the operator why a revision is not realised, once for each reason.
    fn excuse(&mut self, revision: Revision, reason: String) {
        let excuse = Some((revision, reason.clone()));
        if self.excuse != excuse {
            self.excuse = excuse;
            self.answer(ToOperator::Behind { revision, reason });
        }
    }

    /// Looks again, in a while, who was not told everything.
    fn again(&mut self, life: &Life<Self>) {
        if !std::mem::replace(&mut self.retrying, true) {
            let me = life.edge();
            life.spawn(async move {
                sleep(AGAIN).await;
                drop(me.ask(Refeed).await);
            });
        }
    }

    /// Tells who only listens. What it does not take now it gets whole, later.
    fn inform(&self, advance: Advance) {
        let life = self.observer.incarnation();
        self.observer.starve();
        if self.observer.offer(advance) {
            self.observer.fed(life);
        }
    }

    async fn advance(&mut self, life: &Life<Self>) -> Result<u64, Refusal> {
        let changes = self.published.changes();
        let durable = self.record(&changes, life).await;
        let whole = || self.published.whole();
        // Names come before the first event that needs them.
        self.inform(if self.observer.is_hungry() { whole() } else { changes.clone() });
        let columns = (&self.policy, &self.ipcache, &self.endpoints);
        let told = tell_all(columns, &changes, whole).await;
        durable.wait().await;
        told?;
        self.classes.ask(BumpEpoch).await?
    }
}

/// A span for each cause; one of its own where there is none.
fn realising(revision: Revision, causes: &[(Revision, TraceContext)]) -> Vec<Span> {
    let span = |(revision, cause): &(Revision, TraceContext)| {
        let span = tracing::debug_span!(parent: None, "realise", %revision, with = Empty);
        trace::adopt(span, Some(*cause))
    };
    match causes {
        [] => vec![tracing::debug_span!("realise", %revision)],
        causes => causes.iter().map(span).collect(),
    }
}

fn contexts(spans: &[Span]) -> Vec<TraceContext> {
    spans.iter().filter_map(trace::of).collect()
}

impl Role for Uplink {
    const THREAD: Thread = Thread::Control;

    async fn born(&mut self, life: &Life<Self>) -> Result<(), Refusal> {
        life.refeed_after(&self.policy);
        life.refeed_after(&self.ipcache);
        life.refeed_after(&self.endpoints);
        life.refeed_after(&self.observer);
        self.recover().await?;
        if self.pending {
            // Before the first session asks what is held: mailboxes keep their order.
            let me = life.edge();
            life.spawn(async move { drop(me.ask(Refeed).await) });
        }
        life.spawn(sessions(self.setting.clone(), life.edge()));
        Ok(())
    }
}

impl Serve<Refeed> for Uplink {
    async fn serve(&mut self, _: Refeed, life: &Life<Self>) {
        self.retrying = false;
        let hungry =
            self.policy.is_hungry() || self.ipcache.is_hungry() || self.endpoints.is_hungry();
        if hungry || self.pending {
            self.realise(life).await;
        } else if self.observer.is_hungry() && self.published.revision() != Revision::ZERO {
            self.inform(self.published.whole());
            if self.observer.is_hungry() {
                self.again(life);
            }
        }
    }
}

/// A session begins with an operator whose newest revision is this one.
struct Begin(mpsc::Sender<ToOperator>, Revision);
request!(Begin => ());

impl Serve<Begin> for Uplink {
    async fn serve(&mut self, Begin(say, newest): Begin, _: &Life<Self>) {
        self.say = Some(say);
        self.excuse = None;
        self.published.awaits(newest);
    }
}

/// What the operator said, in its order. An error ends the session.
struct Heard(Vec<ToAgent>);
request!(Heard => Result<(), String>);

impl Serve<Heard> for Uplink {
    async fn serve(&mut self, Heard(messages): Heard, life: &Life<Self>) -> Result<(), String> {
        let heard = messages.into_iter().try_for_each(|message| self.hear(message));
        for (invariant, seen) in self.published.violations() {
            self.setting.counts.violated(invariant, &seen);
        }
        if self.pending {
            self.realise(life).await;
        }
        heard
    }
}

/// What this life says of itself when a session begins.
struct Greet;
request!(Greet => ToOperator);

impl Serve<Greet> for Uplink {
    async fn serve(&mut self, _: Greet, _: &Life<Self>) -> ToOperator {
        let realised = self.setting.progress.borrow().realised;
        let from = self.published.revision();
        let some = |revision: Revision| (revision != Revision::ZERO).then_some(revision);
        ToOperator::Hello {
            node: self.setting.node.clone(),
            session: self.setting.numbers.next(),
            // What was published to it, as far as the kernel has it: a new life has nothing to add deltas to.
            held: some(from.min(realised)),
            from: some(from),
            identities: self.published.identities(),
            asked: self.setting.strangers.borrow().to_vec(),
        }
    }
}

/// Keeps a session with one of the operators for as long as the life lasts: with the next one when it is lost.
async fn sessions(setting: Setting, uplink: Edge<Uplink>) {
    let mut wait = BACK_OFF;
    let operators = &setting.config.operator;
    let mut turns = Turns::new(&setting.node, operators.len());
    while let Some(operator) = operators.get(turns.now()).copied() {
        let session = session(&setting, &uplink, operator);
        let ended = match turns.is_own() {
            true => session.await,
            false => match timeout(setting.config.session_away, session).await {
                Ok(ended) => ended,
                Err(_) => {
                    tracing::info!(%operator, "back to this node's own operator");
                    setting.tell(|p| p.operator = None);
                    turns.end(Ended::TimeIsOver);
                    continue;
                }
            },
        };
        let why = ended.err().map(|error| {
            let advice = tls::distrust(error.as_ref()).map(|advice| format!("; {advice}"));
            // An error of ours spells out its causes.
            format!("session with {operator}: {error}{}", advice.unwrap_or_default())
        });
        if let Some(why) = &why {
            tracing::warn!("{why}");
        }
        let was_accepted = setting.progress.borrow().operator.is_some();
        setting.tell(|p| (p.operator, p.refusal) = (None, why));
        wait =
            if was_accepted { BACK_OFF } else { (wait * 2).min(setting.config.session_retry_max) };
        turns.end(Ended::Lost);
        // Not all at once: half of it to one and a half times.
        sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
    }
}

async fn session(
    setting: &Setting,
    uplink: &Edge<Uplink>,
    operator: SocketAddr,
) -> anyhow::Result<()> {
    let (silence, connecting) = (setting.config.session_silence, setting.config.session_retry_max);
    let connect = async || {
        let connector = setting.credentials.connector();
        let stream = timeout(connecting, tls::connect(operator, &connector)).await;
        let late = |_| anyhow::anyhow!("connect: no answer in {connecting:?}");
        Ok::<_, anyhow::Error>((stream.map_err(late)??, uplink.ask(Greet).await?))
    };
    let Greeted { stream, hello, version: wire, answer } = greet(connect, silence).await?;
    let (mut from, to) = split(stream);
    if wire < VERSIONS.newest {
        tracing::info!(%operator, wire, "the operator is of an older release");
    }
    let (cluster, newest) = match answer {
        ToAgent::Welcome { cluster, revision } => (cluster, revision),
        ToAgent::Refused { reason } => anyhow::bail!("refused: {reason}"),
        ToAgent::Stale { session } => {
            setting.numbers.used(session);
            anyhow::bail!("its number was used before; it is tried again with a higher one");
        }
        other => anyhow::bail!("the first message was {other:?}"),
    };
    if setting.progress.borrow().cluster != cluster {
        disk::keep_cluster(setting, &cluster).await;
    }
    setting.tell(|p| {
        (p.operator, p.refusal) = (Some(operator), None);
        p.cluster = cluster;
    });
    let (say, says) = mpsc::channel(64);
    uplink.ask(Begin(say, newest)).await?;
    // The kernel holds what was claimed: said again, since an operator may have forgotten.
    let held = match hello {
        ToOperator::Hello { held: Some(revision), .. } => {
            vec![ToOperator::Acknowledge { revision, trace: None }]
        }
        _ => Vec::new(),
    };
    let speaker = Speaker::new(to, setting, held);
    let (batch, batches) = mpsc::channel(BATCH);
    tokio::select! {
        ended = read(&mut from, batch, silence) => ended,
        ended = hear(uplink, batches) => ended,
        ended = speaker.speak(says) => ended,
    }
}

/// Frames in, so that several wait together while one is worked at.
async fn read<S: AsyncRead + Unpin>(
    from: &mut S,
    batch: mpsc::Sender<ToAgent>,
    silence: Duration,
) -> anyhow::Result<()> {
    loop {
        batch.send(timeout(silence, receive(from)).await??).await?;
    }
}

async fn hear(uplink: &Edge<Uplink>, mut batches: mpsc::Receiver<ToAgent>) -> anyhow::Result<()> {
    let mut messages = Vec::new();
    while batches.recv_many(&mut messages, BATCH).await > 0 {
        let heard = uplink.ask_within(REALISED, Heard(std::mem::take(&mut messages))).await?;
        heard.map_err(anyhow::Error::msg)?;
    }
    anyhow::bail!("the connection ended")
}

/// Frames out: answers, who is asked for, and which pods are plugged here, first all of them and then each change.
struct Speaker<S> {
    to: S,
    strangers: watch::Receiver<Arc<[Ipv4Addr]>>,
    asked: Arc<[Ipv4Addr]>,
    plugged: watch::Receiver<Option<PluggedPods>>,
    told: Option<PluggedPods>,
    /// What the kernel holds, to be said when it is said who is plugged: an identity that somebody here has is not free
    /// then, whatever the kernel holds.
    waiting: Vec<ToOperator>,
}

impl<S: AsyncWrite + Unpin> Speaker<S> {
    fn new(to: S, setting: &Setting, waiting: Vec<ToOperator>) -> Self {
        let (mut strangers, mut plugged) = (setting.strangers.clone(), setting.plugged.clone());
        // The greeting may be older than the newest of them.
        strangers.mark_changed();
        plugged.mark_changed();
        Self { to, strangers, asked: Arc::default(), plugged, told: None, waiting }
    }

    async fn speak(mut self, mut says: mpsc::Receiver<ToOperator>) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                said = says.recv() => match said {
                    Some(message @ ToOperator::Acknowledge { .. }) => {
                        self.waiting.push(message);
                        self.tell().await?;
                    }
                    Some(message) => send(&mut self.to, &message).await?,
                    None => anyhow::bail!("the uplink was made anew"),
                },
                changed = self.strangers.changed() => {
                    changed?;
                    self.ask().await?;
                }
                changed = self.plugged.changed() => {
                    changed?;
                    self.tell().await?;
                }
            }
        }
    }

    /// Whose addresses these are.
    async fn ask(&mut self) -> anyhow::Result<()> {
        let now = Arc::clone(&self.strangers.borrow_and_update());
        let new = now.iter().filter(|address| !self.asked.contains(address)).copied();
        let addresses: Vec<Ipv4Addr> = new.collect();
        if !addresses.is_empty() {
            send(&mut self.to, &ToOperator::Who { addresses }).await?;
        }
        self.asked = now;
        Ok(())
    }

    /// Who is plugged now, and then what the kernel holds.
    async fn tell(&mut self) -> anyhow::Result<()> {
        let Some(now) = self.plugged.borrow_and_update().clone() else { return Ok(()) };
        if self.told.is_none() {
            send(&mut self.to, &now.all()).await?;
        }
        for message in now.since(&self.told.take().unwrap_or_default()) {
            send(&mut self.to, &message).await?;
        }
        self.told = Some(now);
        for message in std::mem::take(&mut self.waiting) {
            send(&mut self.to, &message).await?;
        }
        Ok(())
    }
}
