//! Who owns the policy classes and the epoch, driven as `actors/agent/src/mapsync.rs` does.

use super::{
    Kernel,
    maps::{Refused, Write},
};
use std::collections::{BTreeMap, BTreeSet};
use weft_abi::policy::ClassEdit;
use weft_core::policy::{Entries, Step};

/// The owner of the classes.
pub(super) struct ClassSync {
    kernel: Kernel,
    desired: BTreeMap<u32, Entries>,
    /// Whether the kernel held what was desired when it was last looked at or written.
    trusted: bool,
}

impl ClassSync {
    pub(super) fn new(kernel: Kernel) -> Self {
        Self { kernel, desired: BTreeMap::new(), trusted: false }
    }

    /// The classes that the kernel holds now; they are what is desired until something else is said.
    pub(super) fn read(&mut self) -> BTreeMap<u32, Entries> {
        self.desired = self.kernel.maps().classes.clone();
        self.trusted = true;
        self.desired.clone()
    }

    /// One step of changing classes.
    pub(super) async fn step(&mut self, step: &Step) -> Result<(), Refused> {
        self.desire(step);
        if !self.trusted {
            return self.mend().await;
        }
        let written = self.kernel.write(writes(step)).await;
        self.trusted = written.is_ok();
        written
    }

    fn desire(&mut self, step: &Step) {
        match step {
            Step::Replace(classes) => self.desired.extend(classes.clone()),
            Step::Edit(classes) => {
                for (class, edits) in classes {
                    let entries = self.desired.entry(*class).or_default();
                    for edit in edits {
                        match edit {
                            ClassEdit::Upsert(key, entry) => drop(entries.insert(*key, *entry)),
                            ClassEdit::Delete(key) => drop(entries.remove(key)),
                        }
                    }
                }
            }
            Step::Remove(classes) => self.desired.retain(|class, _| !classes.contains(class)),
            Step::Prefixes(_) => {}
        }
    }

    async fn mend(&mut self) -> Result<(), Refused> {
        let held = self.kernel.maps().classes.clone();
        let differs = |(class, entries): &(&u32, &Entries)| held.get(class) != Some(entries);
        let replaced = self.desired.iter().filter(differs);
        let replaced: BTreeMap<u32, Entries> =
            replaced.map(|(class, entries)| (*class, entries.clone())).collect();
        let removed = held.keys().filter(|class| !self.desired.contains_key(class));
        let removed: BTreeSet<u32> = removed.copied().collect();
        let mended = !replaced.is_empty() || !removed.is_empty();
        self.kernel.write(writes(&Step::Replace(replaced))).await?;
        self.kernel.write(writes(&Step::Remove(removed))).await?;
        if mended {
            self.bump().await?;
        }
        self.trusted = true;
        Ok(())
    }

    /// Every edit before this is complete: flows are to be judged again.
    pub(super) async fn bump(&mut self) -> Result<(), Refused> {
        self.kernel.write([Write::Epoch]).await
    }
}

fn writes(step: &Step) -> Vec<Write> {
    match step {
        Step::Replace(classes) => {
            classes.iter().map(|(class, entries)| Write::Class(*class, entries.clone())).collect()
        }
        Step::Edit(classes) => {
            let edits = |(class, edits): (&u32, &Vec<ClassEdit>)| {
                let class = *class;
                edits.clone().into_iter().map(move |edit| Write::Edit(class, edit))
            };
            classes.iter().flat_map(edits).collect()
        }
        Step::Remove(classes) => classes.iter().map(|class| Write::NoClass(*class)).collect(),
        Step::Prefixes(_) => Vec::new(),
    }
}
