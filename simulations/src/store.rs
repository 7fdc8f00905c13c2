//! The store as operators meet it: far away, sometimes silent, and sometimes late.

use crate::{invariant::Invariants, sabotage::Sabotage, time::Micros};
use std::collections::BTreeMap;
use weft_raft::MemberId;
use weft_state::leadership::{Ask, Contents, Stored, Trouble};
use weft_store::{Batch, Comparing, Fence, MemoryStore, Store, StoreError};
use weft_types::Cluster;

/// The store, and whether it is there.
pub(crate) struct SimStore {
    pub(crate) contents: MemoryStore,
    /// Silent until then.
    pub(crate) down_until: Micros,
    /// Silent to a member until then.
    pub(crate) cut_until: BTreeMap<MemberId, Micros>,
    /// A copy that was made of it, until it goes back to that.
    copy: Option<MemoryStore>,
    /// What it had when it went back to an older copy, until that is put in its place.
    newest: Option<MemoryStore>,
    sabotage: Sabotage,
}

impl SimStore {
    pub(crate) fn new(sabotage: Sabotage) -> Self {
        let comparing = match sabotage {
            Sabotage::FenceNotCompared => Comparing::Never,
            _ => Comparing::Always,
        };
        let (contents, cut_until) = (MemoryStore::new(comparing), BTreeMap::new());
        let (copy, newest) = (None, None);
        Self { contents, down_until: Micros(0), cut_until, copy, newest, sabotage }
    }

    /// What was written to it, whether it still has it or not.
    pub(crate) fn newest(&self) -> &MemoryStore {
        self.newest.as_ref().filter(|_| self.is_an_older_copy()).unwrap_or(&self.contents)
    }

    /// A copy is made, unless one is in its place already, or is about to be.
    pub(crate) fn back_up(&mut self) -> bool {
        let is_free = self.copy.is_none() && self.newest.is_none();
        if is_free {
            self.copy = Some(self.contents.clone());
        }
        is_free
    }

    /// It is its copy from now on.
    pub(crate) fn go_back(&mut self) {
        let Some(mut copy) = self.copy.take() else { return };
        if self.sabotage == Sabotage::FenceStays
            && let (Ok(Some((cluster, now))), Ok(Some((_, before)))) =
                (self.contents.founded(), copy.founded())
        {
            // A store that is asked has no word for that, but for a leader's.
            drop(copy.raise(&cluster, Some(before), now));
        }
        self.newest = Some(std::mem::replace(&mut self.contents, copy));
    }

    /// The newest copy is put in its place. If nothing had been written since the older one was made, both are the same, and it
    /// may have gone on.
    pub(crate) fn put_back(&mut self) {
        self.copy = None;
        let is_older = self.is_an_older_copy();
        if let Some(newest) = self.newest.take().filter(|_| is_older) {
            self.contents = newest;
        }
    }

    fn is_an_older_copy(&self) -> bool {
        let fence = |store: &MemoryStore| store.founded().ok().flatten().map(|(_, fence)| fence);
        self.newest.as_ref().is_some_and(|newest| fence(newest) > fence(&self.contents))
    }

    /// Until when a member hears nothing of it.
    pub(crate) fn silent_until(&self, member: MemberId) -> Micros {
        self.cut_until.get(&member).copied().unwrap_or(Micros(0)).max(self.down_until)
    }

    /// Whoever holds a number that a batch gives loses it. A store has no word for that: it is made anew without it.
    fn forget_holders(&mut self, fence: Fence, batch: &Batch) -> Result<(), StoreError> {
        let Some((cluster, held)) = self.contents.founded()?.filter(|(_, held)| *held == fence)
        else {
            return Ok(());
        };
        let mut identities = self.contents.identities()?;
        identities.retain(|(number, _)| batch.identities.iter().all(|(given, _)| given != number));
        let kept = Batch { identities, put: self.contents.objects()?, ..Batch::default() };
        self.contents = MemoryStore::new(Comparing::Always);
        self.contents.raise(&cluster, None, held)?;
        self.contents.write(held, &kept)?;
        self.contents.raise(&cluster, Some(held.after_a_write()), held)
    }

    /// Does what it is asked, at once and whole.
    pub(crate) fn carry_out(
        &mut self,
        now: Micros,
        cluster: &Cluster,
        ask: &Ask,
        invariants: &mut Invariants,
    ) -> Result<Stored, Trouble> {
        // What was on its way since then may still arrive at an older copy: nobody adopts it, and it goes with the copy. Who takes
        // the copy for the newest, since the log has nothing of what it lacks, has a higher fence than that.
        let is_older = self.is_an_older_copy();
        match ask {
            Ask::Founded => Ok(Stored::Founded(self.contents.founded().map_err(trouble)?)),
            Ask::Raise(before, after) => {
                self.contents.raise(cluster, *before, *after).map_err(trouble)?;
                if !is_older || *after > invariants.fence() {
                    invariants.raised(now, *after);
                }
                Ok(Stored::Done)
            }
            Ask::List => {
                let identities = self.contents.identities().map_err(trouble)?;
                let given = self.contents.given().map_err(trouble)?;
                let objects = self.contents.objects().map_err(trouble)?;
                Ok(Stored::Contents(Contents { identities, given, objects }))
            }
            Ask::Write(fence, batch) => {
                if self.sabotage == Sabotage::NumberReused {
                    self.forget_holders(*fence, batch).map_err(trouble)?;
                }
                self.contents.write(*fence, batch).map_err(trouble)?;
                if !is_older {
                    invariants.written(now, *fence);
                }
                Ok(Stored::Done)
            }
        }
    }
}

fn trouble(error: StoreError) -> Trouble {
    match error {
        StoreError::Ambiguous { .. } => Trouble::Ambiguous,
        StoreError::Fenced { .. } => Trouble::Fenced,
        StoreError::Taken { .. } => Trouble::Taken,
        StoreError::Failed { .. } | StoreError::Unreadable { .. } => Trouble::Failed,
    }
}
