//! What the leader sees that must never have come to be.

use super::Leader;
use crate::{founding::FoundingError, progress::NotJoined};
use weft_raft::{Role, Term};
use weft_state::CommandV1;
use weft_types::{Invariant, NodeName, Revision};

impl Leader {
    /// An entry is about to be applied.
    pub(super) fn look_at_entry(&self, revision: Revision, command: &CommandV1) {
        for (invariant, seen) in self.state.violations(command) {
            self.metrics.violations.saw(invariant, format_args!("entry {revision}: {seen}"));
        }
    }

    /// What the store turned out to be, if it is not to be gone on with.
    pub(super) fn look_at_store(&self) {
        let Some(fault) = self.leading.core().fault() else { return };
        let error = FoundingError::of(fault, self.state.cluster());
        if let Some(invariant) = error.violates() {
            self.metrics.violations.saw(invariant, error);
        }
    }

    /// This operator has a role in its group.
    pub(super) fn look_at_role(&mut self, role: Role, term: Term) {
        if let Some((first, second)) = self.elections.see(role, term) {
            let seen = format_args!("members {first} and {second} both lead in term {term}");
            self.metrics.violations.saw(Invariant::OneLeader, seen);
        }
    }

    /// An agent is refused. One that is ahead of an operator that is alone has what this one published and lost.
    pub(super) fn look_at_refused(&self, why: &NotJoined) {
        match why {
            NotJoined::Ahead { .. } => self.metrics.violations.saw(Invariant::NothingLost, why),
            NotJoined::NotYet { .. } | NotJoined::Stale(..) => {}
        }
    }

    /// A node says what its kernel holds, and what that held before.
    pub(super) fn look_at_held(&self, node: &NodeName, before: Option<Revision>, holds: Revision) {
        if let Some(before) = before.filter(|before| holds < *before) {
            let seen = format_args!("node {node} holds {holds}, and held {before} before");
            self.metrics.violations.saw(Invariant::NeverBack, seen);
        }
    }
}
