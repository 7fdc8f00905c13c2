//! What becomes of numbers, as the log has it; and who has one that is given again.

use super::World;
use crate::{Action, Invariant, Operation, Outcome, agent::Agent, numbers::Freed};
use std::collections::VecDeque;
use weft_state::{ClusterState, CommandV1};
use weft_types::{Delta, Identity, LabelSet, Revision};

/// More are not kept: nobody is told what is older.
const KEPT: usize = 1024;

/// Numbers that were given to other label sets than before, and when.
pub(super) type Reuses = VecDeque<(Revision, Identity, LabelSet)>;

/// What an entry does to numbers.
#[derive(Default)]
pub(super) struct Numbered {
    given: Vec<(Identity, LabelSet)>,
    retired: Vec<Identity>,
    freed: Vec<Identity>,
}

impl Numbered {
    /// As far as the state of before says.
    pub(super) fn before(state: &ClusterState, command: &CommandV1) -> Self {
        let CommandV1::Free { numbers, .. } = command else { return Self::default() };
        let retiring = state.references().retiring();
        let freed = numbers.iter().filter(|number| retiring.contains(number)).copied();
        Self { freed: freed.collect(), ..Self::default() }
    }

    /// And with what agents are told.
    pub(super) fn and(mut self, deltas: &[Delta]) -> Self {
        for delta in deltas {
            match delta {
                Delta::IdentityUpsert(number, labels) => self.given.push((*number, labels.clone())),
                Delta::IdentityDelete(number) => self.retired.push(*number),
                _ => {}
            }
        }
        self
    }
}

impl World {
    /// An entry is applied for the first time.
    pub(super) fn number(&mut self, at: Revision, Numbered { given, retired, freed }: Numbered) {
        let now = self.now;
        for (number, labels) in given {
            let before = self.invariants.numbered(now, number, &labels);
            if before.is_some_and(|before| before != labels) {
                self.counts.reused += 1;
                self.reuses.push_back((at, number, labels));
                if self.reuses.len() > KEPT {
                    self.reuses.pop_front();
                }
                let up = self.agents.iter().filter(|agent| agent.down_until <= now);
                let found: Vec<_> = up.filter_map(|agent| self.old_number(agent)).collect();
                for (invariant, seen) in found {
                    self.invariants.violated(invariant, now, seen);
                }
            }
        }
        for number in retired {
            self.invariants.retired(now, number);
        }
        for number in freed {
            let Some(Freed { since, labels, .. }) = self.invariants.freed(now, number) else {
                continue;
            };
            self.counts.freed += 1;
            self.history.push(Operation {
                client: "group".to_owned(),
                call: since.0,
                returned: Some(now.0),
                operation: Action::Free { labels: labels.to_string(), number: number.0 },
                outcome: Outcome::Done,
            });
        }
    }

    /// A number that an agent has for what it stood for before it was given again, or a pod with it: its kernel takes that for
    /// the other.
    pub(super) fn old_number(&self, agent: &Agent) -> Option<(Invariant, String)> {
        let since = self.reuses.iter().rev().take_while(|(at, ..)| Some(*at) > agent.held);
        let mut old = since.filter(|(_, number, labels)| {
            let known = agent.view.labels(*number);
            known.is_some_and(|known| known != labels)
                || agent.pods.endpoints().any(|(_, identity)| identity == *number)
        });
        let (at, number, labels) = old.next()?;
        let (node, held) = (&agent.node, agent.held.unwrap_or(Revision::ZERO));
        let seen = format!("{number} is {labels} at {at}, and {node} has it as another at {held}");
        Some((Invariant::NoReuse, seen))
    }
}
