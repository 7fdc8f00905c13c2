//! Maps and programs of the benchmark's own, apart from every lab and agent.

use crate::namespace::on_own_thread;
use anyhow::{Context, Result};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use std::path::Path;
use weft_datapath::RealKernel;

/// Mounted over in a mount namespace that ends with the thread, so that nothing is left of any pin.
const BPFFS: &str = "/sys/fs/bpf";

/// A place for kernels: network and mount namespaces, a bpffs.
pub(crate) struct Bed;

impl Bed {
    /// Does something there.
    pub(crate) fn within<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
                .context("make network and mount namespaces")?;
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
                .context("keep mounts apart")?;
            mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), none)
                .with_context(|| format!("mount a bpffs at {BPFFS}"))?;
            work()
        })
    }

    /// Loads the programs over maps that are new, under a name of this bed.
    pub(crate) fn open(name: &str) -> Result<RealKernel> {
        let folder = Path::new(BPFFS).join(name);
        std::fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(RealKernel::open(&folder, UPLINK)?)
    }
}

/// Interface of the node's device, in beds that have one.
pub(crate) const UPLINK: u32 = 5;
