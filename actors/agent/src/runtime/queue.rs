//! How long messages waited in mailboxes.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use std::time::Duration;

/// Whose mailbox, and which message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Queue {
    actor: &'static str,
    message: &'static str,
}

/// `queue_seconds{actor,message}`: the time between sending and serving.
#[derive(Clone, Debug)]
pub struct Queues(Family<Queue, Histogram>);

impl Default for Queues {
    fn default() -> Self {
        // From 2 microseconds, about what crossing an arbiter takes, to 2 seconds.
        Self(Family::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.000_002, 4.0, 11))
        }))
    }
}

impl Queues {
    pub(super) fn waited(&self, actor: &'static str, message: &'static str, time: Duration) {
        self.0.get_or_create(&Queue { actor, message }).observe(time.as_secs_f64());
    }

    /// Has a registry render them.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Time that messages waited in mailboxes, by actor and message";
        registry.register_with_unit("queue", help, Unit::Seconds, self.0.clone());
    }
}
