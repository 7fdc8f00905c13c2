//! Chance with a seed that is printed, so that what happened once can be tried again.
#![allow(clippy::print_stderr, reason = "what tests share; the seed is for people")]

use std::{
    ops::Range,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A sequence of numbers that follows from its seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Of the seed in `WEFT_SEED`, or of one of this moment; says which.
    pub fn of(test: &str) -> Self {
        let told = std::env::var("WEFT_SEED").ok().and_then(|text| text.parse().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = told.unwrap_or_else(|| u64::from(now.subsec_nanos()) ^ now.as_secs());
        eprintln!("{test}: WEFT_SEED={seed}");
        Self(seed)
    }

    /// Of this seed.
    pub fn from(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A time of a range, which is not empty, in milliseconds.
    pub fn time(&mut self, range: &Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.number() % (range.end - range.start))
    }

    /// One of these.
    pub fn one_of<'a, T: ?Sized>(&mut self, these: &[&'a T]) -> &'a T {
        let at = usize::try_from(self.number() % these.len() as u64).unwrap_or_default();
        these.get(at).copied().unwrap_or_else(|| unreachable!("{at} of {}", these.len()))
    }
}
