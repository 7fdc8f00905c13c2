//! Two releases of the program, one of which may be upgraded to the other, and put back until every member was upgraded.

use weft_state::{CommandV1, OLDEST, VERSION, interests::Scope};
use weft_types::LabelFilter;
use weft_wire::{VERSIONS, version::Versions};

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

    /// The newest version of entries and snapshots that it knows.
    pub(crate) const fn log(self) -> u8 {
        match self {
            Self::Before => OLDEST,
            Self::Now => VERSION,
        }
    }

    /// What its agents and operators speak with each other.
    pub(crate) const fn wire(self) -> Versions {
        match self {
            Self::Before => Versions { oldest: VERSIONS.oldest, newest: VERSIONS.oldest },
            Self::Now => VERSIONS,
        }
    }

    /// In which version an operator of it answers what an agent offers: an error where it refuses that.
    pub(crate) fn answer(self, offered: u16) -> Result<u16, u16> {
        match self {
            // It takes none but its own.
            Self::Before if offered != self.wire().newest => Err(self.wire().newest),
            Self::Before | Self::Now => self.wire().agree(offered).ok_or(self.wire().oldest),
        }
    }

    /// Whether it knows a command that the log has.
    pub(crate) const fn knows(self, command: &CommandV1) -> bool {
        command.since() <= self.log()
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
        snapshot.first().is_none_or(|version| *version <= self.log())
    }
}

/// Which labels make identities by the configuration of the newer release's operators; the older has no such option. No pod
/// has what it leaves out, so numbers stay as they are.
pub(crate) fn filter() -> LabelFilter {
    LabelFilter::parse(&["!spare".to_owned()]).unwrap_or_default()
}
