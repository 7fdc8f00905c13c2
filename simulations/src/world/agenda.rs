//! What will happen, in the order of time.

use super::event::Event;
use crate::time::Micros;
use std::{cmp::Reverse, collections::BinaryHeap};

/// When: of what is due at one time, what was added first is first.
pub(super) type When = (Micros, u64);

/// All that will happen.
#[derive(Default)]
pub(super) struct Agenda(BinaryHeap<Due>);

/// An event, apart from its place: places are moved often, and events are large.
struct Due(Reverse<When>, Box<Event>);

impl Agenda {
    /// Something will happen; no two things at one place.
    pub(super) fn add(&mut self, when: When, event: Event) {
        self.0.push(Due(Reverse(when), Box::new(event)));
    }

    /// What happens next, unless that is after a time.
    pub(super) fn next_until(&mut self, end: Micros) -> Option<(When, Event)> {
        self.0.peek().filter(|due| due.0.0.0 <= end)?;
        self.0.pop().map(|Due(Reverse(when), event)| (when, *event))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
