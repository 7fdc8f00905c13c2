//! How soon it is looked again for what the kernel is about to do.

use std::time::Duration;

/// The first is for what takes some microseconds; who still waits leaves the CPU to whoever is to do it.
const SHORTEST: Duration = Duration::from_micros(20);
const LONGEST: Duration = Duration::from_millis(1);

/// Pauses between looks, each a quarter longer than the one before: what happens is seen at most that much later.
pub(crate) struct Glances(Duration);

impl Glances {
    /// From the shortest on.
    pub(crate) fn new() -> Self {
        Self(SHORTEST)
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let longer = LONGEST.min(self.0 * 5 / 4);
        std::mem::replace(&mut self.0, longer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_millisecond() {
        let mut glances = Glances::new();
        let micros: Vec<u128> = (0..6).map(|_| glances.pause().as_micros()).collect();
        assert_eq!(micros, [20, 25, 31, 39, 48, 61]);
        let last = (0..15).map(|_| glances.pause()).last();
        assert_eq!(last, Some(LONGEST));
    }
}
