//! [`Maps`] on the pinned maps of this node.

use crate::{
    batch,
    classes::Classes,
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
    policy::{CLASSES, ClassEdit, PolicyEntry, PolicyPrefix},
};

/// The pinned maps.
#[derive(Debug)]
pub struct RealMaps {
    maps: HashMap<&'static str, (OwnedFd, u32)>,
}

impl RealMaps {
    /// Opens the maps pinned in a folder; a layout of another version is an error.
    pub(crate) fn open(folder: &Path) -> Result<Self, KernelError> {
        let mut maps = HashMap::new();
        for spec in ALL {
            let path = folder.join(pin_name(&spec));
            let fd = sys::open_pin(&path).map_err(failed(format!("open {}", path.display())))?;
            let capacity = sys::capacity(fd.as_fd());
            let capacity = capacity.map_err(failed(format!("look at {}", path.display())))?;
            maps.insert(spec.name, (fd, capacity));
        }
        let maps = Self { maps };
        maps.check_version()?;
        Ok(maps)
    }

    /// The descriptor of a map.
    pub(crate) fn fd(&self, map: &MapSpec) -> Result<BorrowedFd<'_>, KernelError> {
        self.maps.get(map.name).map(|(fd, _)| fd.as_fd()).ok_or_else(|| {
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

    fn classes(&self) -> Result<Classes<'_>, KernelError> {
        self.fd(&CLASSES).map(Classes::of)
    }
}

/// The file name of a map's pin.
pub fn pin_name(map: &MapSpec) -> String {
    format!("{}_v{}", map.name, map.version)
}

impl Maps for RealMaps {
    fn capacity(&self, map: &MapSpec) -> u32 {
        self.maps.get(map.name).map_or(map.capacity, |(_, capacity)| *capacity)
    }

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
        let map = MapSpec { capacity: self.capacity(map), ..*map };
        batch::write(self.fd(&map)?, &map, keys, values)
    }

    fn delete(&self, map: &MapSpec, keys: &[&[u8]]) -> Result<(), KernelError> {
        batch::remove(self.fd(map)?, map, &keys.concat())
    }

    fn classes(&self) -> Result<Vec<u32>, KernelError> {
        self.classes()?.numbers()
    }

    fn class_entries(&self, class: u32) -> Result<Vec<(PolicyPrefix, PolicyEntry)>, KernelError> {
        self.classes()?.entries(class)
    }

    fn class_replace(
        &self,
        classes: &[(u32, Vec<(PolicyPrefix, PolicyEntry)>)],
    ) -> Result<(), KernelError> {
        self.classes()?.replace(classes)
    }

    fn class_edit(&self, class: u32, edits: &[ClassEdit]) -> Result<(), KernelError> {
        self.classes()?.edit(class, edits)
    }

    fn class_remove(&self, classes: &[u32]) -> Result<(), KernelError> {
        self.classes()?.remove(classes)
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

/// Names what was attempted when a call fails.
pub(crate) fn failed(action: String) -> impl FnOnce(io::Error) -> KernelError {
    move |source| KernelError::Io { action, source }
}
