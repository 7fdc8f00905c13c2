//! The kernel of this node, opened.

use crate::{
    attachment::Attachment,
    kernel::KernelError,
    maps::RealMaps,
    programs::{Loading, RealPrograms},
};
use std::{path::Path, sync::Arc};
use weft_abi::map::MapSpec;

/// The bodies of the traits of [`crate::kernel`] over one bpffs.
pub struct RealKernel {
    /// Maps.
    pub maps: Arc<RealMaps>,
    /// Programs.
    pub programs: Arc<RealPrograms>,
}

impl RealKernel {
    /// Loads the programs over the maps pinned under `bpffs` (made when they are not there).
    /// `uplink` is the index of the node's device.
    pub fn open(bpffs: &Path, uplink: u32) -> Result<Self, KernelError> {
        Self::open_with(bpffs, uplink, Attachment::of_this_kernel(), &[])
    }

    /// The same, with programs attached in a way of the caller's choice, and maps that are made now made for so many
    /// entries; those that are there stay as they are.
    pub fn open_with(
        bpffs: &Path,
        uplink: u32,
        attachment: Attachment,
        sizes: &[(&MapSpec, u32)],
    ) -> Result<Self, KernelError> {
        let maps = bpffs.join("maps");
        let loading = Loading { maps: &maps, uplink, sizes };
        let programs = RealPrograms::load(&loading, &bpffs.join("links"), attachment)?;
        Ok(Self { maps: Arc::new(RealMaps::open(&maps)?), programs: Arc::new(programs) })
    }
}
