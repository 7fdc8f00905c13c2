//! The layer that makes OpenTelemetry's spans of ours, with the ids that the log's lines have.

use super::{queue::Queue, sampling::outside};
use crate::trace::{Ids, SAMPLED};
use opentelemetry::{
    InstrumentationScope, KeyValue, Value,
    trace::{SpanId, SpanKind, Status},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use std::{
    fmt::Debug,
    time::{Duration, SystemTime},
};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// Hands spans that ended to the queue.
pub(crate) struct Spans {
    queue: Queue,
    scope: InstrumentationScope,
}

/// A span's own times, where it tells of what is over when it is made: nanoseconds since 1970, as fields of these names.
const BEGUN: &str = "begun_ns";
const ENDED: &str = "ended_ns";

/// A span that is open.
struct Open {
    begun: SystemTime,
    ended: Option<SystemTime>,
    attributes: Vec<KeyValue>,
    events: SpanEvents,
    status: Status,
}

impl Spans {
    pub(crate) fn new(queue: Queue) -> Self {
        let scope = InstrumentationScope::builder("weft").with_version(env!("CARGO_PKG_VERSION"));
        Self { queue, scope: scope.build() }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut open = Open {
            begun: SystemTime::now(),
            ended: None,
            attributes: Vec::new(),
            events: SpanEvents::default(),
            status: Status::Unset,
        };
        attributes.record(&mut open);
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            values.record(open);
        }
    }

    /// What went wrong within a span is told with it.
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(span) = context.event_span(event) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            let mut told = Told::default();
            event.record(&mut told);
            if *event.metadata().level() == Level::ERROR {
                open.status = Status::error(told.message.clone());
            }
            let event = opentelemetry::trace::Event::new(
                told.message,
                SystemTime::now(),
                told.attributes,
                0,
            );
            open.events.events.push(event);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let ids = Ids::of(&span);
        let (Some(ids), Some(open)) = (ids, span.extensions_mut().remove::<Open>()) else { return };
        if ids.own.flags & SAMPLED == 0 {
            return;
        }
        self.queue.push(SpanData {
            span_context: outside(ids.own, false),
            parent_span_id: ids.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: ids.parent.is_some() && span.parent().is_none(),
            span_kind: SpanKind::Internal,
            name: span.name().into(),
            start_time: open.begun,
            end_time: open.ended.unwrap_or_else(SystemTime::now),
            attributes: open.attributes,
            dropped_attributes_count: 0,
            events: open.events,
            links: SpanLinks::default(),
            status: open.status,
            instrumentation_scope: self.scope.clone(),
        });
    }
}

impl Open {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        self.attributes.push(KeyValue::new(field.name(), value));
    }
}

impl Visit for Open {
    fn record_u64(&mut self, field: &Field, value: u64) {
        let moment = || SystemTime::UNIX_EPOCH + Duration::from_nanos(value);
        match field.name() {
            BEGUN => self.begun = moment(),
            ENDED => self.ended = Some(moment()),
            _ => self.add(field, i64::try_from(value).unwrap_or(i64::MAX)),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, format!("{value:?}"));
    }
}

/// A line within a span.
#[derive(Default)]
struct Told {
    message: String,
    attributes: Vec<KeyValue>,
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => self.attributes.push(KeyValue::new(name, text)),
        }
    }
}
