//! What became of the session, for everyone who wants to know.

use std::{collections::BTreeMap, net::SocketAddr};
use weft_types::{Invariant, Revision, TraceContext};

/// Epochs whose revision is remembered; flows are told long before so many passed.
const EPOCHS: usize = 256;

/// What became of the session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Newest revision received.
    pub received: Revision,
    /// Revision the kernel holds; zero before the first snapshot.
    pub realised: Revision,
    /// Epoch of that revision.
    pub epoch: u64,
    /// Which revision the kernel holds from which epoch on, of the newest.
    pub epochs: BTreeMap<u64, Revision>,
    /// What brought those: the traces that a packet judged from that epoch on ends.
    pub causes: BTreeMap<u64, Vec<TraceContext>>,
    /// The operator, while connected.
    pub operator: Option<SocketAddr>,
    /// The cluster's name; empty before the first session.
    pub cluster: String,
    /// Why there was no session when one was tried last.
    pub refusal: Option<String>,
    /// Why the newest revision is not realised, if it is not.
    pub problem: Option<String>,
    /// The newest revision, if there is no room for it.
    pub refused: Option<Revision>,
    /// Why what was published is not on this node's disk, if it is not.
    pub unkept: Option<String>,
}

impl Progress {
    /// The kernel holds a revision from an epoch on, and these are what caused that. What does not hold if it held a newer one:
    /// an uplink that was made anew goes on from the disk, which may not have had room for that.
    pub(super) fn realise(
        &mut self,
        revision: Revision,
        epoch: u64,
        caused: Vec<TraceContext>,
    ) -> Option<(Invariant, String)> {
        let before = std::mem::replace(&mut self.realised, revision);
        self.epoch = epoch;
        self.epochs.insert(epoch, revision);
        self.causes.insert(epoch, caused);
        if self.epochs.len() > EPOCHS {
            self.epochs.pop_first();
            self.causes.pop_first();
        }
        (self.problem, self.refused) = (None, None);
        let seen = || format!("the kernel holds {revision}, and held {before} before");
        (revision < before).then(|| (Invariant::NeverBack, seen()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_goes_back_is_noticed() {
        let mut progress = Progress::default();
        for (epoch, revision, goes_back) in
            [(1, 7, false), (2, 7, false), (3, 9, false), (4, 8, true), (5, 8, false)]
        {
            let violated = progress.realise(Revision(revision), epoch, Vec::new());
            let back = violated.is_some_and(|(invariant, _)| invariant == Invariant::NeverBack);
            assert_eq!((back, progress.realised), (goes_back, Revision(revision)), "in {epoch}");
        }
    }
}
