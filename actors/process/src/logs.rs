//! Logs on standard error, as text or JSON. Every line of a span carries `trace_id`, `span_id` and `parent_id`.

use crate::{
    otlp::{self, Service},
    trace::{Ids, LEAVES, SpanIds},
};
use std::{fmt, io, panic, path::PathBuf};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterFn, LevelFilter},
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{self, FmtSpan, JsonFields, Writer},
        layer,
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// How a process tells what it does.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// How logs are written.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub log_format: Format,
    /// What is logged: error, warn, info, debug or trace, or by part, as info,weft_agent::policy=debug.
    #[arg(long, value_name = "LEVEL", env = "RUST_LOG", default_value = "info", value_parser = level)]
    pub log_level: String,
    /// The network namespace that spans are sent from where OTEL_EXPORTER_OTLP_ENDPOINT names a collector; this process's by default.
    #[arg(long, value_name = "PATH")]
    pub otlp_netns: Option<PathBuf>,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: an object a line.
    Json,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// A level, or levels by part.
pub fn level(text: &str) -> Result<String, String> {
    // A word alone may be the name of a part, and then all of that part is logged: `noise` would be taken for one.
    let meant = |word: &str| {
        word.contains('=') || word.starts_with("weft") || word.parse::<LevelFilter>().is_ok()
    };
    match text.parse::<EnvFilter>() {
        Ok(_) if text.split(',').all(meant) => Ok(text.to_owned()),
        _ => Err("no level: off, error, warn, info, debug, trace, or PART=LEVEL,…".to_owned()),
    }
}

/// Logs from here on, panics too, and spans to a collector where there is one. Spans get their ids whatever the level is, so
/// that a trace never breaks here.
pub fn start(config: &Config, service: Service<'_>) {
    let levels = EnvFilter::new(&config.log_level);
    let lines = layer().with_writer(io::stderr).with_ansi(false).with_span_events(FmtSpan::CLOSE);
    let (spans, failed) = match otlp::start(service, config.otlp_netns.as_deref()) {
        Ok(spans) => (spans, None),
        Err(error) => (None, Some(error)),
    };
    let told = spans.is_some() || levels.max_level_hint().is_none_or(|most| most >= Level::DEBUG);
    let needs_ids = move |span: &Metadata<'_>| is_our_span(span) && (told || !is_leaf(span));
    let ids = SpanIds.with_filter(FilterFn::new(needs_ids));
    let spans =
        spans.map(|spans| spans.with_filter(FilterFn::new(is_told as fn(&Metadata<'_>) -> bool)));
    let registry = tracing_subscriber::registry().with(ids).with(spans);
    let format = config.log_format;
    match format {
        Format::Text => {
            let line = WithIds { line: format::format(), format };
            registry.with(lines.event_format(line).with_filter(levels)).init();
        }
        Format::Json => {
            let line = format::format().json().flatten_event(true).with_span_list(false);
            let line = WithIds { line, format };
            let lines = lines.fmt_fields(JsonFields::new()).event_format(line);
            registry.with(lines.with_filter(levels)).init();
        }
    }
    if let Some(error) = failed {
        tracing::warn!(%error, "spans go to no collector");
    }
    panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let why = panic.payload_as_str().unwrap_or("without a message");
        tracing::error!(at, thread = thread.name(), "panic: {why}");
    }));
}

fn is_our_span(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && *metadata.level() <= Level::DEBUG && metadata.target().starts_with("weft")
}

/// Where neither a log nor a collector is told of them, these need no ids, and are not made.
fn is_leaf(span: &Metadata<'_>) -> bool {
    LEAVES.contains(&span.name())
}

/// A collector is told of our spans, and of what went wrong in them.
fn is_told(metadata: &Metadata<'_>) -> bool {
    let wrong = metadata.is_event() && *metadata.level() <= Level::WARN;
    is_our_span(metadata) || wrong && metadata.target().starts_with("weft")
}

/// The ids of the span that an event is in: of its own where it says one, as the end of a span does.
fn ids<S, N>(context: &FmtContext<'_, S, N>, event: &Event<'_>) -> Option<Ids>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    if event.is_contextual() {
        return Ids::current();
    }
    context.parent_span().and_then(|span| Ids::of(&span))
}

/// A line with the ids at its end.
struct WithIds<F> {
    line: F,
    format: Format,
}

impl<S, N, F> FormatEvent<S, N> for WithIds<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.line.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end();
        let Some(Ids { own, parent }) = ids(context, event) else {
            return writeln!(writer, "{line}");
        };
        let (trace, span) = (own.trace_id, own.span_id);
        match self.format {
            Format::Text => {
                write!(writer, "{line} trace_id={trace:032x} span_id={span:016x}")?;
                parent.map_or(Ok(()), |parent| write!(writer, " parent_id={parent:016x}"))?;
                writeln!(writer)
            }
            Format::Json => {
                let object = line.strip_suffix('}').unwrap_or(line);
                write!(writer, r#"{object},"trace_id":"{trace:032x}","span_id":"{span:016x}""#)?;
                parent
                    .map_or(Ok(()), |parent| write!(writer, r#","parent_id":"{parent:016x}""#))?;
                writeln!(writer, "}}")
            }
        }
    }
}
