//! Writes of many entries that lie one after another: in one batch where the kind of map has batches, one by one
//! where not.

use crate::{kernel::KernelError, maps::failed, sys};
use std::{io, os::fd::BorrowedFd};
use weft_abi::map::MapSpec;

/// `ENOTSUPP`, the kernel's own number for what a kind of map cannot do.
const ENOTSUPP: i32 = 524;

/// Adds or replaces entries.
pub(crate) fn write(
    fd: BorrowedFd<'_>,
    map: &MapSpec,
    keys: &[u8],
    values: &[u8],
) -> Result<(), KernelError> {
    if keys.is_empty() {
        return Ok(());
    }
    let one_by_one = || {
        let values = values.chunks_exact(map.value_size as usize);
        each(keys, map).zip(values).try_for_each(|(key, value)| sys::update(fd, key, value))
    };
    let written = match sys::update_batch(fd, keys, values, each(keys, map).len()) {
        Err((_, error)) if has_no_batches(&error) => one_by_one(),
        done => done.map_err(|(_, error)| error),
    };
    written.map_err(|error| full_or(error, map.name.to_owned(), map.capacity))
}

/// Removes entries by their keys; removing the absent is no error.
pub(crate) fn remove(fd: BorrowedFd<'_>, map: &MapSpec, keys: &[u8]) -> Result<(), KernelError> {
    let mut rest = keys;
    while !rest.is_empty() {
        match sys::delete_batch(fd, rest, each(rest, map).len()) {
            Ok(()) => break,
            // A batch ends at the first that is absent.
            Err((done, error)) if error.raw_os_error() == Some(libc::ENOENT) => {
                rest = rest.get((done + 1) * map.key_size as usize..).unwrap_or_default();
            }
            Err((_, error)) if has_no_batches(&error) => {
                return each(rest, map)
                    .try_for_each(|key| sys::delete(fd, key))
                    .map_err(failed(format!("delete from {}", map.name)));
            }
            Err((_, error)) => return Err(failed(format!("delete from {}", map.name))(error)),
        }
    }
    Ok(())
}

fn each<'a>(keys: &'a [u8], map: &MapSpec) -> std::slice::ChunksExact<'a, u8> {
    keys.chunks_exact(map.key_size.max(1) as usize)
}

/// Whether a call failed since the kind of map has no batches.
pub(crate) fn has_no_batches(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(ENOTSUPP | libc::EINVAL))
}

/// A map that has no room, or what else the kernel said.
pub(crate) fn full_or(error: io::Error, map: String, capacity: u32) -> KernelError {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::E2BIG) => KernelError::Full { map, capacity },
        _ => KernelError::Io { action: format!("write {map}"), source: error },
    }
}
