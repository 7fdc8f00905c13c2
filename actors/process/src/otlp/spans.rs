//! The layer that makes OpenTelemetry's spans of ours: `tracing-opentelemetry`, with the ids that the log's lines have.
//!
//! A span's ids are made by [`SpanIds`](crate::trace::SpanIds), with or without a collector. `tracing-opentelemetry` asks our [`Tracer`]
//! for a builder when the span is made and for the SDK's span later, maybe on another thread: between the two the ids
//! travel in the builder as its last link, and the SDK, which takes ids from a generator alone, finds them there.

use opentelemetry::{
    Context, KeyValue,
    trace::{
        Link, Span as _, SpanBuilder, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId,
        TraceState,
    },
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracer, Span as SdkSpan};
use std::{
    borrow::Cow,
    cell::Cell,
    time::{Duration, SystemTime},
};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::registry::LookupSpan;
use weft_types::TraceContext;

/// A span's own times, where it tells of what is over when it is made: nanoseconds since 1970, as fields of these names.
const BEGUN: &str = "begun_ns";
const ENDED: &str = "ended_ns";

thread_local! {
    /// The ids of the span that this thread makes next.
    static NEXT: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Hands spans that ended to the SDK. What they say of themselves is their fields, and no place in our code.
pub(crate) fn layer<S>(tracer: SdkTracer) -> OpenTelemetryLayer<S, Tracer>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    // Who is the parent is what the registry says, so nothing needs to be done when a span is entered.
    OpenTelemetryLayer::new(Tracer(tracer))
        .with_context_activation(false)
        .with_tracked_inactivity(false)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
}

/// Says what the span is called that the layer is told of next.
pub(crate) fn is_next(own: TraceContext) {
    NEXT.set(Some((TraceId::from(own.trace_id), SpanId::from(own.span_id))));
}

/// The span is another's child. Before it has children or was asked for its flags.
pub(crate) fn below(span: &Span, cause: TraceContext) {
    // Without a collector there is nobody to tell.
    drop(span.set_parent(Context::new().with_remote_span_context(outside(cause, true))));
}

/// The span is called otherwise than it was when it was made.
pub(crate) fn rename(span: &Span, own: TraceContext) {
    span.add_link(outside(own, false));
}

/// The W3C flags that the sampler gave a span; none without a collector.
pub(crate) fn flags(span: &Span) -> Option<u8> {
    let context = span.context();
    let own = context.span().span_context().clone();
    own.is_valid().then(|| own.trace_flags().to_u8())
}

/// A context in OpenTelemetry's words.
fn outside(context: TraceContext, is_remote: bool) -> SpanContext {
    let (trace, span) = (TraceId::from(context.trace_id), SpanId::from(context.span_id));
    SpanContext::new(trace, span, TraceFlags::new(context.flags), is_remote, TraceState::NONE)
}

/// The SDK's, told of our ids and times.
#[derive(Debug)]
pub(crate) struct Tracer(SdkTracer);

impl opentelemetry::trace::Tracer for Tracer {
    type Span = SdkSpan;

    fn span_builder<T: Into<Cow<'static, str>>>(&self, name: T) -> SpanBuilder {
        let link = |(trace, span)| {
            SpanContext::new(trace, span, TraceFlags::NOT_SAMPLED, false, TraceState::NONE)
        };
        let own = NEXT.take().map(|own| Link::with_context(link(own)));
        SpanBuilder::from_name(name).with_links(own.into_iter().collect())
    }

    fn build_with_context(&self, mut builder: SpanBuilder, parent: &Context) -> SdkSpan {
        let own =
            builder.links.take().and_then(|mut links| links.pop()).map(|own| own.span_context);
        // A parent may be made in the midst of its child.
        let others = NEXT.replace(own.map(|own| (own.trace_id(), own.span_id())));
        let attributes = builder.attributes.get_or_insert_default();
        let (begun, ended) = (moment(attributes, BEGUN), moment(attributes, ENDED));
        builder.start_time = begun.or(builder.start_time);
        let mut span = self.0.build_with_context(builder, parent);
        NEXT.set(others);
        if let Some(ended) = ended {
            span.end_with_timestamp(ended);
        }
        span
    }
}

/// Takes a moment out of a span's attributes.
fn moment(attributes: &mut Vec<KeyValue>, name: &str) -> Option<SystemTime> {
    let at = attributes.iter().position(|attribute| attribute.key.as_str() == name)?;
    let nanos = attributes.swap_remove(at).value.as_str().parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanos))
}

