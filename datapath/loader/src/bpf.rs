//! The raw `bpf(2)` calls that aya lacks or hides: maps by number, batches, pins and TCX links.
//!
//! Each command has an attribute struct of its own; the kernel takes a shorter struct than its union
//! and reads what is missing as zero. Errors are the kernel's; callers say what was attempted.
#![allow(unsafe_code, reason = "system calls with pointers to our own buffers")]

use std::{
    ffi::{CString, c_long},
    io::{Error, Result},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// Attach type of a TCX program that sees what the interface received.
pub const TCX_INGRESS: u32 = 46;
/// Attach type of a TCX program that sees what the interface is about to send.
pub const TCX_EGRESS: u32 = 47;

/// What a map is made of.
#[derive(Clone, Copy, Debug)]
pub struct MapShape<'a> {
    /// `BPF_MAP_TYPE_…`.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Entries; bytes for a ring buffer.
    pub capacity: u32,
    /// `BPF_F_…`.
    pub flags: u32,
    /// For a map of maps: a map like those that it will hold.
    pub template: Option<BorrowedFd<'a>>,
    /// Its name for people; the kernel keeps fifteen bytes.
    pub name: &'a str,
}

#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    kind: u32,
    key_size: u32,
    value_size: u32,
    capacity: u32,
    flags: u32,
    inner_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct PinAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    position_in: u64,
    position_out: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

const _: () = {
    assert!(size_of::<CreateAttr>() == 44);
    assert!(size_of::<PinAttr>() == 16);
    assert!(size_of::<BatchAttr>() == 56);
};

fn call<T>(command: i32, attr: &mut T) -> Result<c_long> {
    // SAFETY: the kernel reads and writes at most `size_of::<T>()` bytes of `attr`; the buffers that
    // it points to are borrowed by the callers below for as long as this call lasts.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut T, size_of::<T>()) };
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

fn call_for_fd<T>(command: i32, attr: &mut T) -> Result<OwnedFd> {
    let fd = RawFd::try_from(call(command, attr)?).map_err(Error::other)?;
    // SAFETY: the command returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // An open descriptor is never negative.
    fd.as_raw_fd().unsigned_abs()
}

fn c_path(path: &Path) -> Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Makes a map.
pub fn create_map(shape: &MapShape<'_>) -> Result<OwnedFd> {
    let mut attr = CreateAttr {
        kind: shape.kind,
        key_size: shape.key_size,
        value_size: shape.value_size,
        capacity: shape.capacity,
        flags: shape.flags,
        inner_fd: shape.template.map_or(0, number),
        ..CreateAttr::default()
    };
    for (to, from) in attr.name.iter_mut().take(15).zip(shape.name.bytes()) {
        *to = from;
    }
    call_for_fd(0, &mut attr)
}

/// Pins a map, program or link at a path of a bpffs; the path must be free.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let path = c_path(path)?;
    let mut attr = PinAttr { path: path.as_ptr() as u64, fd: number(fd), flags: 0 };
    call(6, &mut attr).map(drop)
}

/// Opens what is pinned at a path.
pub fn open_pin(path: &Path) -> Result<OwnedFd> {
    let path = c_path(path)?;
    call_for_fd(7, &mut PinAttr { path: path.as_ptr() as u64, ..PinAttr::default() })
}

/// Opens a map by its number, which is what an outer map's look-up answers.
pub fn map_by_id(id: u32) -> Result<OwnedFd> {
    call_for_fd(14, &mut [id, 0, 0])
}

/// Attaches a program to an interface by a TCX link, behind what is there.
pub fn attach_tcx(program: BorrowedFd<'_>, ifindex: u32, attach_type: u32) -> Result<OwnedFd> {
    call_for_fd(28, &mut [number(program), ifindex, attach_type, 0])
}

/// Replaces a link's program; no packet passes without one of the two.
pub fn replace_program(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    call(29, &mut [number(link), number(program), 0, 0]).map(drop)
}

/// A batch that the kernel did not finish.
#[derive(Debug)]
pub struct Partial {
    /// Entries done before the one that failed.
    pub done: usize,
    /// What the kernel said of it.
    pub error: Error,
}

/// Adds or replaces entries whose keys and values stand one behind the other.
pub fn update_batch(
    map: BorrowedFd<'_>,
    keys: &[u8],
    values: &[u8],
    count: u32,
) -> std::result::Result<(), Partial> {
    let mut attr = BatchAttr {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count,
        map: number(map),
        ..BatchAttr::default()
    };
    finish(call(26, &mut attr), &attr)
}

/// Removes keys; stops at the first that is absent (`ENOENT`).
pub fn delete_batch(
    map: BorrowedFd<'_>,
    keys: &[u8],
    count: u32,
) -> std::result::Result<(), Partial> {
    let mut attr =
        BatchAttr { keys: keys.as_ptr() as u64, count, map: number(map), ..BatchAttr::default() };
    finish(call(27, &mut attr), &attr)
}

fn finish(result: Result<c_long>, attr: &BatchAttr) -> std::result::Result<(), Partial> {
    result.map(drop).map_err(|error| {
        // Only an error of one entry comes with a count; others leave ours as it was.
        let of_entry = [libc::E2BIG, libc::ENOSPC, libc::ENOENT, libc::EEXIST, libc::EBUSY];
        let counted = error.raw_os_error().is_some_and(|code| of_entry.contains(&code));
        Partial { done: if counted { attr.count as usize } else { 0 }, error }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn map(kind: u32, flags: u32) -> Option<OwnedFd> {
        let shape = MapShape {
            kind,
            key_size: 8,
            value_size: 4,
            capacity: 4,
            flags,
            template: None,
            name: "weft_test_of_b",
        };
        match create_map(&shape) {
            Ok(map) => Some(map),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                eprintln!("skipped: making a map needs root");
                None
            }
            Err(error) => panic!("make a map: {error}"),
        }
    }

    /// Keys of an LPM trie (length, then four bytes) are as good keys of a hash.
    fn keys(count: u8) -> Vec<u8> {
        (0..count).flat_map(|n| [32, 0, 0, 0, 10, 0, 0, n]).collect()
    }

    #[test]
    fn root_a_full_map_says_how_many_entries_it_took() {
        // A hash (1) answers E2BIG, a trie (11, without preallocation) ENOSPC.
        for (kind, flags, code) in [(1, 0, libc::E2BIG), (11, 1, libc::ENOSPC)] {
            let Some(map) = map(kind, flags) else { return };
            let refused = update_batch(map.as_fd(), &keys(6), &[7; 24], 6).unwrap_err();
            assert_eq!(
                (refused.done, refused.error.raw_os_error()),
                (4, Some(code)),
                "kind {kind}"
            );
        }
    }

    #[test]
    fn root_a_deletion_stops_at_what_is_absent() {
        for (kind, flags) in [(1, 0), (11, 1)] {
            let Some(map) = map(kind, flags) else { return };
            update_batch(map.as_fd(), &keys(2), &[7; 8], 2).unwrap();
            let stopped = delete_batch(map.as_fd(), &keys(4), 4).unwrap_err();
            assert_eq!(
                (stopped.done, stopped.error.raw_os_error()),
                (2, Some(libc::ENOENT)),
                "kind {kind}"
            );
        }
    }
}
