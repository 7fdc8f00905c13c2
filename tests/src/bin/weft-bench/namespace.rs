//! Network namespaces: anonymous ones, which are gone with this process however it ends, and named ones of a lab.

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};
use std::{
    fs::File,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    thread,
};
use weft_datapath::rtnl::Network;

/// An open namespace.
#[derive(Debug)]
pub(crate) struct Namespace(File);

impl Namespace {
    /// Makes one without a name; its loopback is up.
    pub(crate) fn create() -> Result<Self> {
        let make = || -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
            let mut network = Network::here()?;
            let loopback = network.device("lo")?.context("find lo")?;
            network.set_up(loopback.index)?;
            File::open("/proc/thread-self/ns/net").context("open a network namespace")
        };
        on_own_thread(make).map(Self)
    }

    /// Opens one by its path.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        File::open(path).map(Self).with_context(|| format!("open {}", path.display()))
    }

    /// Where other processes find it while this one lives.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// Its descriptor.
    pub(crate) fn descriptor(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Moves the calling thread there.
    pub(crate) fn enter(&self) -> Result<()> {
        setns(&self.0, CloneFlags::CLONE_NEWNET).context("enter a network namespace")
    }

    /// Does something on a thread that is there and ends with it.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_own_thread(|| {
            self.enter()?;
            work()
        })
    }
}

/// Does something on a thread that ends with it: namespaces are a thread's.
pub(crate) fn on_own_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let done = thread::scope(|scope| scope.spawn(work).join());
    done.map_err(|_| anyhow!("a thread of the benchmark panicked"))?
}
