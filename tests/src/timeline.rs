//! Which verdicts were possible when. While a change is on its way, both the state before it and the one after it may be
//! met, and each end of a connection by itself; once it was acknowledged, the new one alone.
//!
//! | event | possible from then on |
//! |---|---|
//! | a change begins | what was, and what it brings |
//! | the change is acknowledged | what it brought |
//! | another begins before that | all of these, until one is acknowledged: the newest |
//!
//! What was seen has a time of its own: a packet was judged some time between its sending and its answer's coming.

use crate::oracle::Answer;
use std::collections::BTreeMap;

/// Who speaks to whom over which protocol.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// A pod.
    pub from: String,
    /// A pod.
    pub to: String,
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
}

/// What a state of the cluster says of everyone in it. Who is not in it may not, and is not there to answer.
pub type Verdicts = BTreeMap<Question, Answer>;

/// What a probe saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// An answer.
    Passed,
    /// None, though it was asked again and again for longer than any answer takes.
    Missing,
    /// A packet that a policy of its source kept in.
    KeptIn,
    /// A packet that a policy of its destination kept out.
    KeptOut,
}

/// What was seen and no state explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Of whom.
    pub question: Question,
    /// What.
    pub seen: Seen,
    /// What the states that were possible said of it, the oldest first.
    pub said: Vec<Option<Answer>>,
}

/// States and when each was possible, over any clock.
#[derive(Clone, Debug)]
pub struct Timeline<T>(Vec<Spell<T>>);

#[derive(Clone, Debug)]
struct Spell<T> {
    verdicts: Verdicts,
    begun: T,
    ended: Option<T>,
}

impl<T: Ord + Copy> Timeline<T> {
    /// Begins with a state that is known to be in force.
    pub fn new(verdicts: Verdicts, now: T) -> Self {
        Self(vec![Spell { verdicts, begun: now, ended: None }])
    }

    /// A change is about to be made.
    pub fn begins(&mut self, verdicts: Verdicts, now: T) {
        self.0.push(Spell { verdicts, begun: now, ended: None });
    }

    /// What began last is in force, everywhere.
    pub fn settles(&mut self, now: T) {
        let before = self.0.len().saturating_sub(1);
        self.0.iter_mut().take(before).for_each(|spell| {
            spell.ended.get_or_insert(now);
        });
    }

    /// Nobody will ask about what was over by then.
    pub fn forget(&mut self, before: T) {
        self.0.retain(|spell| spell.ended.is_none_or(|ended| ended >= before));
    }

    /// Whether some state explains what was seen between two moments.
    ///
    /// # Errors
    /// When none does.
    pub fn judge(&self, question: &Question, seen: Seen, between: (T, T)) -> Result<(), Violation> {
        let said: Vec<Option<Answer>> = self
            .0
            .iter()
            .filter(|spell| spell.begun <= between.1)
            .filter(|spell| spell.ended.is_none_or(|ended| ended >= between.0))
            .map(|spell| spell.verdicts.get(question).copied())
            .collect();
        let any = |says: fn(Answer) -> bool| said.iter().any(|answer| answer.is_some_and(says));
        let explained = match seen {
            Seen::Passed => any(|answer| answer.egress) && any(|answer| answer.ingress),
            Seen::Missing => !said.iter().all(|answer| answer.is_some_and(Answer::allowed)),
            Seen::KeptIn => !said.iter().all(|answer| answer.is_some_and(|answer| answer.egress)),
            Seen::KeptOut => !said.iter().all(|answer| answer.is_some_and(|answer| answer.ingress)),
        };
        let violation = || Violation { question: question.clone(), seen, said: said.clone() };
        if explained { Ok(()) } else { Err(violation()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Seen::{KeptIn, KeptOut, Missing, Passed};

    fn question() -> Question {
        Question { from: "x/a".to_owned(), to: "x/b".to_owned(), protocol: "UDP" }
    }

    fn says(egress: bool, ingress: bool) -> Verdicts {
        [(question(), Answer { egress, ingress })].into()
    }

    fn open() -> Verdicts {
        says(true, true)
    }

    /// Open until 10, when a change to closed begins that is acknowledged at 20; one to open from 30 to 40.
    fn closed_and_opened() -> Timeline<u64> {
        let mut timeline = Timeline::new(open(), 0);
        timeline.begins(says(true, false), 10);
        timeline.settles(20);
        timeline.begins(open(), 30);
        timeline.settles(40);
        timeline
    }

    #[test]
    fn each_moment_has_its_states() {
        // (seen, from, to) and whether it is explained.
        for (seen, from, to, explained) in [
            (Passed, 0, 5, true),
            (Missing, 0, 9, false),
            (Missing, 0, 10, true),
            (Passed, 10, 20, true),
            (Passed, 20, 21, true),
            (Passed, 21, 29, false),
            (Passed, 21, 30, true),
            (Missing, 21, 50, true),
            (Missing, 39, 60, true),
            (Missing, 41, 60, false),
            (Passed, 41, 60, true),
            (KeptOut, 0, 9, false),
            (KeptOut, 9, 10, true),
            (KeptOut, 21, 29, true),
            (KeptOut, 40, 40, true),
            (KeptOut, 41, 42, false),
            (KeptIn, 21, 29, false),
        ] {
            let judged = closed_and_opened().judge(&question(), seen, (from, to));
            assert_eq!(judged.is_ok(), explained, "{seen:?} {from}..{to}: {judged:?}");
        }
    }

    #[test]
    fn each_end_changes_by_itself() {
        let mut timeline = Timeline::new(says(false, true), 0);
        assert!(timeline.judge(&question(), Passed, (1, 2)).is_err());
        assert!(timeline.judge(&question(), KeptIn, (1, 2)).is_ok());
        assert!(timeline.judge(&question(), KeptOut, (1, 2)).is_err());
        timeline.begins(says(true, false), 10);
        assert!(
            timeline.judge(&question(), Passed, (11, 12)).is_ok(),
            "out by the new, in by the old"
        );
        timeline.settles(20);
        assert!(timeline.judge(&question(), Passed, (21, 22)).is_err());
    }

    #[test]
    fn what_was_never_acknowledged_stays_possible_until_a_later_one_is() {
        let mut timeline = Timeline::new(open(), 0);
        timeline.begins(says(false, false), 10);
        timeline.begins(says(true, false), 20);
        for seen in [Passed, Missing] {
            assert!(timeline.judge(&question(), seen, (100, 101)).is_ok(), "{seen:?}");
        }
        timeline.settles(110);
        assert!(timeline.judge(&question(), Passed, (111, 112)).is_err());
        assert!(timeline.judge(&question(), Missing, (111, 112)).is_ok());
    }

    #[test]
    fn who_is_not_there_does_not_answer() {
        let mut timeline = Timeline::new(Verdicts::new(), 0);
        assert!(timeline.judge(&question(), Missing, (1, 2)).is_ok());
        assert!(timeline.judge(&question(), Passed, (1, 2)).is_err());
        timeline.begins(open(), 10);
        assert!(timeline.judge(&question(), Passed, (11, 12)).is_ok());
    }

    #[test]
    fn what_is_over_is_forgotten_and_what_is_not_is_kept() {
        let mut timeline = closed_and_opened();
        timeline.forget(21);
        assert_eq!(timeline.0.len(), 2);
        timeline.forget(1_000_000);
        assert_eq!(timeline.0.len(), 1);
        assert!(timeline.judge(&question(), Missing, (41, 60)).is_err());
    }
}
