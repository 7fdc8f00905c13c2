//! Agents' sessions with an operator: the shipped core of which node has which, and what its kernel holds.

use crate::{agent::Endpoints, sabotage::Sabotage, time::Micros};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};
use weft_operator::progress::{NotJoined, Progress, Rows, SessionId};
use weft_raft::MemberId;
use weft_state::{
    interests::{Scope, View},
    retirement::Seen,
};
use weft_types::{Identity, NodeName, Revision};

/// An agent that asks nothing for so long has no session any more.
const SILENCE: Micros = Micros::seconds(2);

/// All of them.
pub(crate) struct Sessions {
    progress: Progress<()>,
    heard: BTreeMap<usize, Heard>,
}

/// What was heard of an agent in its session.
struct Heard {
    node: NodeName,
    session: u64,
    /// What its kernel holds, since all that it had to say before is in the log.
    holds: Option<Revision>,
    /// All that it had, when that was no news after so many words of whomever.
    said: Option<(Endpoints, u64)>,
    /// What it is told, where agents are few.
    view: Option<(View, Scope)>,
    /// When it asked last.
    at: Micros,
}

impl Sessions {
    pub(crate) fn new(member: MemberId) -> Self {
        Self { progress: Progress::new(member), heard: BTreeMap::new() }
    }

    /// An agent asks, in a session that stands or begins; an error when another took its place.
    pub(crate) fn hear(
        &mut self,
        now: Micros,
        (agent, node): (usize, &NodeName),
        session: u64,
        (newest, told): (Revision, Option<(BTreeSet<Identity>, Scope)>),
    ) -> Result<(), NotJoined> {
        if let Some(heard) = self.heard.get_mut(&agent).filter(|it| it.session == session) {
            heard.at = now;
            return Ok(());
        }
        // What it holds is told when all that it has to say is in the log.
        self.progress.join(node, SessionId(session), None, newest)?;
        let view = told.map(|(told, scope)| (View::new(node.clone(), scope, told), scope));
        let node = node.clone();
        self.heard.insert(agent, Heard { node, session, holds: None, said: None, view, at: now });
        Ok(())
    }

    /// What an agent was told.
    pub(crate) fn view(&mut self, agent: usize) -> Option<&mut (View, Scope)> {
        self.heard.get_mut(&agent)?.view.as_mut()
    }

    /// An agent has nothing to say that is not in the log, and its kernel holds a revision.
    pub(crate) fn acknowledge(&mut self, agent: usize, holds: Option<Revision>) {
        if let Some(heard) = self.heard.get_mut(&agent) {
            heard.holds = holds;
        }
    }

    /// What an agent has is no news, after so many words of whomever.
    pub(crate) fn is_said(&mut self, agent: usize, all: Endpoints, words: u64) {
        if let Some(heard) = self.heard.get_mut(&agent) {
            heard.said = Some((all, words));
        }
    }

    /// Whether it was so after as many: then it is.
    pub(crate) fn was_said(&self, agent: usize, all: &Endpoints, words: u64) -> bool {
        let said = self.heard.get(&agent).and_then(|heard| heard.said.as_ref());
        said.is_some_and(|(said, after)| Rc::ptr_eq(said, all) && *after == words)
    }

    /// What other operators are told now, those that are members.
    pub(crate) fn rows(
        &mut self,
        now: Micros,
        newest: Revision,
        members: &BTreeSet<MemberId>,
    ) -> Rows {
        let progress = &mut self.progress;
        progress.members_are(members);
        self.heard.retain(|_, Heard { node, session, holds, at, .. }| {
            if *at + SILENCE < now {
                progress.leave(node, SessionId(*session), newest);
                return false;
            }
            if let Some(holds) = holds.take() {
                progress.acknowledge(node, holds, newest);
            }
            true
        });
        self.progress.since(None).0
    }

    /// Another operator's rows; agents whose sessions here are over by them.
    pub(crate) fn hear_of(&mut self, member: MemberId, rows: Rows) -> Vec<usize> {
        let over = self.progress.hear(member, rows);
        let over = self.heard.extract_if(.., |_, heard| over.contains(&heard.node));
        over.map(|(agent, _)| agent).collect()
    }

    /// What is new for who leads.
    pub(crate) fn news(&mut self, sabotage: Sabotage) -> Vec<(NodeName, Seen)> {
        let mut news = self.progress.news();
        for (_, seen) in &mut news {
            let ignored = match sabotage {
                Sabotage::VetoIgnored => seen.connected,
                Sabotage::QuarantineSkipped => !seen.connected,
                _ => false,
            };
            if ignored {
                *seen = Seen { session: 0, holds: Some(Revision(u64::MAX)), connected: true };
            }
        }
        news
    }
}
