//! Invariants that an operator saw violated, counted over all of its lives.
//!
//! What the defences of the cluster refuse is no violation: a write of a deposed leader that the fence stops, an agent that waits
//! for an operator to catch up. What is counted is what must never have come to be.
//!
//! | id | counted when |
//! |---|---|
//! | `OneNumber`, `NoReuse` | a committed entry gives a number that it must not ([`weft_state::ClusterState::violations`]) |
//! | `OneLeader` | a second member leads in a term that another was seen to lead in |
//! | `StoreFirst` | the store lacks a number that the log has: it is an older copy. The operator ends |
//! | `NothingLost` | an agent has what an operator published that is alone, and it has not: its log was lost, or is an older copy |
//! | `NeverBack` | an agent says that its kernel holds an older revision than it said before |
//! | `NobodyFails` | the member cannot go on, or not begin, for what is in its log or its peers say. The operator ends |
//!
//! What another release wrote is none of these, nor is a disk that fails.
//!
//! The others nobody sees who is part of it: the simulator alone, which looks at all at once.

use prometheus_client::metrics::{counter::Counter, family::Family};
use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use weft_types::Invariant;

/// What an operator can see.
const SEEN: [Invariant; 7] = [
    Invariant::OneNumber,
    Invariant::NoReuse,
    Invariant::OneLeader,
    Invariant::StoreFirst,
    Invariant::NothingLost,
    Invariant::NeverBack,
    Invariant::NobodyFails,
];

/// The file in the state folder: what is worst ends the operator, and its next life counts on.
const FILE: &str = "violations";

type Id = [(&'static str, String); 1];

/// Counts by id, each of them there from the beginning.
#[derive(Debug)]
pub struct Violations {
    counts: Family<Id, Counter>,
    /// Those of the lives before.
    before: BTreeMap<Invariant, u64>,
    /// None where nothing is kept.
    file: Mutex<Option<PathBuf>>,
}

impl Default for Violations {
    fn default() -> Self {
        Self::of(BTreeMap::new(), None)
    }
}

impl Violations {
    /// Those of the lives before in a folder, and what comes. What cannot be read there is said, and counted anew.
    pub fn kept_in(state_dir: &Path) -> Self {
        let file = state_dir.join(FILE);
        let text = fs::read_to_string(&file).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(file = %file.display(), %error, "violations of the lives before are not known");
            }
            String::new()
        });
        Self::of(text.lines().filter_map(parse).collect(), Some(file))
    }

    fn of(before: BTreeMap<Invariant, u64>, file: Option<PathBuf>) -> Self {
        let counts = Family::<Id, Counter>::default();
        for invariant in SEEN {
            let count = before.get(&invariant).copied().unwrap_or_default();
            counts.get_or_create(&id(invariant)).inc_by(count);
        }
        Self { counts, before, file: Mutex::new(file) }
    }

    /// What a registry renders.
    pub(crate) fn family(&self) -> Family<Id, Counter> {
        self.counts.clone()
    }

    /// One did not hold. What is seen a thousand times a second costs nothing: it is logged, and kept, the first, second,
    /// fourth, eighth… time of a life.
    pub fn saw(&self, invariant: Invariant, seen: impl fmt::Display) {
        let before = self.before.get(&invariant).copied().unwrap_or_default();
        let count = (self.counts.get_or_create(&id(invariant)).inc() - before).saturating_add(1);
        if count.is_power_of_two() {
            tracing::error!(%invariant, count, "an invariant does not hold: {seen}");
            if let Err(error) = self.keep() {
                tracing::warn!(%error, "keep what was violated: the next life does not know of it");
            }
        }
    }

    fn keep(&self) -> io::Result<()> {
        // Actors and the log's thread see things.
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &*file else { return Ok(()) };
        let mut text = String::new();
        for invariant in SEEN {
            let count = self.counts.get_or_create(&id(invariant)).get();
            // Writing to a string does not fail.
            _ = writeln!(text, "{invariant} {count}");
        }
        let new = file.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(&new, file)
    }
}

impl Drop for Violations {
    /// What was seen since it was kept last.
    fn drop(&mut self) {
        let count = |invariant| self.counts.get_or_create(&id(invariant)).get();
        let of_before = |invariant| self.before.get(&invariant).copied().unwrap_or_default();
        if SEEN.into_iter().any(|invariant| count(invariant) != of_before(invariant)) {
            // Nobody is left to be told that it is lost.
            drop(self.keep());
        }
    }
}

fn id(invariant: Invariant) -> Id {
    [("invariant", invariant.to_string())]
}

fn parse(line: &str) -> Option<(Invariant, u64)> {
    let (name, count) = line.split_once(' ')?;
    let invariant = SEEN.into_iter().find(|invariant| invariant.to_string() == name)?;
    Some((invariant, count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    fn count(violations: &Violations, invariant: Invariant) -> u64 {
        violations.counts.get_or_create(&id(invariant)).get()
    }

    #[test]
    fn the_next_life_counts_on() {
        let folder = tempfile::tempdir().unwrap();
        for life in 1..=5 {
            let violations = Violations::kept_in(folder.path());
            for time in 1..=3 {
                violations.saw(Invariant::StoreFirst, "it is not there");
                assert_eq!(count(&violations, Invariant::StoreFirst), 3 * (life - 1) + time);
            }
            assert_eq!(count(&violations, Invariant::OneLeader), 0);
        }
    }

    #[test]
    fn what_cannot_be_read_is_counted_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        fs::write(&file, "StoreFirst 3\nOfALaterRelease 7\nNeverBack many\n").unwrap();
        let violations = Violations::kept_in(folder.path());
        assert_eq!(count(&violations, Invariant::StoreFirst), 3);
        assert_eq!(count(&violations, Invariant::NeverBack), 0);
        fs::write(&file, [0xff, 0xfe]).unwrap();
        assert_eq!(count(&Violations::kept_in(folder.path()), Invariant::StoreFirst), 0);
    }
}
