//! Where every node's agent is connected, what its kernel holds, and who waits for it. Pure.
//!
//! An operator has a row of each node. Those of the agents that were last connected to it are its own, and it tells them to
//! the others, so that each answers for all.
//!
//! | what comes | what becomes of the node's row |
//! |---|---|
//! | an agent joins, its session numbered higher than the row's | it is this operator's: connected, holding what the agent says |
//! | the same, numbered as the row's or lower | it stays; the agent numbers its next session higher |
//! | another operator's row, numbered higher | it is that operator's; a session here is superseded |
//! | the same number, from the operator whose row it is | its newest word |
//! | any other | it stays |
//! | all rows of an operator, this node's not among them | it is not connected: that operator lost what it knew |
//! | an operator is a member of the group no more | its rows stay, and are not connected |

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use weft_api::operator::{NodeProgress, Waited};
use weft_raft::MemberId;
use weft_state::retirement::Seen;
use weft_types::{Node, NodeName, Revision};

/// Letters kept of why a node is behind: the agent's own status has it whole.
const REASON_MAX: usize = 1024;

/// The registered nodes: those that count.
pub type Nodes = BTreeMap<NodeName, Node>;

/// An agent's number of its session; a higher one of the same node supersedes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// What an operator knows of a node's agent that is, or was, connected to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The session.
    pub session: SessionId,
    /// None while it stands; then the newest revision that it may have been sent.
    pub left: Option<Revision>,
    /// What the node's kernel holds, as its agent said last.
    pub held: Option<Revision>,
    /// What it does not take, and why.
    pub refused: Option<(Revision, String)>,
}

impl Row {
    const fn is_connected(&self) -> bool {
        self.left.is_none()
    }
}

/// What an operator tells another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Whether these are all that are its own.
    pub all: bool,
    /// They, or those that changed.
    pub rows: Vec<(NodeName, Row)>,
}

/// One who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaiterId(u64);

/// Why an agent is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotJoined {
    /// It would have to go back in time.
    #[error(
        "node {node} holds revision {held}, newer than {newest}, this operator's newest: its log was lost or is an old copy. Stop the operator, remove raft.redb from its state folder and start it: it founds the next generation from the store, which agents follow"
    )]
    Ahead {
        /// The node.
        node: NodeName,
        /// What its kernel holds.
        held: Revision,
        /// The newest revision here.
        newest: Revision,
    },
    /// The same, of one that another operator told what is on its way to this one.
    #[error("this operator has revision {newest} so far, not yet {held}")]
    NotYet {
        /// What its kernel holds.
        held: Revision,
        /// The newest revision here.
        newest: Revision,
    },
    /// A session of the same or a higher number was the node's.
    #[error("session {} is not newer than {}, which the node had", .0.0, .1.0)]
    Stale(SessionId, SessionId),
}

/// Sessions, acknowledgements and waiters; `A` is where a waiter's answer goes.
#[derive(Debug)]
pub struct Progress<A> {
    /// This operator.
    member: MemberId,
    /// The group, as far as it is known here.
    members: BTreeSet<MemberId>,
    nodes: BTreeMap<NodeName, Known>,
    /// Its own rows by when they changed last, for whoever was told those before.
    changes: BTreeMap<u64, NodeName>,
    last_change: u64,
    waiters: BTreeMap<WaiterId, Waiter<A>>,
    last_waiter: u64,
    /// Nodes whose rows changed since [`Progress::news`] was asked.
    news: BTreeSet<NodeName>,
}

#[derive(Debug)]
struct Known {
    row: Row,
    /// The operator whose row it is.
    by: MemberId,
    /// When it changed; meant of own rows.
    change: u64,
}

#[derive(Debug)]
struct Waiter<A> {
    revision: Revision,
    /// The nodes that count, where not all do.
    only: Option<BTreeSet<NodeName>>,
    /// Nodes that were behind when it was looked at last; looked at again when none is left.
    behind: BTreeSet<NodeName>,
    answer: A,
}

impl<A> Progress<A> {
    /// Of this operator, which knows nobody.
    pub fn new(member: MemberId) -> Self {
        Self {
            member,
            members: BTreeSet::new(),
            nodes: BTreeMap::new(),
            changes: BTreeMap::new(),
            last_change: 0,
            waiters: BTreeMap::new(),
            last_waiter: 0,
            news: BTreeSet::new(),
        }
    }

    /// An agent joins; what it holds is its acknowledgement, and holding nothing takes an old one back.
    pub fn join(
        &mut self,
        node: &NodeName,
        session: SessionId,
        held: Option<Revision>,
        newest: Revision,
    ) -> Result<(), NotJoined> {
        if let Some(known) = self.nodes.get(node).filter(|known| known.row.session >= session) {
            return Err(NotJoined::Stale(session, known.row.session));
        }
        if let Some(held) = held.filter(|held| *held > newest) {
            return Err(NotJoined::Ahead { node: node.clone(), held, newest });
        }
        self.put(node, self.member, Row { session, left: None, held, refused: None });
        Ok(())
    }

