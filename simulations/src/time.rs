//! Virtual time, in microseconds from the beginning of a run.

use std::{fmt, ops::Add, time::Duration};

/// A moment, or a length of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Micros(pub(crate) u64);

impl Micros {
    pub(crate) const fn millis(millis: u64) -> Self {
        Self(millis * 1000)
    }

    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1_000_000)
    }

    /// What the shipped programs wait.
    pub(crate) const fn of(time: Duration) -> Self {
        Self(time.as_secs() * 1_000_000 + time.subsec_micros() as u64)
    }
}

impl Add for Micros {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// A stretch of milliseconds out of which times are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub(crate) struct Millis(pub(crate) u64, pub(crate) u64);

impl Millis {
    pub(crate) fn draw(self, rng: &mut fastrand::Rng) -> Micros {
        Micros(rng.u64(self.0 * 1000..=self.1.max(self.0) * 1000))
    }
}
