//! [`Maps`] on the pinned maps of this node.

use crate::{
    kernel::{Counted, KernelError, Maps, Pruned, RawEntry},
    sys, walk,
};
use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};
use weft_abi::{
    ABI_VERSION,
    conntrack::{FLOWS4, PENDING4},
    epoch::{NODE_STATE, NodeState},
    map::{ALL, MapSpec},
    metrics::{Counter, DIRECTIONS, METRICS},
    policy::{
        CLASS_CAPACITY_MAX, CLASS_CAPACITY_MIN, CLASSES, ClassEdit, PolicyEntry, PolicyPrefix,
    },
};

const PREFIX_SIZE: usize = size_of::<PolicyPrefix>();
const ENTRY_SIZE: usize = size_of::<PolicyEntry>();
/// `ENOTSUPP`, the kernel's own number for what a kind of map cannot do.
const ENOTSUPP: i32 = 524;

/// The pinned maps.
#[derive(Debug)]
pub struct RealMaps {
    maps: HashMap<&'static str, OwnedFd>,
}

impl RealMaps {
    /// Opens the maps pinned in a folder; a layout of another version is an error.
    pub(crate) fn open(folder: &Path) -> Result<Self, KernelError> {
        let mut maps = HashMap::new();
        for spec in ALL {
            let path = folder.join(pin_name(&spec));
            let fd = sys::open_pin(&path).map_err(failed(format!("open {}", path.display())))?;
            maps.insert(spec.name, fd);
        }
        let maps = Self { maps };
        maps.check_version()?;
        Ok(maps)
    }

    /// The descriptor of a map.
    pub(crate) fn fd(&self, map: &MapSpec) -> Result<BorrowedFd<'_>, KernelError> {
        self.maps.get(map.name).map(AsFd::as_fd).ok_or_else(|| {
            KernelError::Unusable(format!("map {} is not of this datapath", map.name))
        })
    }

    fn check_version(&self) -> Result<(), KernelError> {
        let state = self.state()?;
        match state.abi_version {
            0 => {
                // The count begins anew; flows of another count could look current.
                for flows in [FLOWS4, PENDING4] {
                    self.prune(&flows, &mut |_| true)?;
                }
                self.write_state(&NodeState { epoch: 1, abi_version: ABI_VERSION, ..state })
            }
            ABI_VERSION => Ok(()),
            other => Err(KernelError::Unusable(format!(
                "the pinned maps are of ABI version {other}, this agent's is {ABI_VERSION}: \
                 remove the pins, or run the agent that made them"
            ))),
        }
    }

    fn state(&self) -> Result<NodeState, KernelError> {
        let bytes = sys::look_up(self.fd(&NODE_STATE)?, &[0; 4], size_of::<NodeState>())
            .map_err(failed(format!("read {}", NODE_STATE.name)))?
            .unwrap_or_default();
        NodeState::from_bytes(&bytes).ok_or_else(|| {
            KernelError::Unusable(format!("map {} is of another layout", NODE_STATE.name))
        })
    }

    fn write_state(&self, state: &NodeState) -> Result<(), KernelError> {
        sys::update(self.fd(&NODE_STATE)?, &[0; 4], &state.to_bytes())
            .map_err(failed(format!("write {}", NODE_STATE.name)))
    }

    /// The trie of a class.
    fn trie(&self, class: u32) -> Result<Option<OwnedFd>, KernelError> {
        let action = || format!("open the trie of class {class}");
        let Some(id) =
            sys::look_up(self.fd(&CLASSES)?, &class.to_ne_bytes(), 4).map_err(failed(action()))?
        else {
            return Ok(None);
        };
        let id = u32::from_ne_bytes(id.try_into().unwrap_or_default());
        sys::open_id(id).map(Some).map_err(failed(action()))
    }
}

/// The file name of a map's pin.
pub fn pin_name(map: &MapSpec) -> String {
    format!("{}_v{}", map.name, map.version)
}

impl Maps for RealMaps {
    fn entries(&self, map: &MapSpec) -> Result<Vec<RawEntry>, KernelError> {
        let mut entries = Vec::new();
        walk::walk(self.fd(map)?, map, &mut |entry| entries.push(entry))
            .map_err(failed(format!("read {}", map.name)))?;
        Ok(entries)
    }

