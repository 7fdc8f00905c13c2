//! Members of two releases: what each knows, and when what only the newer one knows is written.

use super::World;
use crate::{
    Invariant,
    operator::Operator,
    release::{self, Release},
    sabotage::Sabotage,
    time::Micros,
};
use weft_raft::{Group, Index, MemberId};
use weft_state::{VERSION, leadership::Event as Happened};

/// Ticks between two times that a leader looks whether labels make identities as its configuration has it.
const LOOK: u64 = 20;
/// The leader's own request, which nobody waits for.
const FILTER: u64 = u64::MAX;
/// In so long a leader hears of who came back as another release.
const HEARD: Micros = Micros::seconds(1);
/// From the end of a process whose release is too old to its next life, as a newer one.
const AGAIN: Micros = Micros::seconds(1);

impl World {
    /// The newest version of the log that all members know, as far as one has heard of them in its life.
    pub(super) fn known_by_all(&self, member: MemberId, group: &Group) -> u8 {
        if self.sabotage == Sabotage::RaisedEarly {
            return VERSION;
        }
        let Some(operator) = self.operators.get(&member) else { return 0 };
        let Some(running) = &operator.running else { return 0 };
        let members = group.members.keys().copied();
        running.versions.known_by_all((member, operator.release.log()), members)
    }

    /// A leader of the newer release wants what only that knows of.
    pub(super) fn filter_labels(&mut self, member: MemberId) {
        let upgrades = self.scenario.begins() == Release::Before;
        let Some(operator) = self.operators.get(&member).filter(|_| upgrades) else { return };
        let Some(running) = &operator.running else { return };
        let looks = running.ticks.is_multiple_of(LOOK) && running.leadership.is_serving();
        if !looks || operator.release != Release::Now {
            return;
        }
        let filter = release::filter();
        if *running.state.labels() != filter {
            self.lead(member, Happened::Filter(FILTER, filter));
        }
    }

    /// The log has that every member knows what the newer release does: nobody may have run as the older one for long then.
    pub(super) fn raised(&mut self, index: Index) {
        let before = self.operators.values().filter(|o| o.release == Release::Before);
        let is_heard = |o: &&Operator| o.life == 1 || o.began + HEARD < self.now;
        let runs = before.filter(|o| o.running.is_some()).filter(is_heard);
        let seen: Vec<String> = runs.map(|o| format!("member {}", o.member)).collect();
        if !seen.is_empty() && !self.has_raised {
            let who = seen.join(" and ");
            let seen = format!("entry {index} says that all know a version, {who} does not");
            self.invariants.violated(Invariant::NobodyFails, self.now, seen);
        }
        self.has_raised = true;
    }

    /// A member was put back just when everybody else had been upgraded. Its process ends, and says so; whoever put it back
    /// upgrades it again.
    pub(super) fn is_too_old(&mut self, member: MemberId) {
        if !self.has_raised {
            let seen = format!("member {member}: its release does not know what is written");
            self.invariants.violated(Invariant::NobodyFails, self.now, seen);
        }
        self.kill(member);
        if let Some(operator) = self.operators.get_mut(&member) {
            operator.release = Release::Now;
            self.after(AGAIN, super::Event::Restart(member));
        }
    }
}
