//! From the SDK's batches to a collector: a queue that is bounded and counted, and threads in the network namespace that is asked for.

use nix::sched::{CloneFlags, setns};
use opentelemetry::Context;
use opentelemetry_otlp::{ExporterBuildError, RetryPolicy, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor},
};
use std::{
    fs::File,
    io,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::runtime::{self, Runtime};

/// Most spans that may wait whatever is asked for: the SDK sets the room aside, some tens of MiB for so many.
const ROOM: u64 = 1 << 16;

/// What became of this process's spans.
pub(crate) static TALLY: Tally = Tally::new();

/// What became of spans.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Those that a collector took.
    sent: AtomicU64,
    /// Those that none did.
    lost: AtomicU64,
    /// Those that the SDK's queue holds.
    waiting: AtomicUsize,
    /// Why the last ones were not taken, if they were not.
    problem: Mutex<Option<String>>,
}

impl Tally {
    const fn new() -> Self {
        let (sent, lost, waiting) = (AtomicU64::new(0), AtomicU64::new(0), AtomicUsize::new(0));
        Self { sent, lost, waiting, problem: Mutex::new(None) }
    }

    /// How many a collector took, and how many none did.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed))
    }

    /// Why the last ones were not taken, if they were not.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("enter the network namespace {path} of --otlp-netns: {why}")]
    Namespace { path: PathBuf, why: io::Error },
    #[error("start its threads: {0}")]
    Threads(#[from] io::Error),
    #[error("{0}; an endpoint is a URL, as http://127.0.0.1:4318")]
    Variables(#[from] ExporterBuildError),
    #[error("{name} is {said:?}: grpc and http/protobuf are spoken")]
    Protocol { name: &'static str, said: String },
}

/// The SDK's queue and its thread, in that network namespace.
pub(crate) fn start(netns: Option<PathBuf>) -> Result<Queue, StartError> {
    // A thread is in the namespace of the one that starts it, and here one starts all.
    let begin = || {
        if let Some(path) = netns {
            let enter = |file| setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
            let entered = File::open(&path).and_then(enter);
            entered.map_err(|why| StartError::Namespace { path, why })?;
        }
        let runtime =
            runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let inner = exporter(&runtime)?;
        let limits = Limits::from_environment(|name| std::env::var(name).ok());
        Ok(Queue::new(WayOut { inner, runtime }, limits, &TALLY))
    };
    let begun = thread::Builder::new().name("otlp".to_owned()).spawn(begin)?.join();
    begun.unwrap_or_else(|_| Err(StartError::Threads(io::Error::other("it panicked"))))
}

/// By the protocol that the environment names. What is not taken at once is lost: a try again would hold up those that come after,
/// and a process that ends.
fn exporter(runtime: &Runtime) -> Result<opentelemetry_otlp::SpanExporter, StartError> {
    let _inside = runtime.enter();
    let (builder, once) = (opentelemetry_otlp::SpanExporter::builder(), RetryPolicy::disabled());
    Ok(match Protocol::from_environment(|name| std::env::var(name).ok())? {
        Protocol::Grpc => builder.with_tonic().with_retry_policy(once).build()?,
        Protocol::Http => builder.with_http().with_retry_policy(once).build()?,
    })
}

/// What a collector is spoken to by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http,
    Grpc,
}

impl Protocol {
    /// HTTP where nothing is said, as OpenTelemetry recommends.
    fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, StartError> {
        let names = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
        let said = |name| variable(name).filter(|said| !said.is_empty()).map(|said| (name, said));
        match names.into_iter().find_map(said) {
            None => Ok(Self::Http),
            Some((_, said)) if said == "http/protobuf" => Ok(Self::Http),
            Some((_, said)) if said == "grpc" => Ok(Self::Grpc),
            Some((name, said)) => Err(StartError::Protocol { name, said }),
        }
    }
}

/// The variables of the batch span processor that the SDK would take amiss: it has no room at all for 0 spans, and never sleeps for 0 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    /// Spans that wait; more are shed.
    waiting: u64,
    /// How often those that wait are sent.
    delay: Duration,
}

impl Limits {
    fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let number = |name: &str, default: u64| {
            variable(name).and_then(|it| it.parse().ok()).filter(|it| *it > 0).unwrap_or(default)
        };
        Self {
            waiting: number("OTEL_BSP_MAX_QUEUE_SIZE", 2048).min(ROOM),
            delay: Duration::from_millis(number("OTEL_BSP_SCHEDULE_DELAY", 5000)),
        }
    }
}

/// The SDK's queue, which sheds what it has no room for without saying how much.
#[derive(Debug)]
pub(crate) struct Queue {
    batches: BatchSpanProcessor,
    room: usize,
    tally: &'static Tally,
}

