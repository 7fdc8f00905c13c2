//! What operators published, on its way through the actors.

use crate::{Refusal, runtime::request};
use std::{collections::BTreeMap, sync::Arc};
use weft_types::{Delta, Identity, Invariant, Revision, delta::DeltaKey};

/// Bring this actor, and what it owns in the kernel, to a revision.
#[derive(Clone, Debug)]
pub struct Advance {
    /// The revision.
    pub revision: Revision,
    /// Whether `deltas` is the whole state: what it does not name does not exist.
    pub whole: bool,
    /// The changes.
    pub deltas: Arc<[Arc<Delta>]>,
}
request!(Advance => Result<(), Refusal>);

/// Everything published, as of one revision. A snapshot becomes a difference here, so that nothing is deleted
/// before it is complete and nobody else needs to know of snapshots.
#[derive(Debug, Default)]
pub struct Published {
    revision: Revision,
    /// What the operator had when the session began.
    awaited: Revision,
    state: BTreeMap<DeltaKey, Arc<Delta>>,
    /// A snapshot on its way.
    incoming: Option<BTreeMap<DeltaKey, Arc<Delta>>>,
    /// Changes that nobody was told of yet.
    changes: BTreeMap<DeltaKey, Arc<Delta>>,
    /// What was told that must never be, and that nobody was told of yet.
    violations: Vec<(Invariant, String)>,
}

impl Published {
    /// What a disk held, complete as of a revision.
    pub fn recovered(revision: Revision, deltas: Vec<Delta>) -> Self {
        let state = deltas.into_iter().map(|delta| (delta.key(), Arc::new(delta))).collect();
        Self { revision, state, ..Self::default() }
    }

    /// The newest complete revision; zero before the first snapshot.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The identities that are here.
    pub fn identities(&self) -> Vec<Identity> {
        let keys = self.state.keys().map_while(|key| match key {
            DeltaKey::Identity(number) => Some(*number),
            _ => None,
        });
        keys.collect()
    }

    /// A session begins with an operator whose newest revision is this one.
    pub fn awaits(&mut self, newest: Revision) {
        self.awaited = newest;
    }

    /// Whether this is what the operator had when the session began, or newer. A snapshot may be of an earlier
    /// revision, with the rest to follow: the kernel may hold more than that already, and does not go back.
    pub fn is_current(&self) -> bool {
        self.revision != Revision::ZERO && self.revision >= self.awaited
    }

    /// A snapshot begins; one that was on its way is forgotten.
    pub fn begin_snapshot(&mut self) {
        self.incoming = Some(BTreeMap::new());
    }

    /// Changes, or a part of a snapshot. False if they are older than what is here.
    pub fn take(&mut self, revision: Revision, deltas: Vec<Delta>) -> bool {
        if let Some(incoming) = &mut self.incoming {
            incoming.extend(deltas.into_iter().map(|delta| (delta.key(), Arc::new(delta))));
            return true;
        }
        if self.is_older(revision) {
            return false;
        }
        for delta in deltas.into_iter().map(Arc::new) {
            let key = delta.key();
            if delta.is_delete() {
                self.state.remove(&key);
            } else {
                let before = self.state.insert(key.clone(), Arc::clone(&delta));
                self.violations.extend(reused(before.as_deref(), &delta));
            }
            self.changes.insert(key, delta);
        }
        self.revision = revision;
        true
    }

    /// The snapshot is complete. False if it is older than what is here; then nothing changes.
    pub fn end_snapshot(&mut self, revision: Revision) -> bool {
        let incoming = self.incoming.take().unwrap_or_default();
        if self.is_older(revision) {
            return false;
        }
        let gone = self.state.iter().filter(|(key, _)| !incoming.contains_key(*key));
        let gone: Vec<_> = gone.map(|(key, was)| (key.clone(), Arc::new(was.deletion()))).collect();
        let new = incoming.iter().filter(|(key, delta)| self.state.get(*key) != Some(*delta));
        let new: Vec<_> = new.map(|(key, delta)| (key.clone(), Arc::clone(delta))).collect();
        let before = |key| self.state.get(key).map(|delta| &**delta);
        self.violations.extend(new.iter().filter_map(|(key, delta)| reused(before(key), delta)));
        self.changes.extend(gone);
        self.changes.extend(new);
        self.state = incoming;
        self.revision = revision;
        true
    }

    /// Whether an operator tells what is older than it, or another, told before: that one is lost to it.
    fn is_older(&mut self, revision: Revision) -> bool {
        let is_older = revision < self.revision;
        if is_older {
            let seen =
                format!("an operator tells {revision}, and {} was told before", self.revision);
            self.violations.push((Invariant::NothingLost, seen));
        }
        is_older
    }

    /// What was told since this was asked last that must never be.
    pub fn violations(&mut self) -> Vec<(Invariant, String)> {
        std::mem::take(&mut self.violations)
    }

    /// What changed since this was asked last.
    pub fn changes(&mut self) -> Advance {
        let deltas = std::mem::take(&mut self.changes).into_values().collect();
        Advance { revision: self.revision, whole: false, deltas }
    }

