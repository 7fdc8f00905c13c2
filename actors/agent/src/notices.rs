//! What went wrong and was dealt with, or is counted and goes on: `weft status` tells it for a while after it was seen last.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long it is told: for as long as someone may take who looks because of it. Metrics count it for good.
const TOLD: Duration = Duration::from_secs(10 * 60);

/// The last notice of each subject. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Notices(Arc<Mutex<BTreeMap<&'static str, (Instant, String)>>>);

impl Notices {
    /// Something about a subject, in the place of what was told of it before.
    pub fn tell(&self, now: Instant, subject: &'static str, what: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(subject, (now, what));
    }

    /// What was told lately, each with how long ago.
    pub fn recent(&self, now: Instant) -> Vec<String> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |at: &Instant| now.saturating_duration_since(*at);
        told.values()
            .filter(|(at, _)| since(at) < TOLD)
            .map(|(at, what)| format!("{what} ({} s ago)", since(at).as_secs()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_subject_is_told_for_a_while() {
        let (notices, begun) = (Notices::default(), Instant::now());
        let after = |seconds| begun + Duration::from_secs(seconds);
        notices.tell(begun, "a", "first".to_owned());
        notices.clone().tell(after(5), "b", "other".to_owned());
        notices.tell(after(7), "a", "second".to_owned());
        assert_eq!(notices.recent(after(9)), ["second (2 s ago)", "other (4 s ago)"]);
        assert_eq!(notices.recent(after(606)), ["second (599 s ago)"]);
        assert!(notices.recent(after(607)).is_empty());
    }
}
