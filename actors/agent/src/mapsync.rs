//! The owners of the agent-written maps: each makes its map in the kernel be what is desired.

use crate::{Refusal, internal};
use actix::{Actor, Context, Handler, Message};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use weft_abi::{
    map::MapSpec,
    policy::{ClassEdit, PolicyEntry, PolicyPrefix},
};
use weft_core::policy::Entries;
use weft_datapath::kernel::{Maps, RawEntry};

/// Bytes of keys and values.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The owner of one map of plain rows.
pub struct TableSync {
    kernel: Arc<dyn Maps>,
    map: &'static MapSpec,
    realised: Option<Rows>,
}

impl TableSync {
    /// Of a map.
    pub fn new(kernel: Arc<dyn Maps>, map: &'static MapSpec) -> Self {
        Self { kernel, map, realised: None }
    }

    fn sync(&mut self, desired: Rows) -> Result<(), Refusal> {
        // What was written before this life is read back, not guessed.
        let realised = match self.realised.take() {
            Some(rows) => rows,
            None => self
                .kernel
                .entries(self.map)
                .map_err(internal)?
                .into_iter()
                .map(|entry| (entry.key, entry.value))
                .collect(),
        };
        let changed: Vec<RawEntry> = desired
            .iter()
            .filter(|(key, value)| realised.get(*key) != Some(*value))
            .map(|(key, value)| RawEntry { key: key.clone(), value: value.clone() })
            .collect();
        let gone: Vec<Vec<u8>> =
            realised.keys().filter(|key| !desired.contains_key(*key)).cloned().collect();
        self.kernel.update(self.map, &changed).map_err(internal)?;
        self.kernel.delete(self.map, &gone).map_err(internal)?;
        self.realised = Some(desired);
        Ok(())
    }
}

impl Actor for TableSync {
    type Context = Context<Self>;
}

/// Make the map hold exactly these rows.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Desire(pub Rows);

impl Handler<Desire> for TableSync {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, desire: Desire, _: &mut Self::Context) -> Self::Result {
        self.sync(desire.0)
    }
}

/// The owner of the policy classes and of the epoch.
pub struct ClassSync {
    kernel: Arc<dyn Maps>,
}

impl ClassSync {
    /// Over a kernel.
    pub fn new(kernel: Arc<dyn Maps>) -> Self {
        Self { kernel }
    }
}

impl Actor for ClassSync {
    type Context = Context<Self>;
}

/// Swap classes in, edit classes in place and take classes out.
#[derive(Default, Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct SyncClasses {
    /// Classes with their entries.
    pub replaced: BTreeMap<u32, Entries>,
    /// Classes with the edits to be done in their order.
    pub edited: BTreeMap<u32, Vec<ClassEdit>>,
    /// Classes that nobody needs.
    pub removed: BTreeSet<u32>,
}

impl Handler<SyncClasses> for ClassSync {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, sync: SyncClasses, _: &mut Self::Context) -> Self::Result {
        let classes: Vec<(u32, Vec<(PolicyPrefix, PolicyEntry)>)> = sync
            .replaced
            .into_iter()
            .map(|(class, entries)| (class, entries.into_iter().collect()))
            .collect();
        self.kernel.class_replace(&classes).map_err(internal)?;
        for (class, edits) in &sync.edited {
            self.kernel.class_edit(*class, edits).map_err(internal)?;
        }
        let removed: Vec<u32> = sync.removed.into_iter().collect();
        self.kernel.class_remove(&removed).map_err(internal)
    }
}

/// Every edit before this is complete: flows are to be judged again.
#[derive(Message)]
#[rtype(result = "Result<u64, Refusal>")]
pub struct BumpEpoch;

impl Handler<BumpEpoch> for ClassSync {
    type Result = Result<u64, Refusal>;

    fn handle(&mut self, _: BumpEpoch, _: &mut Self::Context) -> Self::Result {
        self.kernel.bump_epoch().map_err(internal)
    }
}