    fn prune(
        &self,
        map: &MapSpec,
        is_over: &mut dyn FnMut(&RawEntry) -> bool,
    ) -> Result<Pruned, KernelError> {
        walk::prune(self.fd(map)?, map, is_over).map_err(failed(format!("prune {}", map.name)))
    }

    fn update_flat(&self, map: &MapSpec, keys: &[u8], values: &[u8]) -> Result<(), KernelError> {
        let count = keys.len() / map.key_size.max(1) as usize;
        write_all(self.fd(map)?, map, keys, values, count)
    }

    fn delete(&self, map: &MapSpec, keys: &[&[u8]]) -> Result<(), KernelError> {
        let fd = self.fd(map)?;
        keys.iter().try_for_each(|key| {
            sys::delete(fd, key).map_err(failed(format!("delete from {}", map.name)))
        })
    }

    fn classes(&self) -> Result<Vec<u32>, KernelError> {
        let fd = self.fd(&CLASSES)?;
        let mut classes = Vec::new();
        let mut key: Option<Vec<u8>> = None;
        while let Some(next) = sys::next_key(fd, key.as_deref(), 4)
            .map_err(failed(format!("read {}", CLASSES.name)))?
        {
            classes.push(u32::from_ne_bytes(next.clone().try_into().unwrap_or_default()));
            key = Some(next);
        }
        Ok(classes)
    }

    fn class_entries(&self, class: u32) -> Result<Vec<(PolicyPrefix, PolicyEntry)>, KernelError> {
        let Some(trie) = self.trie(class)? else { return Ok(Vec::new()) };
        let action = format!("read class {class}");
        let mut entries = Vec::new();
        let mut key: Option<Vec<u8>> = None;
        while let Some(next) = sys::next_key(trie.as_fd(), key.as_deref(), PREFIX_SIZE)
            .map_err(failed(action.clone()))?
        {
            let value =
                sys::look_up(trie.as_fd(), &next, ENTRY_SIZE).map_err(failed(action.clone()))?;
            if let Some((prefix, entry)) = value.and_then(|v| decode(&next, &v)) {
                entries.push((prefix, entry));
            }
            key = Some(next);
        }
        Ok(entries)
    }

    fn class_replace(
        &self,
        classes: &[(u32, Vec<(PolicyPrefix, PolicyEntry)>)],
    ) -> Result<(), KernelError> {
        let mut tries = Vec::with_capacity(classes.len());
        for (class, entries) in classes {
            tries.push((class, build_trie(*class, entries)?));
        }
        let keys: Vec<u8> = tries.iter().flat_map(|(class, _)| class.to_ne_bytes()).collect();
        let values: Vec<u8> = tries
            .iter()
            .flat_map(|(_, trie)| std::os::fd::AsRawFd::as_raw_fd(trie).to_ne_bytes())
            .collect();
        write_all(self.fd(&CLASSES)?, &CLASSES, &keys, &values, tries.len())
    }

    fn class_edit(&self, class: u32, edits: &[ClassEdit]) -> Result<(), KernelError> {
        let trie = self
            .trie(class)?
            .ok_or_else(|| KernelError::Unusable(format!("class {class} has no trie to edit")))?;
        edits
            .iter()
            .try_for_each(|edit| match edit {
                ClassEdit::Upsert(prefix, entry) => {
                    sys::update(trie.as_fd(), &prefix.to_bytes(), &entry.to_bytes())
                }
                ClassEdit::Delete(prefix) => sys::delete(trie.as_fd(), &prefix.to_bytes()),
            })
            .map_err(|error| full_or(error, format!("class {class}"), CLASS_CAPACITY_MAX))
    }

    fn class_remove(&self, classes: &[u32]) -> Result<(), KernelError> {
        let fd = self.fd(&CLASSES)?;
        classes.iter().try_for_each(|class| {
            sys::delete(fd, &class.to_ne_bytes()).map_err(failed(format!("remove class {class}")))
        })
    }

