//! The kernel behind a gate: what an incarnation that was replaced still asks of it is refused.

use crate::runtime::Gate;
use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};
use weft_abi::{
    map::MapSpec,
    policy::{ClassEdit, PolicyEntry, PolicyPrefix},
};
use weft_datapath::kernel::{
    Counted, KernelError, Link, LinkSpec, Links, Maps, Programs, Pruned, RawEntry,
};

/// One of the kernel's traits for one life of an actor.
pub struct Gated<K: ?Sized> {
    kernel: Arc<K>,
    gate: Gate,
}

impl<K: ?Sized> Gated<K> {
    /// Behind this gate.
    pub fn new(kernel: Arc<K>, gate: Gate) -> Self {
        Self { kernel, gate }
    }

    fn pass(&self) -> Result<&K, KernelError> {
        if self.gate.is_open() {
            Ok(&self.kernel)
        } else {
            Err(KernelError::Unusable("a newer life of this actor owns it".to_owned()))
        }
    }
}

impl<K: Maps + ?Sized> Gated<K> {
    /// How many entries a map can have: nothing that could change.
    pub fn capacity(&self, map: &MapSpec) -> u32 {
        self.kernel.capacity(map)
    }

    /// What the programs counted.
    pub fn counted(&self) -> Result<Vec<Counted>, KernelError> {
        self.pass()?.counted()
    }

    /// Every entry.
    pub fn entries(&self, map: &MapSpec) -> Result<Vec<RawEntry>, KernelError> {
        self.pass()?.entries(map)
    }

    /// Adds or replaces entries that lie one after another.
    pub fn update_flat(
        &self,
        map: &MapSpec,
        keys: &[u8],
        values: &[u8],
    ) -> Result<(), KernelError> {
        self.pass()?.update_flat(map, keys, values)
    }

    /// Removes keys.
    pub fn delete(&self, map: &MapSpec, keys: &[&[u8]]) -> Result<(), KernelError> {
        self.pass()?.delete(map, keys)
    }

    /// Removes what is over from a map that the kernel's programs write.
    pub fn prune(
        &self,
        map: &MapSpec,
        is_over: &mut dyn FnMut(&RawEntry) -> bool,
    ) -> Result<Pruned, KernelError> {
        self.pass()?.prune(map, is_over)
    }

    /// Classes that have a trie.
    pub fn classes(&self) -> Result<Vec<u32>, KernelError> {
        self.pass()?.classes()
    }

    /// Entries of a class.
    pub fn class_entries(
        &self,
        class: u32,
    ) -> Result<Vec<(PolicyPrefix, PolicyEntry)>, KernelError> {
        self.pass()?.class_entries(class)
    }

    /// Swaps classes in.
    pub fn class_replace(
        &self,
        classes: &[(u32, Vec<(PolicyPrefix, PolicyEntry)>)],
    ) -> Result<(), KernelError> {
        self.pass()?.class_replace(classes)
    }

    /// Edits a class in place.
    pub fn class_edit(&self, class: u32, edits: &[ClassEdit]) -> Result<(), KernelError> {
        self.pass()?.class_edit(class, edits)
    }

    /// Takes classes out.
    pub fn class_remove(&self, classes: &[u32]) -> Result<(), KernelError> {
        self.pass()?.class_remove(classes)
    }

    /// Adds one to the epoch.
    pub fn bump_epoch(&self) -> Result<u64, KernelError> {
        self.pass()?.bump_epoch()
    }
}

impl<K: Programs + ?Sized> Gated<K> {
    /// Puts programs on a pod's link; how many were not there.
    pub fn attach_pod(&self, ifindex: u32) -> Result<usize, KernelError> {
        self.pass()?.attach_pod(ifindex)
    }

    /// Puts the faster ones before them; how many were not there.
    pub fn link_pod(&self, ifindex: u32) -> Result<usize, KernelError> {
        self.pass()?.link_pod(ifindex)
    }

    /// Puts the program on the node's device; 1 when it was not there.
    pub fn attach_net(&self, ifindex: u32) -> Result<usize, KernelError> {
        self.pass()?.attach_net(ifindex)
    }

    /// Removes their pins.
    pub fn detach_pod(&self, ifindex: u32) -> Result<(), KernelError> {
        self.pass()?.detach_pod(ifindex)
    }

    /// Interfaces that there are pins of pods' links for.
    pub fn pinned(&self) -> Result<BTreeSet<u32>, KernelError> {
        self.pass()?.pinned()
    }
}

impl<K: Links + ?Sized> Gated<K> {
    /// Makes a pod's link.
    pub fn plug(&self, spec: &LinkSpec) -> Result<Link, KernelError> {
        self.pass()?.plug(spec)
    }

    /// The device with an address, and its MTU.
    pub fn device_of(&self, address: Ipv4Addr) -> Result<(u32, u32), KernelError> {
        self.pass()?.device_of(address)
    }

    /// Sets it up.
    pub fn open(&self, spec: &LinkSpec) -> Result<(), KernelError> {
        self.pass()?.open(spec)
    }

    /// Removes it.
    pub fn unplug(&self, host_interface: &str) -> Result<(), KernelError> {
        self.pass()?.unplug(host_interface)
    }

    /// How it differs from what was made.
    pub fn inspect(&self, spec: &LinkSpec) -> Result<Vec<String>, KernelError> {
        self.pass()?.inspect(spec)
    }

    /// Index of the host side, if the other end is in the pod's network namespace.
    pub fn joined(&self, spec: &LinkSpec) -> Result<Option<u32>, KernelError> {
        self.pass()?.joined(spec)
    }

    /// Host sides that exist.
    pub fn plugged(&self) -> Result<Vec<(String, u32)>, KernelError> {
        self.pass()?.plugged()
    }

    /// Makes the routes to other nodes be these.
    pub fn set_routes(&self, routes: &[(Ipv4Addr, u8, Ipv4Addr)]) -> Result<(), KernelError> {
        self.pass()?.set_routes(routes)
    }
}
