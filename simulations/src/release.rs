//! Two releases of the program, one of which may be upgraded to the other, and put back.

use weft_state::CommandV1;

/// Which release a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Release {
    /// The one before: it reads what that wrote.
    Before,
    /// This one.
    #[default]
    Now,
}

/// What the release before has of snapshots: the first byte.
const SNAPSHOT_BEFORE: u8 = 3;

impl Release {
    /// The one that it is upgraded to, or put back to.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Before => Self::Now,
            Self::Now => Self::Before,
        }
    }

    /// Whether it knows a command that the log has.
    pub(crate) const fn knows(self, command: &CommandV1) -> bool {
        !matches!((self, command), (Self::Before, CommandV1::FilterLabels { .. }))
    }

    /// Whether it reads a snapshot.
    pub(crate) fn reads(self, snapshot: &[u8]) -> bool {
        self == Self::Now || snapshot.first() == Some(&SNAPSHOT_BEFORE)
    }
}
