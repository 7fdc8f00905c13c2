//! What a run must have had to count.

use serde::Deserialize;

/// What a run must have had: one that has not is void.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Minimum {
    /// Faults that hit.
    pub(crate) faults: u64,
    /// Changes that were answered.
    pub(crate) answers: u64,
    /// Identities at the end.
    #[serde(default)]
    pub(crate) identities: u64,
    /// Numbers that were given.
    #[serde(default)]
    pub(crate) given: u64,
    /// Numbers that were freed.
    #[serde(default)]
    pub(crate) freed: u64,
    /// Numbers that were given to another label set than before.
    #[serde(default)]
    pub(crate) reused: u64,
    /// Leaders that saw that the store is an older copy, and ended.
    #[serde(default)]
    pub(crate) copies: u64,
    /// Pods that agents plugged, and the log took.
    #[serde(default)]
    pub(crate) plugs: u64,
    /// Times that an agent went to another operator.
    #[serde(default)]
    pub(crate) moves: u64,
    /// Times that a namespace was relabelled.
    #[serde(default)]
    pub(crate) relabels: u64,
    /// Pods that were started anew where they were.
    #[serde(default)]
    pub(crate) restarts: u64,
    /// ADDs of pods that were answered "try again".
    #[serde(default)]
    pub(crate) refusals: u64,
    /// Changes of policies that were answered.
    #[serde(default)]
    pub(crate) policies: u64,
    /// Packets that kernels judged.
    #[serde(default)]
    pub(crate) packets: u64,
    /// Packets of those that were refused.
    #[serde(default)]
    pub(crate) packets_refused: u64,
    /// Times that a kernel refused a write.
    #[serde(default)]
    pub(crate) writes_refused: u64,
    /// Processes of agents that were killed.
    #[serde(default)]
    pub(crate) agents_killed: u64,
    /// Looks at objects and numbers that were answered: without any the history says nothing.
    #[serde(default = "some_reads")]
    pub(crate) reads: u64,
}

impl Minimum {
    /// What there is more of the longer a run is: all but identities at the end.
    pub(super) fn by_time(&mut self) -> impl Iterator<Item = &mut u64> {
        let Self {
            faults,
            answers,
            identities: _,
            given,
            freed,
            reused,
            copies,
            plugs,
            moves,
            relabels,
            restarts,
            refusals,
            policies,
            packets,
            packets_refused,
            writes_refused,
            agents_killed,
            reads,
        } = self;
        let numbers = [given, freed, reused, copies];
        let others = [faults, answers, plugs, moves, relabels, restarts, refusals, reads];
        let kernels = [policies, packets, packets_refused, writes_refused, agents_killed];
        numbers.into_iter().chain(others).chain(kernels)
    }

    /// What there is none of where agents are many: they have no kernels.
    pub(super) fn of_kernels(&mut self) -> impl Iterator<Item = &mut u64> {
        let Self { policies, packets, packets_refused, writes_refused, agents_killed, .. } = self;
        [policies, packets, packets_refused, writes_refused, agents_killed].into_iter()
    }

    /// What there is more of the more clients and pods there are.
    pub(super) fn of_traffic(&mut self) -> impl Iterator<Item = &mut u64> {
        let Self { identities, answers, given, freed, reused, plugs, .. } = self;
        let Self { refusals, policies, packets, packets_refused, writes_refused, reads, .. } = self;
        let numbers = [identities, given, freed, reused];
        let kernels = [policies, packets, packets_refused, writes_refused];
        numbers.into_iter().chain([answers, plugs, refusals, reads]).chain(kernels)
    }
}

fn some_reads() -> u64 {
    10
}
