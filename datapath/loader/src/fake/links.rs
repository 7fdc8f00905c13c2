//! [`Programs`] and [`Links`] in memory, to be looked into and changed behind the owner's back.
//!
//! What they do was taught by the kernel: `root_attach` for programs, `cni_lab` for links.

use crate::kernel::{KernelError, Link, LinkSpec, Links, Programs};
use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The node's own device.
pub const DEVICE: u32 = 1;

/// What stands before packets, by interface.
#[derive(Debug, Default)]
pub struct Attached {
    /// Links of pods: host side and index, which is the pod's address as a number.
    pub plugged: Vec<(String, u32)>,
    /// Interfaces with filters.
    pub filters: BTreeSet<u32>,
    /// Interfaces with TCX links.
    pub links: BTreeSet<u32>,
    /// Interfaces whose pins were removed.
    pub detached: Vec<u32>,
    /// Linked though they were gone.
    pub stray: Vec<u32>,
    /// MTU of the node's device; 1500 when nobody changed it.
    pub mtu: Option<u32>,
}

/// Programs and links in memory.
#[derive(Debug, Default)]
pub struct FakeLinks(Mutex<Attached>);

impl FakeLinks {
    /// To look at, and to change behind everyone's back.
    pub fn state(&self) -> MutexGuard<'_, Attached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Programs for FakeLinks {
    fn attach_pod(&self, ifindex: u32) -> Result<usize, KernelError> {
        Ok(if self.state().filters.insert(ifindex) { 2 } else { 0 })
    }

    fn link_pod(&self, ifindex: u32) -> Result<usize, KernelError> {
        let mut state = self.state();
        if !state.plugged.iter().any(|(_, plugged)| *plugged == ifindex) {
            state.stray.push(ifindex);
        }
        Ok(if state.links.insert(ifindex) { 2 } else { 0 })
    }

    fn attach_net(&self, ifindex: u32) -> Result<usize, KernelError> {
        Ok(usize::from(self.state().links.insert(ifindex)))
    }

    fn detach_pod(&self, ifindex: u32) -> Result<(), KernelError> {
        let mut state = self.state();
        state.detached.push(ifindex);
        state.links.remove(&ifindex);
        Ok(())
    }

    fn pinned(&self) -> Result<BTreeSet<u32>, KernelError> {
        Ok(self.state().links.iter().copied().filter(|ifindex| *ifindex != DEVICE).collect())
    }
}

impl Links for FakeLinks {
    fn plug(&self, spec: &LinkSpec) -> Result<Link, KernelError> {
        let ifindex = u32::from(spec.address);
        self.state().plugged.push((spec.host_interface.clone(), ifindex));
        Ok(Link { ifindex, mac: [2; 6], mtu: spec.mtu })
    }

    fn open(&self, _: &LinkSpec) -> Result<(), KernelError> {
        Ok(())
    }

    fn unplug(&self, host_interface: &str) -> Result<(), KernelError> {
        self.state().plugged.retain(|(name, _)| name != host_interface);
        Ok(())
    }

    fn inspect(&self, _: &LinkSpec) -> Result<Vec<String>, KernelError> {
        Ok(Vec::new())
    }

    fn joined(&self, spec: &LinkSpec) -> Result<Option<u32>, KernelError> {
        let state = self.state();
        let mut plugged = state.plugged.iter();
        Ok(plugged.find(|(name, _)| *name == spec.host_interface).map(|(_, ifindex)| *ifindex))
    }

    fn plugged(&self) -> Result<Vec<(String, u32)>, KernelError> {
        Ok(self.state().plugged.clone())
    }

    fn device_of(&self, _: Ipv4Addr) -> Result<(u32, u32), KernelError> {
        Ok((DEVICE, self.state().mtu.unwrap_or(1500)))
    }

    fn set_routes(&self, _: &[(Ipv4Addr, u8, Ipv4Addr)]) -> Result<(), KernelError> {
        Ok(())
    }
}
