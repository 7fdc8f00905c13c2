//! What a run was like: who led when, what went wrong, how far agents were behind.

use crate::{fault::Kind, time::Micros};
use std::collections::BTreeMap;
use weft_raft::{MemberId, Role, Term};

/// What happened when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Story {
    /// What members became, and when.
    pub(crate) members: BTreeMap<MemberId, Vec<(Micros, Condition)>>,
    /// Faults, in their order.
    pub(crate) struck: Vec<Struck>,
    /// How far agents were behind, at even distances of time.
    pub(crate) lag: Vec<Lag>,
    /// When changes were answered.
    pub(crate) answers: Vec<Micros>,
    /// When leaders were killed after whose end nothing was allocated yet.
    killed: Vec<Micros>,
    /// How long nothing was allocated after each leader that was killed before.
    gaps: Vec<Micros>,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Its process does not run.
    Down,
    /// It is no member any more.
    Gone,
    /// It follows, or looks for a leader.
    Follows,
    /// It asks for votes.
    Stands,
    /// It leads in a term.
    Leads(Term),
}

/// A fault that hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Struck {
    pub(crate) kind: Kind,
    pub(crate) on: Hit,
    pub(crate) from: Micros,
    pub(crate) until: Micros,
}

/// What a fault hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hit {
    Member(MemberId),
    Store,
    /// So many.
    Agents(usize),
}

/// How long it was known what agents did not have yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lag {
    pub(crate) at: Micros,
    /// Half of them had more.
    pub(crate) half: Micros,
    /// The furthest behind.
    pub(crate) most: Micros,
}

impl Story {
    /// A member became something.
    pub(crate) fn became(&mut self, now: Micros, member: MemberId, condition: Condition) {
        let told = self.members.entry(member).or_default();
        if told.last().is_none_or(|(_, before)| *before != condition) {
            told.push((now, condition));
        }
    }

    /// Who leads is killed.
    pub(crate) fn leader_killed(&mut self, now: Micros) {
        self.killed.push(now);
    }

    /// A client hears that something was allocated, which a leader said earlier: one that was not killed meanwhile.
    pub(crate) fn allocated(&mut self, now: Micros, said: Micros) {
        let gaps = &mut self.gaps;
        self.killed.retain(|killed| {
            let over = *killed <= said;
            if over {
                gaps.push(Micros(now.0 - killed.0));
            }
            !over
        });
    }

    /// Whether a leader was killed after whose end nothing was allocated yet.
    pub(crate) fn awaits_allocation(&self) -> bool {
        !self.killed.is_empty()
    }

    /// How long nothing was allocated after each leader that was killed: until the end, where nothing was at all.
    pub(crate) fn gaps_until(&self, end: Micros) -> impl Iterator<Item = Micros> {
        let open = self.killed.iter().map(move |killed| Micros(end.0.saturating_sub(killed.0)));
        self.gaps.iter().copied().chain(open)
    }

    /// Agents are behind by so much.
    pub(crate) fn behind(&mut self, at: Micros, mut lags: Vec<Micros>) {
        lags.sort_unstable();
        let half = lags.get(lags.len() / 2).copied().unwrap_or_default();
        let most = lags.last().copied().unwrap_or_default();
        self.lag.push(Lag { at, half, most });
    }
}

impl From<(Role, Term)> for Condition {
    fn from((role, term): (Role, Term)) -> Self {
        match role {
            Role::Follower(_) => Self::Follows,
            Role::Candidate => Self::Stands,
            Role::Elected | Role::Leader => Self::Leads(term),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_after_whose_end_nothing_was_allocated_counts_until_the_end() {
        let mut story = Story::default();
        story.leader_killed(Micros(10));
        // A word of before says nothing.
        story.allocated(Micros(12), Micros(9));
        story.allocated(Micros(15), Micros(14));
        story.leader_killed(Micros(20));
        assert!(story.awaits_allocation());
        assert!(story.gaps_until(Micros(90)).eq([Micros(5), Micros(70)]));
    }
}
