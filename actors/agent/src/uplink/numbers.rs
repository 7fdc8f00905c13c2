//! The numbers of this agent's sessions, by which operators tell which of two is the newer.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// Counts up over all lives of the uplink, and over those of the agent as long as the clock does: when it does not, an
/// operator says what was used.
#[derive(Debug, Default)]
pub struct SessionNumbers(AtomicU64);

impl SessionNumbers {
    /// Higher than any before.
    pub fn next(&self) -> u64 {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = u64::try_from(clock.as_micros()).unwrap_or(u64::MAX);
        let before = self.0.fetch_max(clock, Ordering::Relaxed);
        if before < clock { clock } else { self.0.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// All up to this one were used.
    pub fn used(&self, number: u64) {
        self.0.fetch_max(number, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_higher_than_all_that_were_used_whatever_the_clock_says() {
        let numbers = SessionNumbers::default();
        let first = numbers.next();
        assert!(first > 1_700_000_000_000_000, "microseconds since 1970");
        assert!(numbers.next() > first);
        let ahead = first + 3_600_000_000;
        numbers.used(ahead);
        assert_eq!((numbers.next(), numbers.next()), (ahead + 1, ahead + 2));
        numbers.used(first);
        assert_eq!(numbers.next(), ahead + 3);
    }
}