    fn counted(&self) -> Result<Vec<Counted>, KernelError> {
        let action = format!("read {}", METRICS.name);
        let fd = self.fd(&METRICS)?;
        let cpus =
            aya::util::nr_cpus().map_err(|(what, error)| failed(format!("read {what}"))(error))?;
        let mut counted = Vec::new();
        for index in 0..METRICS.capacity {
            let values = sys::look_up(fd, &index.to_ne_bytes(), cpus * size_of::<Counter>())
                .map_err(failed(action.clone()))?;
            let total = values.as_deref().map(sum).unwrap_or_default();
            if let Ok(reason) = u8::try_from(index / DIRECTIONS)
                && total.packets > 0
            {
                counted.push(Counted { reason, direction: (index % DIRECTIONS) as u8, total });
            }
        }
        Ok(counted)
    }

    fn epoch(&self) -> Result<u64, KernelError> {
        Ok(self.state()?.epoch)
    }

    fn bump_epoch(&self) -> Result<u64, KernelError> {
        let mut state = self.state()?;
        state.epoch += 1;
        self.write_state(&state)?;
        Ok(state.epoch)
    }
}

/// One counter over all CPUs, whose values lie one after another.
fn sum(values: &[u8]) -> Counter {
    let values = values.chunks_exact(size_of::<Counter>()).filter_map(Counter::from_bytes);
    values.fold(Counter::zeroed(), |total, value| Counter {
        packets: total.packets.wrapping_add(value.packets),
        bytes: total.bytes.wrapping_add(value.bytes),
    })
}

/// Makes and fills a class's trie, with room to be edited in place.
fn build_trie(class: u32, entries: &[(PolicyPrefix, PolicyEntry)]) -> Result<OwnedFd, KernelError> {
    let wanted = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    if wanted > CLASS_CAPACITY_MAX {
        return Err(KernelError::Full {
            map: format!("class {class}"),
            capacity: CLASS_CAPACITY_MAX,
        });
    }
    let capacity =
        wanted.saturating_mul(2).next_power_of_two().clamp(CLASS_CAPACITY_MIN, CLASS_CAPACITY_MAX);
    let trie = sys::create_trie(PREFIX_SIZE as u32, ENTRY_SIZE as u32, capacity)
        .map_err(failed(format!("make a trie for class {class}")))?;
    let keys: Vec<u8> = entries.iter().flat_map(|(prefix, _)| prefix.to_bytes()).collect();
    let values: Vec<u8> = entries.iter().flat_map(|(_, entry)| entry.to_bytes()).collect();
    let spec = MapSpec {
        name: "weft_class",
        key_size: PREFIX_SIZE as u32,
        value_size: ENTRY_SIZE as u32,
        capacity,
        ..CLASSES
    };
    write_all(trie.as_fd(), &spec, &keys, &values, entries.len())?;
    Ok(trie)
}

/// Writes entries in one batch, or one by one where the kind of map has no batches.
fn write_all(
    fd: BorrowedFd<'_>,
    map: &MapSpec,
    keys: &[u8],
    values: &[u8],
    count: usize,
) -> Result<(), KernelError> {
    if count == 0 {
        return Ok(());
    }
    let one_by_one = || {
        keys.chunks_exact(map.key_size as usize)
            .zip(values.chunks_exact(map.value_size as usize))
            .try_for_each(|(key, value)| sys::update(fd, key, value))
    };
    match sys::update_batch(fd, keys, values, count) {
        Ok(()) => Ok(()),
        Err((_, error)) if matches!(error.raw_os_error(), Some(ENOTSUPP | libc::EINVAL)) => {
            one_by_one()
        }
        Err((_, error)) => Err(error),
    }
    .map_err(|error| full_or(error, map.name.to_owned(), map.capacity))
}

fn full_or(error: io::Error, map: String, capacity: u32) -> KernelError {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::E2BIG) => KernelError::Full { map, capacity },
        _ => KernelError::Io { action: format!("write {map}"), source: error },
    }
}

/// Names what was attempted when a call fails.
pub(crate) fn failed(action: String) -> impl FnOnce(io::Error) -> KernelError {
    move |source| KernelError::Io { action, source }
}

fn decode(key: &[u8], value: &[u8]) -> Option<(PolicyPrefix, PolicyEntry)> {
    Some((PolicyPrefix::from_bytes(key)?, PolicyEntry::from_bytes(value)?))
}