/// The ids that [`Tracer`] was told of.
#[derive(Debug, Default)]
pub(crate) struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(|| self.0.new_span_id(), |(_, span)| span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{self, SpanIds};
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::{
        error::OTelSdkResult,
        trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter},
    };
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;

    /// Keeps what it is given.
    #[derive(Clone, Debug, Default)]
    struct Given(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Given {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    /// What a collector is given of the spans that this makes.
    fn given(sampler: Sampler, make: impl FnOnce()) -> Vec<SpanData> {
        let given = Given::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_id_generator(Ids::default())
            .with_simple_exporter(given.clone())
            .build();
        let layers = tracing_subscriber::registry().with(SpanIds).with(layer(provider.tracer("")));
        tracing::subscriber::with_default(layers, make);
        std::mem::take(&mut given.0.lock().unwrap())
    }

    fn context(trace_id: u128, span_id: u64, flags: u8) -> TraceContext {
        TraceContext { trace_id, span_id, flags }
    }

    #[test]
    fn a_collector_is_given_the_ids_that_the_log_has() {
        let mut expected = Vec::new();
        let spans = given(Sampler::AlwaysOn, || {
            let mut told = |name, own: TraceContext, parent| {
                expected.push((name, outside(own, false), SpanId::from(parent)));
                own
            };
            let id = |span: &Span| trace::of(span).unwrap();
            let root = tracing::info_span!("root");
            root.in_scope(|| {
                // Its parent is made in its midst, and before anybody asked for it.
                let child = tracing::info_span!("child");
                let grandchild = tracing::info_span!(parent: &child, "grandchild");
                told("grandchild", id(&grandchild), id(&child).span_id);
                told("child", id(&child), id(&root).span_id);
                let cause = context(7, 8, 1);
                let adopted = trace::adopt(tracing::info_span!("adopted"), Some(cause));
                assert_eq!(told("adopted", id(&adopted), 8).trace_id, 7);
                let own = context(9, 10, 1);
                let other = trace::stand_for(tracing::info_span!(parent: None, "other"), own, None);
                assert_eq!(told("other", id(&other), 0), own);
                let under = trace::adopt(tracing::info_span!(parent: None, "under"), Some(own));
                told("under", id(&under), 10);
                let own = context(9, 11, 1);
                let third =
                    trace::stand_for(tracing::info_span!(parent: None, "third"), own, Some(10));
                assert_eq!(told("third", id(&third), 10), own);
            });
            told("root", id(&root), 0);
        });
        let mut told: Vec<_> = spans
            .iter()
            .map(|it| (&*it.name, it.span_context.clone(), it.parent_span_id))
            .collect();
        told.sort_by_key(|(name, ..)| *name);
        expected.sort_by_key(|(name, ..)| *name);
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_over_has_its_own_times() {
        let spans = given(Sampler::AlwaysOn, || {
            drop(tracing::info_span!("moment", begun_ns = 5_u64, ended_ns = 5_u64, what = "x"));
            drop(tracing::info_span!("since", begun_ns = 5_u64));
        });
        let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(5);
        let [moment, since] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((moment.start_time, moment.end_time), (at, at));
        assert_eq!(moment.attributes, [KeyValue::new("what", "x")]);
        assert!(since.start_time == at && since.end_time > at, "{since:?}");
    }

    #[test]
    fn who_continues_a_trace_heeds_what_was_decided_where_it_began() {
        let parent_based = |root| Sampler::ParentBased(Box::new(root));
        for (sampler, parent, flags) in [
            (parent_based(Sampler::AlwaysOn), None, 1),
            (parent_based(Sampler::AlwaysOn), Some(0), 0),
            (parent_based(Sampler::AlwaysOff), Some(1), 1),
            (parent_based(Sampler::AlwaysOff), None, 0),
            (parent_based(Sampler::TraceIdRatioBased(0.0)), None, 0),
            (Sampler::AlwaysOff, Some(1), 0),
            (Sampler::AlwaysOn, Some(0), 1),
        ] {
            let what = format!("{sampler:?} below {parent:?}");
            let spans = given(sampler, || {
                let cause = parent.map(|flags| context(u128::MAX, 1, flags));
                let span = trace::adopt(tracing::info_span!("span"), cause);
                assert_eq!(trace::of(&span).unwrap().flags, flags, "{what}");
                let child = tracing::info_span!(parent: &span, "child");
                assert_eq!(trace::of(&child).unwrap().flags, flags, "a child of {what}");
            });
            assert_eq!(spans.len(), if flags == 1 { 2 } else { 0 }, "{what}");
        }
    }

    #[test]
    fn without_a_collector_spans_have_ids_too() {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(SpanIds), || {
            let span = tracing::info_span!("span");
            let cause = context(7, 8, 0);
            let adopted = trace::adopt(tracing::info_span!("adopted"), Some(cause));
            let (own, under) = (trace::of(&span).unwrap(), trace::of(&adopted).unwrap());
            assert!(own.trace_id != 0 && own.span_id != 0 && own.flags == 1, "{own:?}");
            assert_eq!((under.trace_id, under.flags), (7, 0));
            assert!(under.span_id != 8 && under.span_id != 0, "{under:?}");
        });
    }
}
