//! Which version of the log members know, as each says when it connects; what all of them know may be written. Pure.

use std::collections::BTreeMap;
use weft_raft::MemberId;
use weft_state::OLDEST;

/// What was heard of other members in this life.
#[derive(Clone, Debug, Default)]
pub struct Versions(BTreeMap<MemberId, u8>);

/// A member of a release that cannot read what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the group is of version {group}, member {member} knows {knows}: give it the release of the others"
)]
pub struct TooOld {
    /// Who.
    pub member: MemberId,
    /// The newest that it knows.
    pub knows: u8,
    /// What the group is of.
    pub group: u8,
}

impl Versions {
    /// A member says the newest version that it speaks; an error where the group is of a newer one.
    pub fn hear(&mut self, member: MemberId, speaks: u8, group: u8) -> Result<(), TooOld> {
        // Releases that say less know this.
        let knows = speaks.max(OLDEST);
        self.0.insert(member, knows);
        if knows < group { Err(TooOld { member, knows, group }) } else { Ok(()) }
    }

    /// The newest version that all of these know, among them this one, which knows that; 0 where one was not heard of.
    pub fn known_by_all(
        &self,
        (own, knows): (MemberId, u8),
        members: impl IntoIterator<Item = MemberId>,
    ) -> u8 {
        let known = |member: MemberId| match member {
            member if member == own => knows,
            other => self.0.get(&other).copied().unwrap_or_default(),
        };
        members.into_iter().map(known).min().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_state::VERSION;

    #[test]
    fn what_is_known_is_what_the_oldest_says_and_nothing_while_one_is_silent() {
        let members = [1, 2, 3].map(MemberId);
        let own = (MemberId(1), VERSION);
        let mut versions = Versions::default();
        assert_eq!(versions.known_by_all(own, members), 0);
        assert_eq!(versions.known_by_all(own, [MemberId(1)]), VERSION, "it is alone");
        let (second, third) = (MemberId(2), MemberId(3));
        assert_eq!(versions.hear(second, VERSION, OLDEST), Ok(()));
        assert_eq!(versions.hear(third, 2, OLDEST), Ok(()));
        assert_eq!(versions.known_by_all(own, members), OLDEST);
        assert_eq!(versions.hear(third, VERSION, OLDEST), Ok(()));
        assert_eq!(versions.known_by_all(own, members), VERSION);
        let too_old = TooOld { member: third, knows: OLDEST, group: VERSION };
        assert_eq!(versions.hear(third, 2, VERSION), Err(too_old));
    }
}
