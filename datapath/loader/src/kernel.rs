//! What the agent needs of a kernel, as four narrow traits: maps, programs, links, events.
//!
//! Each has a real body, and those that tests force faults into have one in memory (`fake`); what the
//! fake does was taught by the tests of the real one, which it names. Calls are synchronous: they run
//! on the `maps` and `loader` arbiters, never on `control`.

use crate::events::Readiness;
use std::{collections::BTreeSet, net::Ipv4Addr, path::PathBuf};
use weft_abi::{
    event::Event,
    map::MapSpec,
    metrics::Counter,
    policy::{ClassEdit, PolicyEntry, PolicyPrefix},
};

/// Bytes of one entry of a map, as the kernel holds them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RawEntry {
    /// `spec.key_size` bytes.
    pub key: Vec<u8>,
    /// `spec.value_size` bytes.
    pub value: Vec<u8>,
}

/// What [`Maps::prune`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Entries there were.
    pub seen: usize,
    /// Entries that were removed.
    pub removed: usize,
}

/// One of the programs' counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Number of the drop reason, 0 for what was forwarded, or a notice of [`weft_abi::metrics`].
    pub reason: u8,
    /// [`weft_abi::policy::INGRESS`], [`weft_abi::policy::EGRESS`], or another where neither is known.
    pub direction: u8,
    /// Packets and bytes since the map was made.
    pub total: Counter,
}

/// Maps. Batched where the kernel can; a batch that fails in the middle says how many entries it did.
pub trait Maps: Send + Sync + 'static {
    /// How many entries a map can have, as it was made.
    fn capacity(&self, map: &MapSpec) -> u32 {
        map.capacity
    }
    /// Every entry.
    fn entries(&self, map: &MapSpec) -> Result<Vec<RawEntry>, KernelError>;
    /// Adds or replaces entries that lie one after another, keys and values apart, as the kernel takes them.
    fn update_flat(&self, map: &MapSpec, keys: &[u8], values: &[u8]) -> Result<(), KernelError>;
    /// Adds or replaces entries.
    fn update(&self, map: &MapSpec, entries: &[RawEntry]) -> Result<(), KernelError> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for entry in entries {
            keys.extend_from_slice(&entry.key);
            values.extend_from_slice(&entry.value);
        }
        self.update_flat(map, &keys, &values)
    }
    /// Removes keys; removing the absent is no error.
    fn delete(&self, map: &MapSpec, keys: &[&[u8]]) -> Result<(), KernelError>;
    /// Removes every entry that `is_over` says is, from a map that the kernel's programs write at the same
    /// time: an entry that they change while it is removed is asked about again, and put back if it is not.
    fn prune(
        &self,
        map: &MapSpec,
        is_over: &mut dyn FnMut(&RawEntry) -> bool,
    ) -> Result<Pruned, KernelError>;

    /// Classes that have a trie.
    fn classes(&self) -> Result<Vec<u32>, KernelError>;
    /// Entries of one class's trie, in no order.
    fn class_entries(&self, class: u32) -> Result<Vec<(PolicyPrefix, PolicyEntry)>, KernelError>;
    /// Builds new tries and swaps all of them in with one batch of the outer map.
    fn class_replace(
        &self,
        classes: &[(u32, Vec<(PolicyPrefix, PolicyEntry)>)],
    ) -> Result<(), KernelError>;
    /// Edits one class in place, step by step in the order given. [`KernelError::Full`] says that its trie is: swapped in
    /// whole it gets a larger one.
    fn class_edit(&self, class: u32, edits: &[ClassEdit]) -> Result<(), KernelError>;
    /// Takes classes out; their endpoints have no verdict then.
    fn class_remove(&self, classes: &[u32]) -> Result<(), KernelError>;

    /// What the programs counted, over all CPUs; counters at zero are left out.
    fn counted(&self) -> Result<Vec<Counted>, KernelError>;

    /// The node's epoch.
    fn epoch(&self) -> Result<u64, KernelError>;
    /// Adds one to the epoch and returns it.
    fn bump_epoch(&self) -> Result<u64, KernelError>;
}

