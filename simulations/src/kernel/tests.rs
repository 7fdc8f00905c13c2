//! An agent that is told a policy, and a kernel that takes its time, refuses, or outlives it.
#![allow(clippy::unwrap_used, reason = "a test")]

use super::{Packet, Realiser, Turn};
use crate::{
    pods::Pods,
    sabotage::Sabotage,
    time::Micros,
    told::{Kept, Part},
    view::Share,
};
use weft_state::interests::Scope;
use weft_types::{
    Delta, Identity, Label, LabelSet, NamespacedName, NodeName, Policy, Revision, Selector, Source,
    policy::{Isolation, PolicyId, PolicyKind},
};

/// A node with two pods of one identity, as its agent was told.
struct Node {
    pods: Pods,
    kept: Kept,
    realiser: Realiser,
}

fn node() -> Node {
    let prefix = ipnet::Ipv4Net::new([10, 0, 1, 0].into(), 24).ok();
    let names = ["a", "b"].map(|name| (NamespacedName::new("sim", name), Identity(256)));
    let share = Share { prefix, scheduled: names.into_iter().collect(), ..Share::default() };
    let mut pods = Pods::default();
    pods.follow(&share, Micros(0));
    let realiser = Realiser::new(NodeName("node1".to_owned()), 0, Sabotage::None);
    let mut node = Node { pods, kept: Kept::default(), realiser };
    let app = Label { source: Source::K8s, key: "app".to_owned(), value: "web".to_owned() };
    node.tell(1, Delta::IdentityUpsert(Identity(256), LabelSet::from_iter([app])));
    node
}

impl Node {
    fn tell(&mut self, revision: u64, delta: Delta) {
        let is_whole = revision == 1;
        let part = Part { scope: Scope::Interests, is_whole, deltas: vec![delta] };
        let changes = self.kept.take(part);
        self.realiser.take(Revision(revision), changes);
    }

    /// Nobody reaches anybody any more.
    fn isolate(&mut self, revision: u64) {
        let id =
            PolicyId { kind: PolicyKind::NetworkPolicy, name: NamespacedName::new("sim", "p") };
        let (ingress, egress) = (Isolation::Isolated(Vec::new()), Isolation::Open);
        let subject = Selector::default();
        self.tell(revision, Delta::PolicyUpsert(Policy { id, subject, ingress, egress }));
    }

    fn begin(&mut self) -> bool {
        self.realiser.begin(&self.pods, &self.kept)
    }

    /// Writes one by one until a run ends; how many turns that took.
    fn work(&mut self) -> usize {
        (1..).find(|_| self.realiser.work(1, false) != Turn::More).unwrap()
    }

    fn lets(&self) -> bool {
        let mut all = self.pods.plugged().map(|(_, address)| address);
        let (from, to) = (all.next().unwrap(), all.next().unwrap());
        let packet = Packet { from, to, protocol: 6, port: 80 };
        self.realiser.maps().judge(&packet).refusal.is_none()
    }

    fn holds(&self, revision: u64) -> bool {
        self.realiser.acknowledged() == Some(Revision(revision))
    }
}

#[test]
fn what_is_told_is_acknowledged_when_the_kernel_has_it() {
    let mut node = node();
    assert!(node.begin() && !node.holds(1));
    assert!(node.work() > 4 && node.holds(1) && node.lets());
    node.isolate(2);
    assert!(node.begin() && node.holds(1) && node.lets());
    assert!(node.work() > 1 && node.holds(2) && !node.lets());
    assert!(node.realiser.is_settled(&node.pods));
    assert_eq!(node.realiser.differs(&node.kept), None);
    node.tell(3, Delta::NodeDelete(NodeName("node9".to_owned())));
    assert!(node.begin());
    node.work();
    assert!(node.holds(3));
}

#[test]
fn what_is_refused_is_not_acknowledged_and_is_written_later() {
    let mut node = node();
    node.begin();
    node.work();
    node.isolate(2);
    node.begin();
    assert_eq!(node.realiser.work(0, true), Turn::Failed);
    assert!(node.holds(1) && node.lets());
    assert!(node.begin());
    node.work();
    assert!(node.holds(2) && !node.lets());
    assert_eq!(node.realiser.differs(&node.kept), None);
}

#[test]
fn a_kernel_outlives_the_process_and_the_next_one_goes_on_from_it() {
    let mut node = node();
    node.begin();
    node.work();
    node.isolate(2);
    node.begin();
    node.realiser.kill();
    assert!(node.holds(1) && node.lets());
    assert_eq!(node.realiser.work(9, false), Turn::Done, "there is nobody who writes");
    node.realiser.revive();
    assert!(node.begin());
    node.work();
    assert!(node.holds(2) && !node.lets());
    assert_eq!(node.realiser.differs(&node.kept), None);
}
