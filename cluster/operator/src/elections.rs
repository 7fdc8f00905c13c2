//! Who led in which term, as an operator saw it: never two in one. Pure.

use weft_raft::{MemberId, Role, Term};

/// The newest term of which a leader is known.
#[derive(Clone, Copy, Debug)]
pub struct Elections {
    member: MemberId,
    led: Option<(Term, MemberId)>,
}

impl Elections {
    /// As this member sees them.
    pub fn new(member: MemberId) -> Self {
        Self { member, led: None }
    }

    /// This member has a role in a term. Two who lead in it, if another was seen to.
    pub fn see(&mut self, role: Role, term: Term) -> Option<(MemberId, MemberId)> {
        let leader = match role {
            Role::Elected | Role::Leader => self.member,
            Role::Follower(Some(leader)) => leader,
            Role::Follower(None) | Role::Candidate => return None,
        };
        let first = self.led.filter(|(led, _)| *led == term).map_or(leader, |(_, first)| first);
        self.led = Some((term, first));
        (first != leader).then_some((first, leader))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_has_one_leader() {
        let (me, other, third) = (MemberId(1), MemberId(2), MemberId(3));
        let mut elections = Elections::new(me);
        for (role, term, two) in [
            (Role::Follower(None), 1, None),
            (Role::Follower(Some(other)), 1, None),
            // It was not heard for a while, and is again.
            (Role::Follower(None), 1, None),
            (Role::Follower(Some(other)), 1, None),
            (Role::Candidate, 2, None),
            (Role::Elected, 2, None),
            (Role::Leader, 2, None),
            (Role::Follower(Some(other)), 2, Some((me, other))),
            (Role::Follower(Some(third)), 3, None),
            (Role::Follower(Some(other)), 3, Some((third, other))),
            (Role::Follower(Some(other)), 4, None),
        ] {
            assert_eq!(elections.see(role, term), two, "{role:?} in {term}");
        }
    }
}
