//! The network namespace of a call.

use nix::sys::statfs::{NSFS_MAGIC, fstatfs};
use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// Refuses what is no network namespace, and the plugin's own: plugging that would give the node an address of a pod.
pub(crate) fn check(path: &Path, may_be_own: bool) -> Result<(), String> {
    let invalid = |why: String| format!("CNI_NETNS {}: {why}", path.display());
    let file = File::open(path).map_err(|error| invalid(error.to_string()))?;
    let kind = fstatfs(&file).map_err(|errno| invalid(errno.to_string()))?.filesystem_type();
    if kind != NSFS_MAGIC {
        return Err(invalid("it is no network namespace".to_owned()));
    }
    let metadata = file.metadata().map_err(|error| invalid(error.to_string()))?;
    let own = fs::metadata("/proc/self/ns/net");
    let own = own.is_ok_and(|own| (own.dev(), own.ino()) == (metadata.dev(), metadata.ino()));
    if own && !may_be_own {
        return Err(invalid("it is the plugin's own; a container has one of its own".to_owned()));
    }
    Ok(())
}
