//! Spans to a collector by OTLP, as OpenTelemetry's environment variables say; nothing at all where they name no collector.
//!
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT` turns it on; `…_PROTOCOL`, `…_HEADERS`, `…_TIMEOUT`,
//! `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER` and `OTEL_BSP_…` mean what OpenTelemetry says. A collector
//! that is away costs spans and nothing else: they wait in a bounded queue of a thread of its own, and whoever makes one never waits.

mod queue;
mod spans;

pub(crate) use queue::StartError;
pub(crate) use spans::{below, flags, is_next, rename};

use opentelemetry::{InstrumentationScope, KeyValue, trace::TracerProvider as _};
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
    trace::SdkTracerProvider,
};
use spans::Tracer;
use std::{env, path::Path, sync::OnceLock, time::Duration};
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::registry::LookupSpan;

/// How long a process that ends waits for its last spans to be taken.
const FAREWELL: Duration = Duration::from_millis(500);

/// The variables that name a collector; the first one that does is heeded.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();
/// Why none could be sent at all, or not in the end.
static PROBLEM: OnceLock<String> = OnceLock::new();

/// Which process spans come from.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// `service.name`, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` has another.
    pub name: &'static str,
    /// `service.instance.id`: which of several, as a node's name.
    pub instance: Option<&'a str>,
}

/// What hands spans on, where the environment names a collector. `netns` is whence it is reached.
pub(crate) fn start<S>(
    service: Service<'_>,
    netns: Option<&Path>,
) -> Result<Option<OpenTelemetryLayer<S, Tracer>>, StartError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    begin(service, netns).inspect_err(|error| drop(PROBLEM.set(error.to_string())))
}

fn begin<S>(
    service: Service<'_>,
    netns: Option<&Path>,
) -> Result<Option<OpenTelemetryLayer<S, Tracer>>, StartError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    if !is_wanted(|name| env::var(name).ok()) {
        return Ok(None);
    }
    let provider = SdkTracerProvider::builder()
        .with_id_generator(spans::Ids::default())
        .with_span_processor(queue::start(netns.map(Path::to_owned))?)
        .with_resource(resource(service))
        .build();
    let scope = InstrumentationScope::builder("weft").with_version(env!("CARGO_PKG_VERSION"));
    let provider = PROVIDER.get_or_init(|| provider);
    Ok(Some(spans::layer(provider.tracer_with_scope(scope.build()))))
}

/// Whether spans go to a collector.
pub fn is_on() -> bool {
    PROVIDER.get().is_some()
}

/// How many spans a collector took, and how many were made and lost.
pub fn counts() -> (u64, u64) {
    queue::TALLY.counts()
}

/// Sends what waits, for half a second at most: the end of a process.
pub fn farewell() {
    let Some(provider) = PROVIDER.get() else { return };
    // Either they are sent or it took too long: the process ends.
    if provider.shutdown_with_timeout(FAREWELL).is_err() {
        drop(PROBLEM.set(format!("no answer in {FAREWELL:?}")));
    }
}

/// Why a collector that the environment names did not take this process's spans, for who shows no log; known after [`farewell`].
pub fn problem() -> Option<String> {
    let why = PROBLEM.get().cloned().or_else(|| queue::TALLY.problem())?;
    let (name, value) = named(|name| env::var(name).ok())?;
    Some(format!("no collector took the trace ({name}={value}): {why}"))
}

/// The collector that the environment names, and by which variable.
fn named(variable: impl Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    let value = |name| variable(name).filter(|value| !value.trim().is_empty());
    ENDPOINTS.into_iter().find_map(|name| Some((name, value(name)?)))
}

/// Whether the environment names a collector and nothing forbids to use it.
fn is_wanted(variable: impl Fn(&str) -> Option<String>) -> bool {
    let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"));
    // Of the exporters that this variable may name there is one here.
    let other = variable("OTEL_TRACES_EXPORTER").is_some_and(|it| !it.is_empty() && it != "otlp");
    named(variable).is_some() && !disabled && !other
}

/// What this process is; what the environment says of it wins.
fn resource(service: Service<'_>) -> Resource {
    let ours = [
        Some(KeyValue::new("service.name", service.name)),
        Some(KeyValue::new("service.namespace", "weft")),
        Some(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))),
        service.instance.map(|it| KeyValue::new("service.instance.id", it.to_owned())),
    ];
    let named = env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
    Resource::builder_empty()
        .with_attributes(ours.into_iter().flatten())
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()))
        .with_attributes(named.map(|name| KeyValue::new("service.name", name)))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_used_where_one_is_named_and_nothing_forbids_it() {
        let one = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        for (variables, wanted) in [
            (&[][..], false),
            (&[one][..], true),
            (&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4318")], true),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")], false),
            (&[one, ("OTEL_SDK_DISABLED", "TRUE")], false),
            (&[one, ("OTEL_SDK_DISABLED", "no")], true),
            (&[one, ("OTEL_TRACES_EXPORTER", "none")], false),
            (&[one, ("OTEL_TRACES_EXPORTER", "otlp")], true),
            (&[("OTEL_SERVICE_NAME", "x")], false),
        ] {
            let value = |name: &str| {
                variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(is_wanted(value), wanted, "{variables:?}");
        }
    }

    #[test]
    fn a_process_says_what_it_is() {
        let resource = resource(Service { name: "weft-agent", instance: Some("node1") });
        let get = |key: &'static str| resource.get(&key.into()).map(|value| value.to_string());
        assert_eq!(get("service.name").as_deref(), Some("weft-agent"));
        assert_eq!(get("service.instance.id").as_deref(), Some("node1"));
        assert_eq!(get("telemetry.sdk.language").as_deref(), Some("rust"));
    }
}
