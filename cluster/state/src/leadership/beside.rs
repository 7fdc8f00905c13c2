//! What may be under way at once: a command that is put in order, and one beside it that goes to the store.

use super::{Change, Ticket, Under, Wish};
use crate::CommandV1;
use std::collections::{BTreeSet, VecDeque};
use weft_types::{LabelSet, Object, object::ObjectKey};

/// Commands under way: while some are put in order, the next goes to the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct UnderWay {
    /// Goes to the store, in one transaction or several.
    pub(super) writing: Option<Under>,
    /// Are in the store, and proposed; in their order.
    pub(super) ordering: VecDeque<(Ticket, Under)>,
}

impl UnderWay {
    /// All of them, the eldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Under> {
        self.ordering.iter().map(|(_, under)| under).chain(&self.writing)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Whether numbers are retired or freed, or the group's version is raised.
    pub(super) fn is_due(&self) -> bool {
        self.iter().any(|under| {
            let command = &under.command;
            matches!(command, CommandV1::Retire(_) | CommandV1::Free { .. } | CommandV1::Raise(_))
        })
    }

    /// Whether the group's version is about to be raised.
    pub(super) fn is_raising(&self) -> bool {
        self.iter().any(|under| matches!(under.command, CommandV1::Raise(_)))
    }

    /// Whether what claims this is right beside them, whatever becomes of them.
    pub(super) fn admits(&self, claim: &Claim) -> bool {
        self.iter().all(|under| under.claim.is_apart_from(claim))
    }

    /// Whether a label set is about to have its number.
    pub(super) fn numbers(&self, labels: &LabelSet) -> bool {
        self.iter().any(|under| {
            let numbered = match &under.command {
                CommandV1::Desire { identities, .. }
                | CommandV1::FilterLabels { identities, .. } => identities.as_slice(),
                CommandV1::Said(..)
                | CommandV1::Retire(_)
                | CommandV1::Free { .. }
                | CommandV1::Raise(_) => &[],
            };
            // They were numbered in their order.
            numbered.binary_search_by(|(_, other)| other.cmp(labels)).is_ok()
        })
    }
}

/// What of the desired state a command changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// What others depend on: nodes may be in each other's way, and labels of a namespace are its pods'.
    Everything,
    /// Objects that nothing else depends on.
    Objects(BTreeSet<ObjectKey>),
}

impl Claim {
    /// What a request claims.
    pub(super) fn of(wish: &Wish) -> Self {
        let keys: BTreeSet<ObjectKey> = match wish {
            Wish::Objects(Change { put, remove }) => {
                put.iter().chain(remove).map(Object::key).collect()
            }
            Wish::Number(_) => BTreeSet::new(),
            Wish::Labels(_) => return Self::Everything,
        };
        let alone = |key: &ObjectKey| matches!(key, ObjectKey::Pod(_) | ObjectKey::Policy(_));
        if keys.iter().all(alone) { Self::Objects(keys) } else { Self::Everything }
    }

    /// The claim of both.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Objects(mut these), Self::Objects(those)) => {
                these.extend(those);
                Self::Objects(these)
            }
            (Self::Everything, _) | (_, Self::Everything) => Self::Everything,
        }
    }

    fn is_apart_from(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Objects(these), Self::Objects(those)) => {
                let (few, many) =
                    if these.len() < those.len() { (these, those) } else { (those, these) };
                few.iter().all(|key| !many.contains(key))
            }
            (Self::Everything, _) | (_, Self::Everything) => false,
        }
    }
}
