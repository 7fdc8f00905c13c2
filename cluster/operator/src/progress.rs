//! Who is connected, what every node's kernel holds, and who waits for it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use weft_api::operator::{NodeProgress, Waited};
use weft_types::{Node, NodeName, Revision};

/// Letters kept of why a node is behind: the agent's own status has it whole.
const REASON_MAX: usize = 1024;

/// The registered nodes: those that count.
pub type Nodes = BTreeMap<NodeName, Node>;

/// One session of an agent; a later one of the same node supersedes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(u64);

/// One who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaiterId(u64);

/// Why an agent is refused: it would have to go back in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "node {node} holds revision {held}, newer than {newest}, this operator's newest: its log was lost or is an old copy. Stop the operator, remove raft.redb from its state folder and start it: it founds the next generation from the store, which agents follow"
)]
pub struct Ahead {
    /// The node.
    pub node: NodeName,
    /// What its kernel holds.
    pub held: Revision,
    /// The newest revision here.
    pub newest: Revision,
}

/// Sessions, acknowledgements and waiters; `A` is where a waiter's answer goes.
#[derive(Debug)]
pub struct Progress<A> {
    sessions: BTreeMap<NodeName, SessionId>,
    held: BTreeMap<NodeName, Revision>,
    /// What a node's kernel does not take, and why.
    refused: BTreeMap<NodeName, (Revision, String)>,
    waiters: BTreeMap<WaiterId, Waiter<A>>,
    next: u64,
}

#[derive(Debug)]
struct Waiter<A> {
    revision: Revision,
    only: Option<NodeName>,
    /// Nodes that were behind when it was looked at last; looked at again when none is left.
    behind: BTreeSet<NodeName>,
    answer: A,
}