    /// Whether this session is the node's, here; what others say is of no account.
    pub fn is_current(&self, node: &NodeName, session: SessionId) -> bool {
        self.own(node).is_some_and(|row| row.session == session && row.is_connected())
    }

    fn own(&self, node: &NodeName) -> Option<&Row> {
        self.nodes.get(node).filter(|known| known.by == self.member).map(|known| &known.row)
    }

    /// Agents that are connected to a member.
    pub fn sessions_of(&self, member: MemberId) -> usize {
        let of = |known: &&Known| known.by == member && self.is_connected(known);
        self.nodes.values().filter(of).count()
    }

    fn is_connected(&self, known: &Known) -> bool {
        let by = known.by == self.member || self.members.contains(&known.by);
        known.row.is_connected() && (by || self.members.is_empty())
    }

    /// The group has these members, this one among them or not.
    pub fn members_are(&mut self, members: &BTreeSet<MemberId>) {
        if self.members == *members {
            return;
        }
        let changed: BTreeSet<MemberId> =
            self.members.symmetric_difference(members).copied().collect();
        let rows = self.nodes.iter().filter(|(_, known)| changed.contains(&known.by));
        self.news.extend(rows.map(|(node, _)| node.clone()));
        self.members.clone_from(members);
    }

    /// How many wait.
    pub fn waiters(&self) -> usize {
        self.waiters.len()
    }

    /// The node's kernel holds a revision; it cannot be newer than the newest.
    pub fn acknowledge(&mut self, node: &NodeName, revision: Revision, newest: Revision) {
        let held = revision.min(newest);
        self.change(node, |row| {
            row.held = Some(held);
            row.refused.take_if(|(refused, _)| *refused <= held);
        });
    }

    /// The node's kernel does not take a revision: told to whoever waits until it does, or until its agent comes anew.
    pub fn refuse(&mut self, node: &NodeName, revision: Revision, reason: &str) {
        let reason = reason.chars().take(REASON_MAX).collect();
        self.change(node, |row| row.refused = Some((revision, reason)));
    }

    /// A session is over; nothing newer than `newest` was sent by it.
    pub fn leave(&mut self, node: &NodeName, session: SessionId, newest: Revision) {
        if self.is_current(node, session) {
            self.change(node, |row| row.left = Some(newest));
        }
    }

    /// Ends a node's session, so that its agent comes again and tells everything.
    pub fn expel(&mut self, node: &NodeName, newest: Revision) {
        if self.own(node).is_some_and(Row::is_connected) {
            self.change(node, |row| row.left = Some(newest));
        }
    }

    /// Changes a row that is its own.
    fn change(&mut self, node: &NodeName, change: impl FnOnce(&mut Row)) {
        if let Some(mut row) = self.own(node).cloned() {
            change(&mut row);
            self.put(node, self.member, row);
        }
    }

    fn put(&mut self, node: &NodeName, by: MemberId, row: Row) {
        if let Some(held) = row.held {
            for waiter in self.waiters.values_mut().filter(|waiter| waiter.revision <= held) {
                waiter.behind.remove(node);
            }
        }
        self.news.insert(node.clone());
        let mut change = 0;
        if by == self.member {
            self.last_change += 1;
            change = self.last_change;
            self.changes.insert(change, node.clone());
        }
        if let Some(before) = self.nodes.insert(node.clone(), Known { row, by, change }) {
            self.changes.remove(&before.change);
        }
    }

    /// When an own row changed last.
    pub fn last_change(&self) -> u64 {
        self.last_change
    }

    /// Own rows that changed after one time, all after none; and when the last of them did.
    pub fn since(&self, told: Option<u64>) -> (Rows, u64) {
        let changed = self.changes.range(told.map_or(0, |told| told + 1)..);
        let rows = changed.filter_map(|(_, node)| Some((node.clone(), self.own(node)?.clone())));
        (Rows { all: told.is_none(), rows: rows.collect() }, self.last_change)
    }

    /// Another operator tells its rows; the nodes whose sessions here are superseded by them.
    pub fn hear(&mut self, member: MemberId, Rows { all, rows }: Rows) -> Vec<NodeName> {
        let mut superseded = Vec::new();
        let named: Option<BTreeSet<NodeName>> =
            all.then(|| rows.iter().map(|(node, _)| node.clone()).collect());
        for (node, row) in rows {
            let newer = self.nodes.get(&node).is_none_or(|known| {
                row.session > known.row.session
                    || (row.session == known.row.session && known.by == member)
            });
            if newer {
                if self.own(&node).is_some_and(Row::is_connected) {
                    superseded.push(node.clone());
                }
                self.put(&node, member, row);
            }
        }
        if let Some(named) = named {
            let lost = |(node, known): &(&NodeName, &mut Known)| {
                known.by == member && known.row.is_connected() && !named.contains(*node)
            };
            for (node, known) in self.nodes.iter_mut().filter(lost) {
                self.news.insert(node.clone());
                // It may have been sent anything since.
                known.row.left = Some(Revision(u64::MAX));
            }
        }
        superseded
    }