    /// Everything.
    pub fn whole(&self) -> Advance {
        let deltas = self.state.values().cloned().collect();
        Advance { revision: self.revision, whole: true, deltas }
    }
}

/// Whether a number stands for another label set than it did, and this node was not told to forget it in between: its kernel
/// took pods with it for the one while it was the other's.
fn reused(before: Option<&Delta>, now: &Delta) -> Option<(Invariant, String)> {
    let (Some(Delta::IdentityUpsert(number, was)), Delta::IdentityUpsert(_, is)) = (before, now)
    else {
        return None;
    };
    (was != is).then(|| {
        let seen = format!("{number} is {is}, and this node knows it as {was}");
        (Invariant::NoReuse, seen)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_types::{Identity, LabelSet, Node, NodeName, Source};

    fn node(name: &str, last: u8) -> Delta {
        Delta::NodeUpsert(Node {
            name: NodeName(name.to_owned()),
            address: [10, 0, 0, last].into(),
            pod_cidrs: Vec::new(),
        })
    }

    fn identity(number: u32) -> Delta {
        Delta::IdentityUpsert(Identity(number), LabelSet::new())
    }

    fn told(published: &mut Published) -> Vec<Delta> {
        published.changes().deltas.iter().map(|delta| (**delta).clone()).collect()
    }

    fn violated(published: &mut Published) -> Vec<Invariant> {
        published.violations().into_iter().map(|(invariant, _)| invariant).collect()
    }

    #[test]
    fn a_snapshot_is_a_difference_once_it_is_complete() {
        let mut published = Published::default();
        published.begin_snapshot();
        published.take(Revision(5), vec![node("a", 1), identity(300)]);
        assert_eq!(told(&mut published), [], "nothing before the end");
        assert!(published.end_snapshot(Revision(5)));
        assert_eq!(told(&mut published), [identity(300), node("a", 1)]);

        published.begin_snapshot();
        published.take(Revision(9), vec![node("a", 2), node("b", 3)]);
        assert!(published.end_snapshot(Revision(9)));
        let gone = Delta::IdentityDelete(Identity(300));
        assert_eq!(told(&mut published), [gone, node("a", 2), node("b", 3)]);
        assert_eq!(published.whole().deltas.len(), 2);
    }

    #[test]
    fn of_two_changes_of_one_thing_the_later_counts() {
        let mut published = Published::default();
        published.begin_snapshot();
        published.end_snapshot(Revision(1));
        published.take(Revision(2), vec![node("a", 1)]);
        published.take(Revision(3), vec![Delta::NodeDelete(NodeName("a".to_owned()))]);
        assert_eq!(told(&mut published), [Delta::NodeDelete(NodeName("a".to_owned()))]);
        assert_eq!(published.whole().deltas.len(), 0);
    }

    #[test]
    fn an_old_snapshot_is_not_current_until_the_rest_has_followed() {
        let mut published = Published::default();
        assert!(!published.is_current());
        published.awaits(Revision(9));
        published.begin_snapshot();
        published.take(Revision(5), vec![node("a", 1)]);
        published.end_snapshot(Revision(5));
        assert!(!published.is_current());
        published.take(Revision(8), vec![node("b", 1)]);
        assert!(!published.is_current());
        published.take(Revision(9), vec![node("c", 1)]);
        assert!(published.is_current());
        assert_eq!(published.changes().deltas.len(), 3);
    }

    #[test]
    fn nothing_goes_back_in_time() {
        let mut published = Published::default();
        published.begin_snapshot();
        published.end_snapshot(Revision(7));
        assert!(!published.take(Revision(6), vec![node("a", 1)]));
        published.begin_snapshot();
        assert!(!published.end_snapshot(Revision(6)));
        assert_eq!(told(&mut published), []);
        assert_eq!(published.revision(), Revision(7));
        assert_eq!(violated(&mut published), [Invariant::NothingLost, Invariant::NothingLost]);
    }

    #[test]
    fn a_number_is_another_sets_when_it_was_to_be_forgotten_and_not_before() {
        let set = |app: &str| {
            let mut labels = LabelSet::new();
            labels.insert(Source::K8s, "app", app);
            Delta::IdentityUpsert(Identity(300), labels)
        };
        let gone = Delta::IdentityDelete(Identity(300));
        let mut published = Published::default();
        for (revision, deltas, violations) in [
            (1, vec![set("web")], vec![]),
            (2, vec![set("web")], vec![]),
            (3, vec![gone], vec![]),
            (4, vec![set("db")], vec![]),
            (5, vec![set("web")], vec![Invariant::NoReuse]),
        ] {
            assert!(published.take(Revision(revision), deltas));
            assert_eq!(violated(&mut published), violations, "at {revision}");
        }
        for (revision, app, violations) in [(6, "web", vec![]), (7, "db", vec![Invariant::NoReuse])]
        {
            published.begin_snapshot();
            published.take(Revision(revision), vec![set(app)]);
            assert!(published.end_snapshot(Revision(revision)));
            assert_eq!(violated(&mut published), violations, "at {revision}");
        }
    }
}