impl<A> Default for Progress<A> {
    fn default() -> Self {
        Self {
            sessions: BTreeMap::new(),
            held: BTreeMap::new(),
            refused: BTreeMap::new(),
            waiters: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<A> Progress<A> {
    /// An agent joins; what it holds is its acknowledgement, and holding nothing takes an old one back.
    pub fn join(
        &mut self,
        node: &NodeName,
        held: Option<Revision>,
        newest: Revision,
    ) -> Result<SessionId, Ahead> {
        if let Some(held) = held.filter(|held| *held > newest) {
            return Err(Ahead { node: node.clone(), held, newest });
        }
        self.next += 1;
        let session = SessionId(self.next);
        self.sessions.insert(node.clone(), session);
        self.refused.remove(node);
        match held {
            Some(held) => self.hold(node, held),
            None => drop(self.held.remove(node)),
        }
        Ok(session)
    }

    /// Whether this session is the node's newest; what others say is of no account.
    pub fn is_current(&self, node: &NodeName, session: SessionId) -> bool {
        self.sessions.get(node) == Some(&session)
    }

    /// Whether the node has a session.
    pub fn is_connected(&self, node: &NodeName) -> bool {
        self.sessions.contains_key(node)
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// How many wait.
    pub fn waiters(&self) -> usize {
        self.waiters.len()
    }

    /// The node's kernel holds a revision; it cannot be newer than the newest.
    pub fn acknowledge(&mut self, node: &NodeName, revision: Revision, newest: Revision) {
        self.hold(node, revision.min(newest));
    }

    /// The node's kernel does not take a revision: told to whoever waits until it does, or until its agent comes anew.
    pub fn refuse(&mut self, node: &NodeName, revision: Revision, reason: &str) {
        let reason = reason.chars().take(REASON_MAX).collect();
        self.refused.insert(node.clone(), (revision, reason));
    }

    fn hold(&mut self, node: &NodeName, revision: Revision) {
        self.held.insert(node.clone(), revision);
        if self.refused.get(node).is_some_and(|(refused, _)| *refused <= revision) {
            self.refused.remove(node);
        }
        for waiter in self.waiters.values_mut().filter(|waiter| waiter.revision <= revision) {
            waiter.behind.remove(node);
        }
    }

    /// A session is over.
    pub fn leave(&mut self, node: &NodeName, session: SessionId) {
        if self.is_current(node, session) {
            self.sessions.remove(node);
        }
    }

    /// Ends a node's session, so that its agent comes again and tells everything.
    pub fn expel(&mut self, node: &NodeName) {
        self.sessions.remove(node);
    }

    /// Every registered node that does not hold a revision: one that never joined is behind too.
    pub fn behind(
        &self,
        nodes: &Nodes,
        revision: Revision,
        only: Option<&NodeName>,
    ) -> Vec<NodeProgress> {
        let counts = |node: &&NodeName| only.is_none_or(|only| only == *node);
        let lacks = |node: &&NodeName| self.held.get(*node).is_none_or(|held| *held < revision);
        nodes.keys().filter(counts).filter(lacks).map(|node| self.of(node)).collect()
    }

    /// What a node holds.
    pub fn of(&self, node: &NodeName) -> NodeProgress {
        NodeProgress {
            node: node.0.clone(),
            connected: self.is_connected(node),
            acknowledged: self.held.get(node).copied(),
            problem: self.refused.get(node).map(|(_, reason)| reason.clone()),
        }
    }

    /// Someone waits until every node, or the only one named, holds a revision. See [`Self::settle`].
    pub fn wait(&mut self, revision: Revision, only: Option<NodeName>, answer: A) -> WaiterId {
        self.next += 1;
        let waiter = Waiter { revision, only, behind: BTreeSet::new(), answer };
        self.waiters.insert(WaiterId(self.next), waiter);
        WaiterId(self.next)
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
mod tests {
    use super::*;

    const R: fn(u64) -> Revision = |index| Revision::new(1, index);

    fn name(name: &str) -> NodeName {
        NodeName(name.to_owned())
    }

    fn nodes(names: &[&str]) -> Nodes {
        let node = |n: &&str| Node {
            name: name(n),
            address: [172, 30, 0, 1].into(),
            pod_cidrs: Vec::new(),
        };
        names.iter().map(|n| (name(n), node(n))).collect()
    }

    /// The names of those that are behind.
    fn behind(progress: &Progress<u8>, nodes: &Nodes, index: u64) -> Vec<String> {
        progress.behind(nodes, R(index), None).into_iter().map(|node| node.node).collect()
    }

    #[test]
    fn what_an_agent_joins_with_is_its_acknowledgement() {
        let nodes = nodes(&["a", "b"]);
        let mut progress = Progress::<u8>::default();
        progress.join(&name("a"), Some(R(5)), R(5)).expect("not ahead");
        assert_eq!(behind(&progress, &nodes, 5), ["b"], "b never joined");
        progress.join(&name("b"), Some(R(4)), R(5)).expect("not ahead");
        assert_eq!(behind(&progress, &nodes, 5), ["b"]);
        assert_eq!(behind(&progress, &nodes, 4), [""; 0]);
        // Built anew, it holds nothing, whatever it said before.
        progress.join(&name("a"), None, R(5)).expect("not ahead");
        assert_eq!(behind(&progress, &nodes, 1), ["a"]);
    }

    #[test]
    fn an_agent_from_the_future_is_refused_and_changes_nothing() {
        let nodes = nodes(&["a"]);
        let mut progress = Progress::<u8>::default();
        let session = progress.join(&name("a"), Some(R(5)), R(5)).expect("not ahead");
        for held in [R(6), Revision::new(2, 1)] {
            let refused = progress.join(&name("a"), Some(held), R(5)).expect_err("ahead");
            let text = refused.to_string();
            assert!(text.contains(&held.to_string()) && text.contains("raft.redb"), "{text}");
        }
        assert!(progress.is_current(&name("a"), session));
        assert_eq!(behind(&progress, &nodes, 5), [""; 0]);
    }

    #[test]
    fn nobody_holds_what_there_is_not_yet() {
        let nodes = nodes(&["a"]);
        let mut progress = Progress::<u8>::default();
        progress.join(&name("a"), None, R(5)).expect("not ahead");
        progress.acknowledge(&name("a"), R(900), R(5));
        assert_eq!(behind(&progress, &nodes, 6), ["a"]);
        assert_eq!(behind(&progress, &nodes, 5), [""; 0]);
    }

    #[test]
    fn why_a_node_is_behind_is_told_until_it_no_longer_is() {
        let nodes = nodes(&["a", "b"]);
        let mut progress = Progress::<u8>::default();
        for node in ["a", "b"] {
            progress.join(&name(node), Some(R(4)), R(6)).expect("not ahead");
        }
        progress.refuse(&name("a"), R(5), "no room");
        progress.refuse(&name("b"), R(5), &"é".repeat(2 * REASON_MAX));
        let problems = |progress: &Progress<u8>| -> Vec<Option<String>> {
            progress.behind(&nodes, R(9), None).into_iter().map(|node| node.problem).collect()
        };
        assert_eq!(problems(&progress), [Some("no room".to_owned()), Some("é".repeat(REASON_MAX))]);
        progress.acknowledge(&name("a"), R(4), R(6));
        assert!(problems(&progress)[0].is_some(), "what it held before is no news");
        progress.acknowledge(&name("a"), R(6), R(6));
        progress.join(&name("b"), None, R(6)).expect("not ahead");
        assert_eq!(problems(&progress), [None, None]);
    }

    #[test]
    fn a_superseded_session_has_no_say() {
        let mut progress = Progress::<u8>::default();
        let first = progress.join(&name("a"), None, R(5)).expect("not ahead");
        let second = progress.join(&name("a"), None, R(5)).expect("not ahead");
        assert!(!progress.is_current(&name("a"), first));
        progress.leave(&name("a"), first);
        assert!(progress.is_current(&name("a"), second));
        progress.leave(&name("a"), second);
        assert!(!progress.is_connected(&name("a")));
    }

    #[test]
    fn a_wait_ends_when_all_nodes_hold_it() {
        let nodes = nodes(&["a", "b"]);
        let mut progress = Progress::default();
        progress.wait(R(5), None, 1);
        progress.wait(R(5), Some(name("a")), 2);
        progress.wait(R(4), None, 3);
        assert!(progress.settle(&nodes).is_empty());
        progress.acknowledge(&name("a"), R(5), R(5));
        let answers = |settled: Vec<(u8, Waited)>| -> Vec<u8> {
            assert!(settled.iter().all(|(_, waited)| waited.enforced));
            settled.into_iter().map(|(answer, _)| answer).collect()
        };
        assert_eq!(answers(progress.settle(&nodes)), [2]);
        progress.acknowledge(&name("b"), R(4), R(5));
        assert_eq!(answers(progress.settle(&nodes)), [3]);
        progress.acknowledge(&name("b"), R(5), R(5));
        assert_eq!(answers(progress.settle(&nodes)), [1]);
        assert_eq!(progress.waiters(), 0);
    }

    #[test]
    fn the_time_of_one_is_not_the_time_of_another() {
        let nodes = nodes(&["a"]);
        let mut progress = Progress::default();
        let first = progress.wait(R(5), None, 1);
        let second = progress.wait(R(5), None, 2);
        let (answer, waited) = progress.expire(first, &nodes).expect("it waits");
        assert_eq!((answer, waited.enforced, waited.behind.len()), (1, false, 1));
        assert!(progress.expire(first, &nodes).is_none());
        progress.acknowledge(&name("a"), R(5), R(5));
        assert_eq!(progress.settle(&nodes).len(), 1);
        assert!(progress.expire(second, &nodes).is_none());
    }

    #[test]
    fn a_node_that_leaves_or_comes_is_counted() {
        let mut progress = Progress::default();
        progress.join(&name("a"), Some(R(5)), R(5)).expect("not ahead");
        progress.wait(R(5), None, 1);
        assert!(progress.settle(&nodes(&["a", "b"])).is_empty());
        progress.nodes_changed();
        assert_eq!(progress.settle(&nodes(&["a"])).len(), 1);
        // One that was registered while it waited, after the others held it.
        progress.wait(R(5), None, 2);
        assert!(progress.settle(&nodes(&["a", "c"])).is_empty());
    }

    #[test]
    fn an_agent_that_is_rebuilt_while_one_waits_is_behind() {
        let nodes = nodes(&["a", "b"]);
        let mut progress = Progress::default();
        progress.join(&name("a"), Some(R(5)), R(5)).expect("not ahead");
        progress.wait(R(5), None, 1);
        assert!(progress.settle(&nodes).is_empty());
        progress.join(&name("a"), None, R(5)).expect("not ahead");
        progress.acknowledge(&name("b"), R(5), R(5));
        assert!(progress.settle(&nodes).is_empty(), "a holds nothing");
        progress.acknowledge(&name("a"), R(5), R(5));
        assert_eq!(progress.settle(&nodes).len(), 1);
    }
}