    /// Whose rows changed since this was asked last, and what they are.
    pub fn news(&mut self) -> Vec<(NodeName, Seen)> {
        let news = std::mem::take(&mut self.news);
        let seen = |known: &Known| Seen {
            session: known.row.session.0,
            holds: known.row.held,
            connected: self.is_connected(known),
        };
        news.into_iter()
            .filter_map(|node| self.nodes.get(&node).map(seen).map(|seen| (node, seen)))
            .collect()
    }

    /// Every registered node, of some where only these count, that does not hold a revision: one that never joined is behind too.
    pub fn behind(
        &self,
        nodes: &Nodes,
        revision: Revision,
        only: Option<&BTreeSet<NodeName>>,
    ) -> Vec<NodeProgress> {
        let lacks = |node: &&NodeName| self.held(node).is_none_or(|held| held < revision);
        let of = |node: &NodeName| self.of(node);
        match only {
            None => nodes.keys().filter(lacks).map(of).collect(),
            Some(only) => {
                only.iter().filter(|node| nodes.contains_key(*node)).filter(lacks).map(of).collect()
            }
        }
    }

    /// Nodes whose agents are connected to some operator, and those whose are not.
    pub fn apart(
        &self,
        nodes: impl IntoIterator<Item = NodeName>,
    ) -> (BTreeSet<NodeName>, Vec<NodeName>) {
        let is_there =
            |node: &NodeName| self.nodes.get(node).is_some_and(|known| self.is_connected(known));
        let (there, away): (Vec<_>, Vec<_>) = nodes.into_iter().partition(is_there);
        (there.into_iter().collect(), away)
    }

    /// The revision that a node's kernel holds, as its agent said last to whichever operator.
    pub fn held(&self, node: &NodeName) -> Option<Revision> {
        self.nodes.get(node)?.row.held
    }

    /// What a node holds.
    pub fn of(&self, node: &NodeName) -> NodeProgress {
        let known = self.nodes.get(node);
        let connected = known.filter(|known| self.is_connected(known));
        NodeProgress {
            node: node.0.clone(),
            connected: connected.is_some(),
            operator: connected.map(|known| known.by.0),
            acknowledged: known.and_then(|known| known.row.held),
            problem: known.and_then(|known| Some(known.row.refused.as_ref()?.1.clone())),
        }
    }

    /// Someone waits until every node, or each of some, holds a revision. See [`Self::settle`].
    pub fn wait(
        &mut self,
        revision: Revision,
        only: Option<BTreeSet<NodeName>>,
        answer: A,
    ) -> WaiterId {
        self.last_waiter += 1;
        let waiter = Waiter { revision, only, behind: BTreeSet::new(), answer };
        self.waiters.insert(WaiterId(self.last_waiter), waiter);
        WaiterId(self.last_waiter)
    }

    /// The registered nodes changed: everyone who waits is looked at again.
    pub fn nodes_changed(&mut self) {
        self.waiters.values_mut().for_each(|waiter| waiter.behind.clear());
    }

    /// Takes out those whose wait is over.
    pub fn settle(&mut self, nodes: &Nodes) -> Vec<(A, Waited)> {
        let ripe = self.waiters.iter().filter(|(_, waiter)| waiter.behind.is_empty());
        let ripe: Vec<WaiterId> = ripe.map(|(id, _)| *id).collect();
        let mut settled = Vec::new();
        for id in ripe {
            let Some(waiter) = self.waiters.remove(&id) else { continue };
            let behind = self.behind(nodes, waiter.revision, waiter.only.as_ref());
            if behind.is_empty() {
                let waited = Waited { revision: waiter.revision, enforced: true, behind };
                settled.push((waiter.answer, waited));
            } else {
                let behind = behind.into_iter().map(|node| NodeName(node.node)).collect();
                self.waiters.insert(id, Waiter { behind, ..waiter });
            }
        }
        settled
    }

    /// Takes out one whose time is over, with what is missing.
    pub fn expire(&mut self, id: WaiterId, nodes: &Nodes) -> Option<(A, Waited)> {
        let waiter = self.waiters.remove(&id)?;
        let behind = self.behind(nodes, waiter.revision, waiter.only.as_ref());
        let waited = Waited { revision: waiter.revision, enforced: behind.is_empty(), behind };
        Some((waiter.answer, waited))
    }
}

#[cfg(test)]
mod tests;
