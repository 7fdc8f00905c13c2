//! Who is of the group. It changes by one member at a time, so any two majorities share a member.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// A member's number, never given to another; 0 is nobody's.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a member counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberRole {
    /// It gets the log and does not vote.
    Learner,
    /// It votes.
    Voter,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where its peers reach it.
    pub address: String,
    /// Whether it counts.
    pub role: MemberRole,
}

/// The members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// By number.
    pub members: BTreeMap<MemberId, Member>,
}

/// A change of the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A new member at an address; it gets the log and does not vote.
    AddLearner(MemberId, String),
    /// A learner votes from now on.
    Promote(MemberId),
    /// A member is none any more.
    Remove(MemberId),
}

impl Change {
    /// The member it concerns.
    pub fn member(&self) -> MemberId {
        match self {
            Self::AddLearner(member, _) | Self::Promote(member) | Self::Remove(member) => *member,
        }
    }
}

impl Group {
    /// A group of voters.
    pub fn of_voters(addresses: impl IntoIterator<Item = (MemberId, String)>) -> Self {
        let voter = |(id, address)| (id, Member { address, role: MemberRole::Voter });
        Self { members: addresses.into_iter().map(voter).collect() }
    }

    /// Those that vote.
    pub fn voters(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.with(MemberRole::Voter)
    }

    /// Those that do not.
    pub fn learners(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.with(MemberRole::Learner)
    }

    fn with(&self, role: MemberRole) -> impl Iterator<Item = MemberId> + '_ {
        self.members.iter().filter(move |(_, member)| member.role == role).map(|(id, _)| *id)
    }

    /// What is wrong with a change of this group; nothing when it can be made.
    pub fn objection(&self, change: &Change) -> Option<&'static str> {
        let member = self.members.get(&change.member()).map(|member| member.role);
        match (change, member) {
            (Change::AddLearner(MemberId(0), _), None) => Some("0 is no member's number"),
            (Change::AddLearner(..), Some(_)) => Some("it is a member already"),
            (Change::Promote(_), Some(MemberRole::Voter)) => Some("it is a voter already"),
            (Change::Promote(_) | Change::Remove(_), None) => Some("there is no such member"),
            (Change::Remove(_), Some(MemberRole::Voter)) if self.voters().count() == 1 => {
                Some("it is the only voter")
            }
            (Change::AddLearner(..), None)
            | (Change::Promote(_), Some(MemberRole::Learner))
            | (Change::Remove(_), Some(_)) => None,
        }
    }

    /// Makes a change to which there is no objection.
    pub(crate) fn make(&mut self, change: &Change) {
        match change {
            Change::AddLearner(id, address) => {
                let member = Member { address: address.clone(), role: MemberRole::Learner };
                self.members.insert(*id, member);
            }
            Change::Promote(id) => {
                if let Some(member) = self.members.get_mut(id) {
                    member.role = MemberRole::Voter;
                }
            }
            Change::Remove(id) => drop(self.members.remove(id)),
        }
    }
}
