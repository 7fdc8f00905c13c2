//! Two releases of the program, one of which may be upgraded to the other, and put back.

use weft_state::{ClusterState, CommandV1, interests::Scope};

/// Which release a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Release {
    /// The one before: it reads what that wrote.
    Before,
    /// This one.
    #[default]
    Now,
}

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

    /// Whom its operators tell an agent of.
    pub(crate) const fn scope(self) -> Scope {
        match self {
            Self::Before => Scope::Everything,
            Self::Now => Scope::Interests,
        }
    }

    /// Whether it reads a snapshot.
    pub(crate) fn reads(self, snapshot: &[u8]) -> bool {
        // The one before has no patterns of labels.
        let without = |state: ClusterState| state.labels().added().is_empty();
        self == Self::Now || ClusterState::decode(snapshot).is_ok_and(without)
    }
}
