//! Ways to break what is run, each of which the invariants must notice.

use std::collections::{BTreeMap, BTreeSet};
use weft_state::{ClusterState, CommandV1, Stamp, Unreadable, Word, leadership::Ask};
use weft_types::Identity;

/// Of so many numbers one is forgotten.
const FORGOTTEN: u32 = 3;

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
    /// A leader gives a number again when no pod has its label set any more.
    NumberReused,
    /// A leader frees numbers though nodes that have sessions do not agree.
    VetoIgnored,
    /// A leader frees numbers though nodes that are lost may have them.
    QuarantineSkipped,
    /// An operator takes who comes for one who was told of nobody.
    ToldForgotten,
    /// An operator's snapshot lacks what agents said that they plugged.
    ReferenceLost,
    /// Operators take that a node has plugged a pod with a number, and do not put it in order: one of three numbers.
    PlugForgotten,
    /// A store that goes back to an older copy keeps its fence.
    FenceStays,
    /// A leader takes for granted that every member knows what it knows.
    RaisedEarly,
    /// A leader whom the store does not answer leads on.
    LeadsOn,
    /// An agent acknowledges what it is told before its kernel has it.
    AcknowledgedEarly,
    /// An agent takes what its kernel refused for written.
    RefusalIgnored,
    /// An agent empties a class before it swaps in another content of it.
    ClassEmptied,
    /// With a policy that goes an agent drops another one.
    NeighbourForgotten,
    /// An agent that begins anew takes its kernel's maps for empty.
    MapsForgotten,
    /// An operator answers who looks from its own copy, without asking whether that is old.
    CopyRead,
}

/// Numbers that a leader was about to give, and what it gives instead: some that others had.
#[derive(Default)]
pub(crate) struct Reused(BTreeMap<Identity, Identity>);

impl Reused {
    /// What a leader asks the store, as one does that gives numbers again.
    pub(crate) fn ask(&mut self, state: &ClusterState, ask: Ask) -> Ask {
        let Ask::Write(fence, mut batch) = ask else { return ask };
        let used: BTreeSet<Identity> = state.workloads().values().map(|it| it.identity).collect();
        let mut free = state.identities().values().filter(|number| !used.contains(number));
        for (number, _) in &mut batch.identities {
            if let Some(free) = free.next() {
                self.0.insert(*number, *free);
                *number = *free;
            }
        }
        Ask::Write(fence, batch)
    }

    /// What it has put in order, likewise.
    pub(crate) fn command(&self, mut command: CommandV1) -> CommandV1 {
        if let CommandV1::Desire { identities, .. } = &mut command {
            for (number, _) in identities {
                *number = self.0.get(number).copied().unwrap_or(*number);
            }
        }
        command
    }
}

/// A snapshot that lacks what agents plugged.
pub(crate) fn without_references(state: &ClusterState) -> Result<Vec<u8>, Unreadable> {
    let mut state = state.clone();
    let nodes: Vec<_> = state.nodes().keys().cloned().collect();
    for node in nodes {
        let session = state.heard(&node).unwrap_or_default().session + 1;
        let stamp = Stamp { session, sequence: 0 };
        state.apply(&CommandV1::Said(node, stamp, Word::Are(Vec::new())));
    }
    state.encode()
}

/// What a node says, without pods that are forgotten; none when it is about one of those.
pub(crate) fn forgetting(word: Word) -> Option<Word> {
    let kept = |number: Identity| !number.0.is_multiple_of(FORGOTTEN);
    match word {
        Word::Plug { identity, .. } if !kept(identity) => None,
        Word::Are(mut all) => {
            all.retain(|(_, identity)| kept(*identity));
            Some(Word::Are(all))
        }
        Word::Plug { .. } | Word::Unplug(_) => Some(word),
    }
}
