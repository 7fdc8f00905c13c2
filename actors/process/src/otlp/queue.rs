//! From the SDK's batches to a collector: a queue that is bounded and counted, and threads in the network namespace that is asked for.

use nix::sched::{CloneFlags, setns};
use opentelemetry::Context;
use opentelemetry_otlp::{
    ExporterBuildError, RetryPolicy, SpanExporter, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanProcessor},
};
use std::{
    fs::File,
    io,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    thread,
    time::Duration,
};
use tokio::runtime::{self, Runtime};

/// Most spans that may wait whatever is asked for: the SDK sets the room aside, some tens of MiB for so many.
const ROOM: u64 = 1 << 16;

/// Spans that a collector took, and those that none did.
pub(crate) static SENT: AtomicU64 = AtomicU64::new(0);
pub(crate) static LOST: AtomicU64 = AtomicU64::new(0);

/// Spans that the SDK's queue holds.
static WAITING: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("enter the network namespace {path} of --otlp-netns: {why}")]
    Namespace { path: PathBuf, why: io::Error },
    #[error("start its threads: {0}")]
    Threads(#[from] io::Error),
    #[error("read the variables OTEL_EXPORTER_OTLP_…: {0}")]
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
        Ok(Queue::new(Exporter { inner, runtime, delivers: AtomicBool::new(true) }))
    };
    let begun = thread::Builder::new().name("otlp".to_owned()).spawn(begin)?.join();
    begun.unwrap_or_else(|_| Err(StartError::Threads(io::Error::other("it panicked"))))
}

/// By the protocol that the environment names. What is not taken at once is lost: a try again would hold up those that come after,
/// and a process that ends.
fn exporter(runtime: &Runtime) -> Result<SpanExporter, StartError> {
    let _inside = runtime.enter();
    let (builder, once) = (SpanExporter::builder(), RetryPolicy::disabled());
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
}

impl Queue {
    fn new(exporter: Exporter) -> Self {
        let Limits { waiting, delay } = Limits::from_environment(|name| std::env::var(name).ok());
        let room = usize::try_from(waiting).unwrap_or(usize::MAX);
        let config = BatchConfigBuilder::default();
        let config = config.with_max_queue_size(room).with_scheduled_delay(delay).build();
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        Self { batches, room }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, span: &mut Span, parent: &Context) {
        self.batches.on_start(span, parent);
    }

    fn on_end(&self, span: SpanData) {
        if WAITING.fetch_add(1, Ordering::Relaxed) < self.room {
            return self.batches.on_end(span);
        }
        WAITING.fetch_sub(1, Ordering::Relaxed);
        LOST.fetch_add(1, Ordering::Relaxed);
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
struct Exporter {
    inner: SpanExporter,
    runtime: Runtime,
    /// Whether the last batch was taken.
    delivers: AtomicBool,
}

impl opentelemetry_sdk::trace::SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        WAITING.fetch_sub(spans, Ordering::Relaxed);
        let sent = self.runtime.block_on(self.inner.export(batch));
        self.tell(spans, &sent);
        sent
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl Exporter {
    /// Says once that spans are lost, and once that they are not any more.
    fn tell(&self, spans: usize, sent: &OTelSdkResult) {
        let counter = if sent.is_ok() { &SENT } else { &LOST };
        counter.fetch_add(spans as u64, Ordering::Relaxed);
        let before = self.delivers.swap(sent.is_ok(), Ordering::Relaxed);
        match sent {
            Ok(()) if !before => tracing::info!("the collector takes spans again"),
            Err(error) if before => {
                tracing::warn!(%error, spans, "the collector takes no spans; they are lost until it does");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