/// Programs and their links, pinned so that they outlive the agent.
pub trait Programs: Send + Sync + 'static {
    /// Has `from_pod` and `to_pod` judge what goes through the host side of a pod's link, for as long as it is there; replaces
    /// what is there atomically. Says how many were not.
    fn attach_pod(&self, ifindex: u32) -> Result<usize, KernelError>;
    /// Has them judge by links that come first and cost a packet less, where the kernel has such (TCX). Making these takes
    /// some 10 ms each. Says how many were not there.
    fn link_pod(&self, ifindex: u32) -> Result<usize, KernelError>;
    /// Attaches `from_net` to a device of the node; replaces what is there atomically. 1 when it was not there.
    fn attach_net(&self, ifindex: u32) -> Result<usize, KernelError>;
    /// Removes the pins of a pod's links; the interface itself may be gone already.
    fn detach_pod(&self, ifindex: u32) -> Result<(), KernelError>;
    /// Interfaces that there are pins of pods' links for, gone or not.
    fn pinned(&self) -> Result<BTreeSet<u32>, KernelError>;
}

/// What names of pods' links begin with, on their host side.
pub const HOST_SIDE: &str = "wl";

/// A pod's link to make, or to take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSpec {
    /// Path of the pod's network namespace.
    pub netns: PathBuf,
    /// Name inside the pod.
    pub interface: String,
    /// Name of the host side.
    pub host_interface: String,
    /// The pod's address.
    pub address: Ipv4Addr,
    /// MTU of both sides.
    pub mtu: u32,
    /// Whether another made the link, and gave the pod its address: it is taken over, and keeps what is the pod's.
    pub adopt: bool,
}

/// A link that was made, or taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index of the host side.
    pub ifindex: u32,
    /// Hardware address of the pod's side.
    pub mac: [u8; 6],
    /// MTU of both sides.
    pub mtu: u32,
}

/// Interfaces, addresses, routes and neighbours.
pub trait Links: Send + Sync + 'static {
    /// Makes a pod's link whole: the pair, addresses, MTU, routes and permanent neighbours of both
    /// sides. The host side is down until [`Links::open`]. Making it again is no error; a different
    /// interface of that name in the pod is. One to adopt is there: the pod's side of a veth pair whose other
    /// side is here.
    fn plug(&self, spec: &LinkSpec) -> Result<Link, KernelError>;
    /// Sets the host side up: programs are attached and maps are written. When it returns, both sides carry packets.
    fn open(&self, spec: &LinkSpec) -> Result<(), KernelError>;
    /// Removes a pod's link by its host side's name; removing the absent is no error.
    fn unplug(&self, host_interface: &str) -> Result<(), KernelError>;
    /// Whether the link is as [`Links::plug`] made it; the differences in words.
    fn inspect(&self, spec: &LinkSpec) -> Result<Vec<String>, KernelError>;
    /// Index of the host side, if the other end is in the pod's network namespace. A namespace that went takes its links
    /// with it in its own time, and another of its name may be there before.
    fn joined(&self, spec: &LinkSpec) -> Result<Option<u32>, KernelError>;
    /// Host sides that exist, by the names that they were given here, and index.
    fn plugged(&self) -> Result<Vec<(String, u32)>, KernelError>;
    /// The device with this address, and its MTU.
    fn device_of(&self, address: Ipv4Addr) -> Result<(u32, u32), KernelError>;
    /// Makes our routes to other nodes' prefixes be exactly these (prefix, length, via). Routes that others made are
    /// left alone; one of them in the way of ours is an error, after all that can be done is done.
    fn set_routes(&self, routes: &[(Ipv4Addr, u8, Ipv4Addr)]) -> Result<(), KernelError>;
}

/// What the programs tell of flows, oldest first. One reader at a time: what it took is gone.
pub trait Events: Send + 'static {
    /// Tells, in the context of a tokio runtime, when a record comes after all were taken.
    fn readiness(&self) -> Result<Readiness, KernelError>;
    /// Takes records, at most so many; says how many. Fewer than asked for means that no more are there.
    fn drain(&mut self, most: usize, each: &mut dyn FnMut(Result<Event, Malformed>)) -> usize;
}

/// Why a record is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// It is not as long as an event, or says so.
    #[error("a length of {0} bytes")]
    Length(usize),
    /// Programs of another version wrote it.
    #[error("version {0}")]
    Version(u8),
    /// This version has no such kind.
    #[error("kind {0}")]
    Kind(u8),
}

/// Why the kernel did not do it.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A system call failed.
    #[error("{action}: {source}")]
    Io {
        /// What was attempted, on what.
        action: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A map is full.
    #[error("map {map} is full ({capacity} entries)")]
    Full {
        /// Its name.
        map: String,
        /// How many entries it can have.
        capacity: u32,
    },
    /// Something is not as it must be: a layout, an object, an interface of another kind.
    #[error("{0}")]
    Unusable(String),
}
