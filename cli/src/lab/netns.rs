//! Named network namespaces, made the way `ip netns` makes them.

use anyhow::{Context, Result, anyhow};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
};

/// Where a namespace can be opened.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// Makes one; its loopback is up.
pub(crate) fn create(name: &str) -> Result<()> {
    let path = path(name);
    let attempt = || {
        fs::create_dir_all("/run/netns")?;
        OpenOptions::new().write(true).create_new(true).open(&path)?;
        let target = path.clone();
        on_own_thread(move || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(
                Some("/proc/thread-self/ns/net"),
                &target,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )?;
            Ok(())
        })
    };
    attempt().with_context(|| format!("make network namespace {name}"))?;
    inside(name, || super::link::with(|handle| async move { super::link::up(&handle, "lo").await }))
}

/// Removes one; removing the absent is no error.
pub(crate) fn delete(name: &str) -> Result<()> {
    let path = path(name);
    // Not mounted (a creation that was cut short) is fine: the file is what is left.
    let _ = umount2(&path, MntFlags::MNT_DETACH);
    let removed = match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => delete_beneath(path),
        removed => removed.map_err(anyhow::Error::from),
    };
    match removed {
        Err(error) if is_absent(&error) => Ok(()),
        removed => removed.with_context(|| format!("remove network namespace {name}")),
    }
}

fn is_absent(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::NotFound)
}

/// The first `ip netns add` of a machine mounts `/run/netns` over itself, with copies of the mounts that are in
/// it: the one of ours then lies beneath, where no path leads. In mounts of a thread's own the upper ones are
/// taken away; a file that is mounted on nowhere here may be removed, and the kernel takes it off everywhere.
fn delete_beneath(path: PathBuf) -> Result<()> {
    on_own_thread(move || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        umount2("/run/netns", MntFlags::MNT_DETACH)?;
        // Beneath may be nothing, and then the removal says what is wrong.
        let _ = umount2(&path, MntFlags::MNT_DETACH);
        Ok(fs::remove_file(&path)?)
    })
}

/// Runs something on a thread that is in the namespace; what it spawns is there too.
pub(crate) fn inside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let path = path(name);
    on_own_thread(move || {
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        setns(file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("enter {}", path.display()))?;
        work()
    })
}

/// The names of all namespaces of this machine that have one.
pub(crate) fn names() -> Vec<String> {
    let entries = fs::read_dir(path("")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// What tells a namespace from all others.
pub(crate) fn inode(name: &str) -> Option<(u64, u64)> {
    inode_at(&path(name))
}

/// The same for any path to one.
pub(crate) fn inode_at(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// The thread ends with the work, so that no namespace outlives it.
fn on_own_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    thread::spawn(work).join().map_err(|_| anyhow!("a thread of the lab panicked"))?
}
