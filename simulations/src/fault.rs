//! What goes wrong, when, and whom it hits.

use serde::Deserialize;

/// One fault, once (`at`) or again and again (`every`).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Fault {
    /// What.
    pub(crate) kind: Kind,
    /// Whom.
    #[serde(default)]
    pub(crate) whom: Whom,
    /// Milliseconds from the beginning; then it lasts as long as it says.
    #[serde(default)]
    pub(crate) at: u64,
    /// Milliseconds from the beginning, or from the time before; give or take a third.
    #[serde(default)]
    pub(crate) every: u64,
    /// Milliseconds that it lasts; give or take a third.
    pub(crate) lasts: u64,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Nothing; a world without faults.
    Nothing,
    /// The process ends, what was not synced is lost, and it comes back; who is connected to it sees that. Of an agent: its
    /// node fails, and comes back with nothing.
    Kill,
    /// The same of a whole machine: nobody is told.
    CutPower,
    /// The process ends in order: who leads lets another lead first. It comes back.
    Restart,
    /// It comes back as the other of two releases; everybody begins as the older one and ends as the newer. No operator is put
    /// back any more once all of them were upgraded.
    Upgrade,
    /// The process stands still, and what is sent to it waits.
    Pause,
    /// No message to or from other members. Of an agent: it reaches no operator, and its node keeps what it has.
    CutOff,
    /// None to it.
    Deafen,
    /// None from it.
    Mute,
    /// The process ends and its disk is lost; a new member takes its place.
    LoseDisk,
    /// Its disk takes fifty times as long.
    SlowDisk,
    /// Its disk takes nothing more: the process ends when it has tried to write for a while, again and again.
    FullDisk,
    /// Its clock jumps ahead: so many ticks come at once.
    ClockJump,
    /// Agents lose their operators, and go to any.
    Disconnect,
    /// The store answers nobody; what it was asked may be done later.
    StoreOutage,
    /// The same to an operator alone.
    CutStore,
    /// The store becomes the copy of itself that was made that long ago, until for as long again the newest is put back.
    RestoreStore,
    /// All operators end, and their disks are lost: the cluster is founded anew from the store.
    LoseGroup,
    /// An agent's process ends and comes back; its node, its pods and its kernel go on.
    AgentKill,
    /// A node's kernel takes some of what it is to write, and refuses the rest.
    KernelRefuses,
}

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Whom {
    /// Who leads; nobody while nobody does.
    #[default]
    Leader,
    /// One who does not.
    Follower,
    /// Anybody.
    Any,
    /// Each in turn.
    Next,
    /// So many that those who are left are no majority.
    Majority,
    /// Everybody.
    All,
    /// So many percent of the agents, and at least one; all others are operators.
    Agents(u8),
}

impl Kind {
    /// What it does, after the name of whom it hits.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Nothing => "is left alone",
            Self::Kill => "is killed",
            Self::CutPower => "loses power",
            Self::Restart => "is restarted",
            Self::Upgrade => "becomes the other release",
            Self::Pause => "stands still",
            Self::CutOff => "is cut off from operators",
            Self::Deafen => "hears no other member",
            Self::Mute => "is heard by no other member",
            Self::LoseDisk => "loses its disk",
            Self::SlowDisk => "has a slow disk",
            Self::FullDisk => "has a full disk",
            Self::ClockJump => "has its clock jump ahead",
            Self::Disconnect => "loses its operator",
            Self::StoreOutage => "answers nobody",
            Self::CutStore => "hears nothing of the store",
            Self::RestoreStore => "is an older copy",
            Self::LoseGroup => "loses its disk, as all do",
            Self::AgentKill => "has its process killed",
            Self::KernelRefuses => "has a kernel that refuses writes",
        }
    }

    /// Whether it ends when everything is made good; others take their time.
    pub(crate) const fn is_made_good(self) -> bool {
        matches!(
            self,
            Self::CutOff
                | Self::Deafen
                | Self::Mute
                | Self::SlowDisk
                | Self::FullDisk
                | Self::StoreOutage
                | Self::CutStore
                | Self::RestoreStore
                | Self::KernelRefuses
        )
    }
}

impl Fault {
    /// Whether there is such a fault of those whom it hits.
    pub(crate) fn is_possible(&self) -> bool {
        match (self.whom, self.kind) {
            (
                Whom::Agents(percent),
                Kind::Kill
                | Kind::CutOff
                | Kind::Disconnect
                | Kind::Upgrade
                | Kind::AgentKill
                | Kind::KernelRefuses,
            ) => percent <= 100,
            (Whom::Agents(_), _)
            | (_, Kind::Disconnect | Kind::AgentKill | Kind::KernelRefuses) => false,
            _ => true,
        }
    }

    /// Whether it comes once, or again and again.
    pub(crate) fn has_a_time(&self) -> bool {
        (self.at > 0) != (self.every > 0)
    }

    /// The same in a run that is so many times as long: what comes once comes later and lasts longer, what comes again and
    /// again is rarer.
    pub(crate) fn stretched(self, times: u64) -> Self {
        let Self { at, every, lasts, .. } = self;
        let lasts = if at > 0 { lasts.saturating_mul(times) } else { lasts };
        Self { at: at.saturating_mul(times), every: every.saturating_mul(times), lasts, ..self }
    }
}
