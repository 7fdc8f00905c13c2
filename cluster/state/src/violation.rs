//! What an entry of the log breaks, as the state sees it that is about to take it. The state itself takes no second number.
//!
//! | an entry gives a number to a label set, and | that breaks |
//! |---|---|
//! | the set has another number, by the state or by the entry | one label set, one number |
//! | the number stands for another set, by the state or by the entry | one label set, one number |
//! | the number stands for nothing, and a node has it | no reuse: that node takes its pods for the set's |
//! | the number is the set's already | nothing: what the store holds is adopted once more |

use crate::{ClusterState, CommandV1};
use std::collections::BTreeMap;
use weft_types::{Identity, Invariant, LabelSet};

impl ClusterState {
    /// What a command breaks that is applied next; and what is seen of it.
    pub fn violations(&self, command: &CommandV1) -> Vec<(Invariant, String)> {
        let (CommandV1::Desire { identities, .. } | CommandV1::FilterLabels { identities, .. }) =
            command
        else {
            return Vec::new();
        };
        let (mut numbers, mut sets) = (BTreeMap::new(), BTreeMap::new());
        let mut broken = Vec::new();
        for (number, labels) in identities {
            let first = *numbers.entry(labels).or_insert(*number);
            let set = *sets.entry(*number).or_insert(labels);
            let is_second = first != *number || set != labels;
            let by_state = self.broken_by(*number, labels);
            // What breaks one thing in two ways breaks it once.
            let again = is_second.then(|| two(*number, labels));
            let id = by_state.as_ref().map(|(invariant, _)| *invariant);
            broken.extend(by_state);
            broken.extend(again.filter(|(invariant, _)| Some(*invariant) != id));
        }
        broken
    }

    fn broken_by(&self, number: Identity, labels: &LabelSet) -> Option<(Invariant, String)> {
        let known = self.references().get(number);
        let set = known.and_then(|known| known.labels.as_deref());
        let has = self.identities().get(labels);
        if has.is_some_and(|has| *has != number) || set.is_some_and(|set| set != labels) {
            return Some(two(number, labels));
        }
        let node = known.filter(|_| set.is_none())?.nodes.keys().next()?;
        let seen = format!("{number} is given to {labels}, and node {node} has it as another's");
        Some((Invariant::NoReuse, seen))
    }
}

fn two(number: Identity, labels: &LabelSet) -> (Invariant, String) {
    let seen = format!("{number} is given to {labels}: one of them has another already");
    (Invariant::OneNumber, seen)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use crate::{Stamp, Word};
    use weft_types::{Label, Node, NodeName, Object, Source};

    fn labels(app: &str) -> LabelSet {
        let (key, value) = ("app".to_owned(), app.to_owned());
        LabelSet::from_iter([Label { source: Source::K8s, key, value }])
    }

    fn give(pairs: &[(u32, &str)], put: Vec<Object>) -> CommandV1 {
        let pair = |(number, app): &(u32, &str)| (Identity(*number), labels(app));
        let identities = pairs.iter().map(pair).collect();
        CommandV1::Desire { put, remove: Vec::new(), identities }
    }

    /// `web` has 256, and a node has a pod with 300, of a life of the cluster that was lost.
    fn state() -> ClusterState {
        let name = NodeName("node1".to_owned());
        let pod_cidrs = vec!["10.0.0.0/24".parse().unwrap()];
        let node =
            Object::Node(Node { name: name.clone(), address: [10, 1, 0, 1].into(), pod_cidrs });
        let mut state = ClusterState::new("blue");
        state.apply(&give(&[(256, "web")], vec![node]));
        let has = Word::Are(vec![([10, 0, 0, 7].into(), Identity(300))]);
        state.apply(&CommandV1::Said(name, Stamp { session: 1, sequence: 1 }, has));
        state
    }

    #[test]
    fn a_number_is_given_once_and_not_while_a_node_has_it() {
        for (given, broken) in [
            (vec![(257, "db"), (258, "cache")], vec![]),
            (vec![(256, "web")], vec![]),
            (vec![(257, "web")], vec![Invariant::OneNumber]),
            (vec![(256, "db")], vec![Invariant::OneNumber]),
            (vec![(257, "db"), (258, "db")], vec![Invariant::OneNumber]),
            (vec![(257, "db"), (257, "cache")], vec![Invariant::OneNumber]),
            (vec![(300, "db")], vec![Invariant::NoReuse]),
            (vec![(257, "web"), (300, "db")], vec![Invariant::OneNumber, Invariant::NoReuse]),
        ] {
            let seen = state().violations(&give(&given, Vec::new()));
            let seen: Vec<Invariant> = seen.into_iter().map(|(invariant, _)| invariant).collect();
            assert_eq!(seen, broken, "{given:?}");
        }
    }
}
