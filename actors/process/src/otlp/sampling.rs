//! Which traces are recorded: decided where one begins, carried in its W3C flags, and heeded by whoever continues it.

use crate::trace::SAMPLED;
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{SamplingDecision, ShouldSample};
use std::sync::OnceLock;
use weft_types::TraceContext;

/// `OTEL_TRACES_SAMPLER`; none where spans go nowhere.
static SAMPLER: OnceLock<Box<dyn ShouldSample>> = OnceLock::new();

pub(crate) fn start(sampler: Box<dyn ShouldSample>) {
    // The first one holds for the life of the process, as its environment does.
    drop(SAMPLER.set(sampler));
}

/// The context with the flags that it has here, below this parent. Where spans go nowhere others decide.
pub(crate) fn decided(context: TraceContext, parent: Option<TraceContext>) -> TraceContext {
    SAMPLER.get().map_or(context, |sampler| by(&**sampler, context, parent))
}

/// The context of a trace that began in a process that sends no spans itself, decided here in its stead.
pub fn root(context: TraceContext) -> TraceContext {
    decided(context, None)
}

fn by(
    sampler: &dyn ShouldSample,
    context: TraceContext,
    parent: Option<TraceContext>,
) -> TraceContext {
    let parent =
        parent.map(|parent| Context::new().with_remote_span_context(outside(parent, true)));
    let trace = TraceId::from(context.trace_id);
    let result = sampler.should_sample(parent.as_ref(), trace, "", &SpanKind::Internal, &[], &[]);
    let flags = match result.decision {
        SamplingDecision::RecordAndSample => context.flags | SAMPLED,
        SamplingDecision::Drop | SamplingDecision::RecordOnly => context.flags & !SAMPLED,
    };
    TraceContext { flags, ..context }
}

/// A context in OpenTelemetry's words.
pub(crate) fn outside(context: TraceContext, is_remote: bool) -> SpanContext {
    let (trace, span) = (TraceId::from(context.trace_id), SpanId::from(context.span_id));
    SpanContext::new(trace, span, TraceFlags::new(context.flags), is_remote, TraceState::NONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_sdk::trace::Sampler;

    #[test]
    fn who_continues_a_trace_heeds_what_was_decided_where_it_began() {
        let context = |flags| TraceContext { trace_id: u128::MAX, span_id: 1, flags };
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
            let decided = by(&sampler, context(1), parent.map(context));
            assert_eq!(decided.flags, flags, "{sampler:?} below {parent:?}");
        }
    }
}
