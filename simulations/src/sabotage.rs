//! Ways to break what is run, each of which the invariants must notice.

/// What is broken in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// Nothing.
    #[default]
    None,
    /// A member vouches for what it has written before it is synced.
    AnswerBeforeDurability,
    /// The store takes writes whatever their fence.
    FenceNotCompared,
    /// A new leader does not look at what the store has and the log has not.
    RecordNotAdopted,
    /// An operator that is behind an agent has it begin anew with what it has itself.
    OldSnapshotGiven,
}
