//! Walks over a map's entries: in batches where the kind of map has them, key by key where not.

use crate::{
    batch::has_no_batches,
    kernel::{Pruned, RawEntry},
    sys,
};
use std::{io, os::fd::BorrowedFd};
use weft_abi::map::MapSpec;

/// Entries a batch: more than any bucket of a hash that is not under attack.
const BATCH: usize = 4096;

/// Shows every entry. What is added or removed meanwhile may be seen or not.
pub(crate) fn walk(
    map: BorrowedFd<'_>,
    spec: &MapSpec,
    see: &mut dyn FnMut(RawEntry),
) -> io::Result<()> {
    let (key_size, value_size) = (spec.key_size as usize, spec.value_size as usize);
    let mut room = BATCH;
    let (mut keys, mut values) = (vec![0; room * key_size], vec![0; room * value_size]);
    let mut cursor = None;
    loop {
        match sys::look_up_batch(map, cursor.as_ref(), (&mut keys, key_size), &mut values, room) {
            Ok((count, next)) => {
                let entries = keys.chunks_exact(key_size).zip(values.chunks_exact(value_size));
                for (key, value) in entries.take(count) {
                    see(RawEntry { key: key.to_vec(), value: value.to_vec() });
                }
                let Some(next) = next else { return Ok(()) };
                cursor = Some(next);
            }
            // One bucket alone is larger.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                room *= 2;
                keys.resize(room * key_size, 0);
                values.resize(room * value_size, 0);
            }
            Err(error) if cursor.is_none() && has_no_batches(&error) => {
                return walk_by_key(map, spec, see);
            }
            Err(error) => return Err(error),
        }
    }
}

fn walk_by_key(
    map: BorrowedFd<'_>,
    spec: &MapSpec,
    see: &mut dyn FnMut(RawEntry),
) -> io::Result<()> {
    let mut key: Option<Vec<u8>> = None;
    while let Some(next) = sys::next_key(map, key.as_deref(), spec.key_size as usize)? {
        if let Some(value) = sys::look_up(map, &next, spec.value_size as usize)? {
            see(RawEntry { key: next.clone(), value });
        }
        key = Some(next);
    }
    Ok(())
}

/// Removes the entries that are over, of a map that others write meanwhile.
pub(crate) fn prune(
    map: BorrowedFd<'_>,
    spec: &MapSpec,
    is_over: &mut dyn FnMut(&RawEntry) -> bool,
) -> io::Result<Pruned> {
    let mut pruned = Pruned::default();
    let mut over = Vec::new();
    walk(map, spec, &mut |entry| {
        pruned.seen += 1;
        if is_over(&entry) {
            over.push(entry.key);
        }
    })?;
    for key in over {
        let Some(value) = sys::take(map, &key, spec.value_size as usize)? else { continue };
        let entry = RawEntry { key, value };
        if is_over(&entry) {
            pruned.removed += 1;
        } else {
            // Someone wrote it since it was seen. If they made it anew meanwhile, theirs counts.
            sys::insert(map, &entry.key, &entry.value)?;
        }
    }
    Ok(pruned)
}
