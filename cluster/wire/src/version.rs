//! Which versions of the messages two programs speak with each other.
//!
//! An agent offers the newest that it speaks: its greeting's frame carries that. The operator answers in the newest that
//! both speak, and so the frame of its answer says which that is. Greetings and their answers ([`crate::ToOperator::Hello`],
//! [`crate::ToAgent::Welcome`], `Refused`, `Stale`) are the same in every version. Any other frame carries the version that
//! first had its message, so that many sessions share it; messages are only ever added, and are not sent to a peer of an
//! older version.

/// Versions that a program speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest; its messages are in all that follow.
    pub oldest: u16,
    /// The newest.
    pub newest: u16,
}

/// Version 5 is refused whatever is offered above it, and knows no other; 6 answers in the newest that both speak.
pub const VERSIONS: Versions = Versions { oldest: 5, newest: 6 };

impl Versions {
    /// What is spoken with a peer that offered a version; none when it is too old.
    pub const fn agree(self, offered: u16) -> Option<u16> {
        match offered {
            _ if offered < self.oldest => None,
            _ if offered < self.newest => Some(offered),
            _ => Some(self.newest),
        }
    }

    /// What to offer next to a peer that refused one in a frame of `answered`; none when that would change nothing. Releases
    /// that only know their own version refuse so.
    pub const fn offer_next(self, refused: u16, answered: u16) -> Option<u16> {
        if answered < refused && answered >= self.oldest { Some(answered) } else { None }
    }

    /// Whether a message that a version was the first to have is understood.
    pub const fn knows(self, version: u16) -> bool {
        self.oldest <= version && version <= self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_speak_the_newest_that_both_do_or_do_not_speak() {
        let ours = Versions { oldest: 5, newest: 7 };
        for (offered, agreed) in [(4, None), (5, Some(5)), (6, Some(6)), (7, Some(7)), (9, Some(7))]
        {
            assert_eq!(ours.agree(offered), agreed, "{offered}");
        }
        assert!(ours.knows(5) && ours.knows(7) && !ours.knows(4) && !ours.knows(8));
    }

    #[test]
    fn whoever_refuses_in_an_older_version_is_offered_that_once() {
        let ours = Versions { oldest: 5, newest: 7 };
        assert_eq!(ours.offer_next(7, 5), Some(5));
        assert_eq!(ours.offer_next(5, 5), None, "it was refused for another reason");
        assert_eq!(ours.offer_next(7, 7), None);
        assert_eq!(ours.offer_next(7, 4), None, "that is not spoken here");
    }
}