impl Queue {
    fn new<E: SpanExporter + 'static>(exporter: E, limits: Limits, tally: &'static Tally) -> Self {
        let Limits { waiting, delay } = limits;
        let room = usize::try_from(waiting).unwrap_or(usize::MAX);
        let config = BatchConfigBuilder::default();
        let config = config.with_max_queue_size(room).with_scheduled_delay(delay).build();
        let counted = Counted { inner: exporter, tally };
        let batches = BatchSpanProcessor::builder(counted).with_batch_config(config).build();
        Self { batches, room, tally }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, span: &mut Span, parent: &Context) {
        self.batches.on_start(span, parent);
    }

    fn on_end(&self, span: SpanData) {
        if self.tally.waiting.fetch_add(1, Ordering::Relaxed) < self.room {
            return self.batches.on_end(span);
        }
        self.tally.waiting.fetch_sub(1, Ordering::Relaxed);
        self.tally.lost.fetch_add(1, Ordering::Relaxed);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, patience: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(patience)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// The way out. The SDK's thread has no runtime, which both protocols need.
#[derive(Debug)]
struct WayOut {
    inner: opentelemetry_otlp::SpanExporter,
    runtime: Runtime,
}

impl SpanExporter for WayOut {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.runtime.block_on(self.inner.export(batch))
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Counts what goes out.
#[derive(Debug)]
struct Counted<E> {
    inner: E,
    tally: &'static Tally,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.tally.waiting.fetch_sub(spans, Ordering::Relaxed);
        let sent = self.inner.export(batch).await;
        self.tell(spans, &sent);
        sent
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E> Counted<E> {
    /// Says once that spans are lost, and once that they are not any more.
    fn tell(&self, spans: usize, sent: &OTelSdkResult) {
        let counter = if sent.is_ok() { &self.tally.sent } else { &self.tally.lost };
        counter.fetch_add(spans as u64, Ordering::Relaxed);
        let problem = sent.as_ref().err().map(ToString::to_string);
        let mut told = self.tally.problem.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *told, problem);
        match (sent, before) {
            (Ok(()), Some(_)) => tracing::info!("the collector takes spans again"),
            (Err(error), None) => {
                tracing::warn!(%error, spans, "the collector takes no spans; they are lost until it does");
            }
            (Ok(()), None) | (Err(_), Some(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::{error::OTelSdkError, trace::SdkTracerProvider};
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Longer than anything takes on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A collector that says when it is asked, and answers when it is told what.
    #[derive(Debug)]
    struct Told(Mutex<(Sender<usize>, Receiver<OTelSdkResult>)>);

    impl SpanExporter for Told {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            let told = self.0.lock().unwrap();
            told.0.send(batch.len()).unwrap();
            told.1.recv_timeout(PATIENCE).unwrap()
        }
    }

    #[test]
    fn what_waits_while_the_collector_is_slow_is_bounded_and_the_rest_is_shed_and_counted() {
        static TALLY: Tally = Tally::new();
        let ((asked, is_asked), (answer, answers)) = (channel(), channel());
        let limits = Limits { waiting: 4, delay: Duration::from_millis(1) };
        let collector = Told(Mutex::new((asked, answers)));
        let queue = Queue::new(collector, limits, &TALLY);
        let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
        let spans = |count| (0..count).for_each(|_| drop(provider.tracer("").start("span")));
        spans(1);
        assert_eq!(is_asked.recv_timeout(PATIENCE), Ok(1));
        spans(10);
        assert_eq!(TALLY.counts(), (0, 6), "four wait while the first is on its way");
        answer.send(Ok(())).unwrap();
        assert_eq!(is_asked.recv_timeout(PATIENCE), Ok(4));
        assert_eq!((TALLY.counts(), TALLY.problem()), ((1, 6), None));
        // What is taken out leaves room.
        spans(1);
        answer.send(Err(OTelSdkError::InternalFailure("away".to_owned()))).unwrap();
        assert_eq!(is_asked.recv_timeout(PATIENCE), Ok(1));
        assert_eq!(TALLY.counts(), (1, 10), "what was refused is lost");
        assert!(TALLY.problem().is_some_and(|problem| problem.contains("away")));
        answer.send(Ok(())).unwrap();
        provider.shutdown().unwrap();
        assert_eq!((TALLY.counts(), TALLY.problem()), ((2, 10), None));
    }

    #[test]
    fn a_protocol_that_is_not_spoken_is_refused_by_name() {
        let (traces, all) = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL");
        for (variables, wanted) in [
            (&[][..], Some(Protocol::Http)),
            (&[(all, "")], Some(Protocol::Http)),
            (&[(all, "http/protobuf")], Some(Protocol::Http)),
            (&[(all, "grpc")], Some(Protocol::Grpc)),
            (&[(all, "http/json"), (traces, "grpc")], Some(Protocol::Grpc)),
            (&[(all, "http/json")], None),
        ] {
            let value = |name: &str| {
                variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            };
            let read = Protocol::from_environment(value);
            if let Err(error) = &read {
                let told = error.to_string();
                assert!(told.contains(all) && told.contains("http/json"), "{told}");
            }
            assert_eq!(read.ok(), wanted, "{variables:?}");
        }
    }

    #[test]
    fn limits_are_opentelemetrys_own() {
        let of = |name: &str, value: &str| {
            Limits::from_environment(|it| (it == name).then(|| value.to_owned()))
        };
        let default = Limits { waiting: 2048, delay: Duration::from_secs(5) };
        assert_eq!(of("OTHER", "7"), default);
        let delay = Duration::from_millis(50);
        assert_eq!(of("OTEL_BSP_SCHEDULE_DELAY", "50"), Limits { delay, ..default });
        assert_eq!(of("OTEL_BSP_MAX_QUEUE_SIZE", "10"), Limits { waiting: 10, ..default });
        let most = Limits { waiting: ROOM, ..default };
        assert_eq!(of("OTEL_BSP_MAX_QUEUE_SIZE", &u64::MAX.to_string()), most);
        for nonsense in ["0", "many", "-1"] {
            assert_eq!(of("OTEL_BSP_MAX_QUEUE_SIZE", nonsense), default, "{nonsense}");
            assert_eq!(of("OTEL_BSP_SCHEDULE_DELAY", nonsense), default, "{nonsense}");
        }
    }
}
