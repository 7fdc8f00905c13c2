//! Spans with W3C ids: a span's parent may be in another process.
//!
//! [`SpanIds`] gives every span its id beside it in the registry, so a span costs two random numbers and no text.
//! A context that came with a message becomes a span's parent by [`adopt`]; one that goes with a message is [`current`].

use crate::otlp;
use tracing::{
    Span, Subscriber,
    span::{Attributes, Id},
};
use tracing_subscriber::{
    Layer, Registry,
    layer::Context,
    registry::{LookupSpan, SpanRef},
};
use weft_types::TraceContext;

/// Spans that are never another's parent, one for each node and revision.
pub(crate) const LEAVES: [&str; 2] = ["push", "acknowledge"];
/// W3C flag: somebody records this trace.
const SAMPLED: u8 = 1;

/// What a span is called outside of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) own: TraceContext,
    pub(crate) parent: Option<u64>,
}

impl Ids {
    fn child_of(parent: TraceContext) -> Self {
        let own = TraceContext { span_id: fastrand::u64(1..), ..parent };
        Self { own, parent: Some(parent.span_id) }
    }

    fn root() -> Self {
        let (trace_id, span_id) = (fastrand::u128(1..), fastrand::u64(1..));
        Self { own: TraceContext { trace_id, span_id, flags: SAMPLED }, parent: None }
    }

    pub(crate) fn of<S: for<'a> LookupSpan<'a>>(span: &SpanRef<'_, S>) -> Option<Self> {
        span.extensions().get::<Self>().copied()
    }

    /// Those of the span that is entered here, whether or not its level is logged.
    pub(crate) fn current() -> Option<Self> {
        look(&Span::current(), |span| Self::of(&span)).flatten()
    }
}

/// The context that goes with a message: that of the span that is entered.
pub fn current() -> Option<TraceContext> {
    of(&Span::current())
}

/// A span's own context.
pub fn of(span: &Span) -> Option<TraceContext> {
    let own = look(span, |span| Ids::of(&span)).flatten()?.own;
    // Where spans go to a collector its sampler decides; else others do.
    Some(TraceContext { flags: otlp::flags(span).unwrap_or(own.flags), ..own })
}

/// Makes a new span the child of what a message brought, in this process or another. Before it has children itself.
pub fn adopt(span: Span, cause: Option<TraceContext>) -> Span {
    if let (Some(cause), Some(ids)) = (cause, look(&span, |span| Ids::of(&span)).flatten()) {
        let own = TraceContext { span_id: ids.own.span_id, ..cause };
        replace(&span, Ids { own, parent: Some(cause.span_id) });
    }
    span
}

/// Makes a new span that of another process, which has this context and parent and tells nobody of it itself.
pub fn stand_for(span: Span, own: TraceContext, parent: Option<u64>) -> Span {
    otlp::rename(&span, own);
    replace(&span, Ids { own, parent });
    span
}

fn replace(span: &Span, ids: Ids) {
    if let Some(span_id) = ids.parent {
        otlp::below(span, TraceContext { span_id, ..ids.own });
    }
    look(span, |span| _ = span.extensions_mut().replace(ids));
}

/// The context in `TRACEPARENT`, by which whoever starts a program continues a trace in it.
pub fn from_environment() -> Option<TraceContext> {
    std::env::var("TRACEPARENT").ok()?.parse().ok()
}

fn look<T>(span: &Span, what: impl FnOnce(SpanRef<'_, Registry>) -> T) -> Option<T> {
    let found = span.with_subscriber(|(id, dispatch)| {
        dispatch.downcast_ref::<Registry>().and_then(|registry| registry.span(id)).map(what)
    });
    found.flatten()
}

/// Gives each span its ids.
pub(crate) struct SpanIds;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanIds {
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let parent = span.parent().and_then(|parent| Ids::of(&parent));
        let ids = parent.map_or_else(Ids::root, |parent| Ids::child_of(parent.own));
        otlp::is_next(ids.own);
        span.extensions_mut().insert(ids);
    }
}
