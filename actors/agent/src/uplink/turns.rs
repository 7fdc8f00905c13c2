//! Whose turn it is: with which operator a node's agent tries a session next. Pure.
//!
//! | how the last one ended | the next is with |
//! |---|---|
//! | there was none yet | the node's own operator, which its name chooses, so that a cluster's agents spread over its operators |
//! | it was lost, or refused | the next operator in the list |
//! | its time with another operator was over | the node's own, which may be back: without that all agents would end with one, after each was restarted |

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use weft_types::NodeName;

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was lost, or did not come to be.
    Lost,
    /// It has lasted as long as one with another's operator may.
    TimeIsOver,
}

/// A place in the list of operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turns {
    operators: usize,
    own: usize,
    now: usize,
}

impl Turns {
    /// Of a node, with so many operators.
    pub(super) fn new(node: &NodeName, operators: usize) -> Self {
        let operators = operators.max(1);
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&node.0);
        let own = usize::try_from(hash % (operators as u64)).unwrap_or_default();
        Self { operators, own, now: own }
    }

    /// The operator whose turn it is.
    pub(super) const fn now(self) -> usize {
        self.now
    }

    /// Whether that is the node's own.
    pub(super) const fn is_own(self) -> bool {
        self.now == self.own
    }

    /// Another's turn.
    pub(super) const fn end(&mut self, ended: Ended) {
        self.now = match ended {
            Ended::Lost => (self.now + 1) % self.operators,
            Ended::TimeIsOver => self.own,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_spread_and_each_goes_round_and_home() {
        let mut of = [0; 3];
        for number in 0..300 {
            let mut turns = Turns::new(&NodeName(format!("node{number}")), 3);
            let own = turns.now();
            assert!(turns.is_own());
            of[own] += 1;
            turns.end(Ended::Lost);
            assert_eq!((turns.now(), turns.is_own()), ((own + 1) % 3, false));
            turns.end(Ended::Lost);
            turns.end(Ended::TimeIsOver);
            assert_eq!(turns.now(), own);
            (0..3).for_each(|_| turns.end(Ended::Lost));
            assert_eq!(turns.now(), own);
        }
        assert!(of.iter().all(|count| (70..130).contains(count)), "{of:?}");
        let mut only = Turns::new(&NodeName("node1".to_owned()), 1);
        only.end(Ended::Lost);
        assert!(only.is_own());
    }
}
