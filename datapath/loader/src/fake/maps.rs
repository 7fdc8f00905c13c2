//! The maps of [`crate::kernel::Maps`] in memory, to be looked into, changed behind the owner's back, and told to fail.
//!
//! What it does was taught by the kernel: `root_maps` runs the same script over this body and the real one.

use crate::{
    classes::room_of,
    kernel::{Counted, KernelError, Maps, Pruned, RawEntry},
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use weft_abi::{
    map::MapSpec,
    policy::{CLASS_CAPACITY_MAX, ClassEdit, PolicyEntry, PolicyPrefix},
};

/// What one map of plain rows holds.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Maps in memory.
#[derive(Debug, Default)]
pub struct FakeMaps(Mutex<State>);

/// All of it.
#[derive(Debug, Default)]
pub struct State {
    /// Maps of rows by name.
    pub rows: BTreeMap<&'static str, Rows>,
    /// Classes and their tries.
    pub classes: BTreeMap<u32, BTreeMap<PolicyPrefix, PolicyEntry>>,
    /// What each class's trie has room for, where it was swapped in; of others, [`CLASS_CAPACITY_MAX`].
    pub class_room: BTreeMap<u32, u32>,
    /// What the programs counted.
    pub counted: Vec<Counted>,
    /// The node's epoch.
    pub epoch: u64,
    /// How many single writes still succeed; none is ever refused without it.
    pub writes_left: Option<usize>,
    /// How many single writes were done.
    pub written: usize,
    /// How long the next write of rows stays in the kernel before it is done.
    pub slow: Option<Duration>,
}

impl FakeMaps {
    /// To look at, and to change behind everyone's back.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// One write: counted, or refused when no more are to succeed.
    fn write(&mut self, map: &str) -> Result<(), KernelError> {
        match &mut self.writes_left {
            Some(0) => {
                let source = std::io::Error::from_raw_os_error(libc::EBUSY);
                return Err(KernelError::Io { action: format!("write {map}"), source });
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.written += 1;
        Ok(())
    }
}

impl Maps for FakeMaps {
    fn entries(&self, map: &MapSpec) -> Result<Vec<RawEntry>, KernelError> {
        let state = self.state();
        let rows = state.rows.get(map.name).into_iter().flatten();
        Ok(rows.map(|(key, value)| RawEntry { key: key.clone(), value: value.clone() }).collect())
    }

    fn update_flat(&self, map: &MapSpec, keys: &[u8], values: &[u8]) -> Result<(), KernelError> {
        let slow = self.state().slow.take();
        slow.into_iter().for_each(std::thread::sleep);
        let mut state = self.state();
        let keys = keys.chunks_exact(map.key_size as usize);
        for (key, value) in keys.zip(values.chunks_exact(map.value_size as usize)) {
            let rows = state.rows.entry(map.name).or_default();
            if rows.len() >= map.capacity as usize && !rows.contains_key(key) {
                return Err(KernelError::Full { map: map.name.to_owned(), capacity: map.capacity });
            }
            state.write(map.name)?;
            let rows = state.rows.entry(map.name).or_default();
            rows.insert(key.to_vec(), value.to_vec());
        }
        Ok(())
    }

    fn delete(&self, map: &MapSpec, keys: &[&[u8]]) -> Result<(), KernelError> {
        let mut state = self.state();
        for key in keys {
            state.write(map.name)?;
            state.rows.entry(map.name).or_default().remove(*key);
        }
        Ok(())
    }

    fn prune(
        &self,
        map: &MapSpec,
        is_over: &mut dyn FnMut(&RawEntry) -> bool,
    ) -> Result<Pruned, KernelError> {
        let entries = self.entries(map)?;
        let seen = entries.len();
        let over: Vec<Vec<u8>> = entries.into_iter().filter(is_over).map(|e| e.key).collect();
        self.delete(map, &over.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        Ok(Pruned { seen, removed: over.len() })
    }

    fn classes(&self) -> Result<Vec<u32>, KernelError> {
        Ok(self.state().classes.keys().copied().collect())
    }

    fn class_entries(&self, class: u32) -> Result<Vec<(PolicyPrefix, PolicyEntry)>, KernelError> {
        let state = self.state();
        Ok(state.classes.get(&class).into_iter().flatten().map(|(p, e)| (*p, *e)).collect())
    }

    fn class_replace(
        &self,
        classes: &[(u32, Vec<(PolicyPrefix, PolicyEntry)>)],
    ) -> Result<(), KernelError> {
        let mut state = self.state();
        for (class, entries) in classes {
            if entries.len() > CLASS_CAPACITY_MAX as usize {
                return Err(KernelError::Full {
                    map: format!("class {class}"),
                    capacity: CLASS_CAPACITY_MAX,
                });
            }
        }
        for (class, entries) in classes {
            state.write("weft_classes")?;
            state.classes.insert(*class, entries.iter().copied().collect());
            let entries = u32::try_from(entries.len()).unwrap_or(u32::MAX);
            state.class_room.insert(*class, room_of(entries));
        }
        Ok(())
    }

    fn class_edit(&self, class: u32, edits: &[ClassEdit]) -> Result<(), KernelError> {
        let mut state = self.state();
        if !state.classes.contains_key(&class) {
            return Err(KernelError::Unusable(format!("class {class} has no trie to edit")));
        }
        let capacity = state.class_room.get(&class).copied().unwrap_or(CLASS_CAPACITY_MAX);
        for edit in edits {
            let trie = state.classes.entry(class).or_default();
            if let ClassEdit::Upsert(prefix, _) = edit
                && trie.len() >= capacity as usize
                && !trie.contains_key(prefix)
            {
                return Err(KernelError::Full { map: format!("class {class}"), capacity });
            }
            state.write("weft_classes")?;
            let trie = state.classes.entry(class).or_default();
            match edit {
                ClassEdit::Upsert(prefix, entry) => drop(trie.insert(*prefix, *entry)),
                ClassEdit::Delete(prefix) => drop(trie.remove(prefix)),
            }
        }
        Ok(())
    }

    fn class_remove(&self, classes: &[u32]) -> Result<(), KernelError> {
        let mut state = self.state();
        for class in classes {
            state.write("weft_classes")?;
            state.classes.remove(class);
        }
        Ok(())
    }

    fn counted(&self) -> Result<Vec<Counted>, KernelError> {
        Ok(self.state().counted.clone())
    }

    fn epoch(&self) -> Result<u64, KernelError> {
        Ok(self.state().epoch)
    }

    fn bump_epoch(&self) -> Result<u64, KernelError> {
        let mut state = self.state();
        state.write("weft_node_state")?;
        state.epoch += 1;
        Ok(state.epoch)
    }
}
