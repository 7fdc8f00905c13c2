//! The thread that sends spans, and the bounded queue before it: whoever makes a span never waits.

use nix::sched::{CloneFlags, setns};
use opentelemetry_otlp::{
    ExporterBuildError, RetryPolicy, SpanExporter, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkError,
    trace::{SpanData, SpanExporter as _},
};
use std::{
    fs::File,
    future::pending,
    io,
    path::PathBuf,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc as blocking,
    },
    thread,
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// Most spans that may wait whatever is asked for, some hundreds of MiB of them.
const ROOM: usize = 1 << 20;

/// How much waits, and how long: the limits of OpenTelemetry's batch span processor, by its variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Spans that wait; more are shed.
    waiting: usize,
    /// Spans of one message.
    batch: usize,
    /// How long the first of a message waits for others.
    delay: Duration,
}

impl Limits {
    pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let number = |name: &str, default: u64| {
            variable(name).and_then(|it| it.parse().ok()).filter(|it| *it > 0).unwrap_or(default)
        };
        let size = |name, default| usize::try_from(number(name, default)).unwrap_or(usize::MAX);
        let waiting = size("OTEL_BSP_MAX_QUEUE_SIZE", 2048).min(ROOM);
        Self {
            waiting,
            batch: size("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512).min(waiting),
            delay: Duration::from_millis(number("OTEL_BSP_SCHEDULE_DELAY", 5000)),
        }
    }
}

/// Spans that a collector took, and those that none did.
pub(crate) static SENT: AtomicU64 = AtomicU64::new(0);
pub(crate) static LOST: AtomicU64 = AtomicU64::new(0);

/// The way in. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    spans: mpsc::Sender<SpanData>,
    flushes: mpsc::UnboundedSender<blocking::Sender<()>>,
}

impl Queue {
    /// Takes a span, or sheds it where too many wait.
    pub(crate) fn push(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has all that waits sent, and waits for that so long at most.
    pub(crate) fn flush(&self, patience: Duration) {
        let (done, told) = blocking::channel();
        if self.flushes.send(done).is_ok() {
            // Either it is done or it took too long: the process ends.
            let _ = told.recv_timeout(patience);
        }
    }
}

/// Starts the thread, in that network namespace.
pub(crate) fn start(resource: Resource, netns: Option<PathBuf>, limits: Limits) -> Queue {
    let (spans, waiting) = mpsc::channel(limits.waiting);
    let (flushes, asked) = mpsc::unbounded_channel();
    let work = move || {
        if let Err(error) = run(Sender { waiting, asked, limits }, &resource, netns) {
            tracing::warn!(%error, "spans go to no collector");
        }
    };
    // Without a thread there is no room for spans either, and they are shed.
    drop(thread::Builder::new().name("otlp".to_owned()).spawn(work));
    Queue { spans, flushes }
}

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("enter the network namespace {path} of --otlp-netns: {why}")]
    Namespace { path: PathBuf, why: io::Error },
    #[error("start its thread: {0}")]
    Runtime(#[from] io::Error),
    #[error("read the variables OTEL_EXPORTER_OTLP_…: {0}")]
    Variables(#[from] ExporterBuildError),
}

fn run(sender: Sender, resource: &Resource, netns: Option<PathBuf>) -> Result<(), StartError> {
    if let Some(path) = netns {
        let enter = |file| setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
        let entered = File::open(&path).and_then(enter);
        entered.map_err(|why| StartError::Namespace { path, why })?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut exporter = exporter()?;
        exporter.set_resource(resource);
        sender.serve(&exporter).await;
        Ok(())
    })
}

/// By the protocol that the environment names. What is not taken at once is lost: a try again would hold up those that come after,
/// and a process that ends.
fn exporter() -> Result<SpanExporter, ExporterBuildError> {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    let protocol = names.iter().find_map(|name| std::env::var(name).ok());
    let (builder, once) = (SpanExporter::builder(), RetryPolicy::disabled());
    match protocol.as_deref() {
        Some("grpc") => builder.with_tonic().with_retry_policy(once).build(),
        _ => builder.with_http().with_retry_policy(once).build(),
    }
}

/// The way out.
struct Sender {
    waiting: mpsc::Receiver<SpanData>,
    asked: mpsc::UnboundedReceiver<blocking::Sender<()>>,
    limits: Limits,
}

impl Sender {
    async fn serve(mut self, exporter: &SpanExporter) {
        let mut delivered = true;
        loop {
            let mut batch = Vec::new();
            let asked = self.gather(&mut batch).await;
            while !batch.is_empty() {
                let spans = batch.len();
                let sent = exporter.export(std::mem::take(&mut batch)).await;
                tell(&mut delivered, spans, sent);
                if asked.is_some() {
                    self.take(&mut batch);
                }
            }
            if let Some(asked) = asked {
                // Who asked may have gone on.
                let _ = asked.send(());
            } else if self.waiting.is_closed() {
                return;
            }
        }
    }

    /// Takes spans until there are enough or the first has waited long enough; or until somebody asks for all, who is given.
    async fn gather(&mut self, batch: &mut Vec<SpanData>) -> Option<blocking::Sender<()>> {
        let mut until = None;
        while batch.len() < self.limits.batch {
            let room = self.limits.batch - batch.len();
            let wait = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                taken = self.waiting.recv_many(batch, room) => match taken {
                    0 => break,
                    _ => _ = until.get_or_insert_with(|| Instant::now() + self.limits.delay),
                },
                Some(asked) = self.asked.recv() => {
                    self.take(batch);
                    return Some(asked);
                }
                () = wait => break,
            }
        }
        None
    }

    /// Takes what is there.
    fn take(&mut self, batch: &mut Vec<SpanData>) {
        while batch.len() < self.limits.batch
            && let Ok(span) = self.waiting.try_recv()
        {
            batch.push(span);
        }
    }
}

/// Says once that spans are lost, and once that they are not any more.
fn tell(delivered: &mut bool, spans: usize, sent: Result<(), OTelSdkError>) {
    let counter = if sent.is_ok() { &SENT } else { &LOST };
    counter.fetch_add(spans as u64, Ordering::Relaxed);
    let before = std::mem::replace(delivered, sent.is_ok());
    match sent {
        Ok(()) if !before => tracing::info!("the collector takes spans again"),
        Err(error) if before => {
            tracing::warn!(%error, spans, "the collector takes no spans; they are lost until it does");
        }
        Ok(()) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_opentelemetrys_own() {
        let of = |name: &str, value: &str| {
            Limits::from_environment(|it| (it == name).then(|| value.to_owned()))
        };
        let default = Limits { waiting: 2048, batch: 512, delay: Duration::from_secs(5) };
        assert_eq!(of("OTHER", "7"), default);
        let delay = Duration::from_millis(50);
        assert_eq!(of("OTEL_BSP_SCHEDULE_DELAY", "50"), Limits { delay, ..default });
        assert_eq!(of("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "9"), Limits { batch: 9, ..default });
        assert_eq!(
            of("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
            Limits { waiting: 10, batch: 10, ..default }
        );
        for nonsense in ["0", "many", "-1"] {
            assert_eq!(of("OTEL_BSP_MAX_QUEUE_SIZE", nonsense), default, "{nonsense}");
        }
    }
}
