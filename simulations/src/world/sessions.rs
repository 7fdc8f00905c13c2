//! What operators tell each other of agents, and who leads: which sessions stand, and what kernels hold.

use super::{Event, World};
use weft_operator::progress::Rows;
use weft_raft::MemberId;
use weft_state::leadership::Event as Happened;

/// Ticks between two times.
const PAUSE: u64 = 10;

impl World {
    /// While there is something that nodes are to agree to, an operator tells others of its agents. What is known of others'
    /// is news for who leads.
    pub(super) fn tell_of_agents(&mut self, member: MemberId) {
        let (now, sabotage) = (self.now, self.sabotage);
        let Some(running) = self.any_life(member) else { return };
        let retiring = running.state.references().retiring();
        if !running.ticks.is_multiple_of(PAUSE) || retiring.is_empty() {
            return;
        }
        let members = running.node.status().group.members.into_keys().collect();
        let rows = running.sessions.rows(now, running.revision(), &members);
        let news = running.sessions.news(sabotage);
        let others = self.operators.keys().copied().filter(|other| *other != member);
        for other in others.collect::<Vec<_>>() {
            let delay = self.delay();
            self.after(delay, Event::Rows(member, other, rows.clone()));
        }
        for (node, seen) in news {
            self.lead(member, Happened::Node(node, seen));
        }
    }

    pub(super) fn hear_of_agents(&mut self, from: MemberId, to: MemberId, rows: Rows) {
        if self.cuts.contains_key(&(from, to)) {
            return;
        }
        let Some(running) = self.any_life(to) else { return };
        for agent in running.sessions.hear_of(from, rows) {
            running.questions.remove(&agent);
        }
    }
}
