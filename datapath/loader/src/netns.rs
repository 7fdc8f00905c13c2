//! Acting inside another network namespace, without ever leaving the caller's thread in it.

use crate::kernel::KernelError;
use nix::sched::{CloneFlags, setns};
use std::{fs::File, path::Path, thread};

/// Runs `act` inside the network namespace at `path`, on a thread that ends with it: membership is a
/// thread's, so the caller's own is never touched, whatever fails.
pub(crate) fn inside<T: Send>(
    path: &Path,
    act: impl FnOnce() -> Result<T, KernelError> + Send,
) -> Result<T, KernelError> {
    let namespace = File::open(path).map_err(|source| KernelError::Io {
        action: format!("open the network namespace {}", path.display()),
        source,
    })?;
    let visit = || {
        setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| KernelError::Io {
            action: format!("enter the network namespace {}", path.display()),
            source: errno.into(),
        })?;
        act()
    };
    thread::scope(|scope| scope.spawn(visit).join()).unwrap_or_else(|_| {
        Err(KernelError::Unusable(format!("the visit of {} panicked", path.display())))
    })
}
