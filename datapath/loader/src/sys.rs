//! The `bpf(2)` calls that aya does not offer: batches and inner maps. The one module with raw system calls.
#![allow(unsafe_code, reason = "system calls on plain memory, each with its argument")]

use std::{
    ffi::CString,
    io,
    mem::{size_of, zeroed},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};
use weft_abi::layout::size;

// Commands of enum bpf_cmd, linux/bpf.h.
const MAP_CREATE: i64 = 0;
const MAP_LOOKUP_ELEM: i64 = 1;
const MAP_UPDATE_ELEM: i64 = 2;
const MAP_DELETE_ELEM: i64 = 3;
const MAP_GET_NEXT_KEY: i64 = 4;
const PROG_LOAD: i64 = 5;
const OBJ_GET: i64 = 7;
const PROG_TEST_RUN: i64 = 10;
const MAP_GET_FD_BY_ID: i64 = 14;
const MAP_LOOKUP_AND_DELETE_ELEM: i64 = 21;
const MAP_LOOKUP_BATCH: i64 = 24;
const MAP_UPDATE_BATCH: i64 = 26;
const MAP_DELETE_BATCH: i64 = 27;
const LINK_CREATE: i64 = 28;
/// `BPF_TCX_INGRESS` of `enum bpf_attach_type`.
const TCX_INGRESS: u32 = 46;
/// `BPF_MAP_TYPE_LPM_TRIE`.
const TYPE_LPM_TRIE: u32 = 11;
/// `BPF_NOEXIST`.
const NOEXIST: u64 = 1;
/// `BPF_F_NO_PREALLOC`, which the kernel demands of LPM tries.
const NO_PREALLOC: u32 = 1;
/// `BPF_PROG_TYPE_SCHED_CLS`.
const TYPE_CLASSIFIER: u32 = 3;
/// `struct __sk_buff`: its size, and where its interface stands.
const CONTEXT_SIZE: usize = 192;
const CONTEXT_IFINDEX: usize = 40;
/// More than any packet that is run grows to.
const PACKET_ROOM: usize = 2048;

#[repr(C)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
struct Element {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    flags: u32,
}

#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// With what TCX adds: no place relative to others'.
#[repr(C)]
struct LinkCreate {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    revision: u64,
}

#[repr(C)]
struct TestRun {
    program: u32,
    returned: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
}

fn bpf<T>(command: i64, attributes: &mut T) -> io::Result<i64> {
    // SAFETY: `attributes` is a repr(C) prefix of union bpf_attr and as long as said; what it points
    // to is owned by the callers below for the time of the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn descriptor(result: i64) -> io::Result<OwnedFd> {
    let number = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: a successful call returned a descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

/// Opens a pinned map.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    descriptor(bpf(OBJ_GET, &mut Object { path: path.as_ptr() as u64, fd: 0, flags: 0 })?)
}

/// Opens a map by its id, as the look-up of an outer map gives it.
pub(crate) fn open_id(id: u32) -> io::Result<OwnedFd> {
    descriptor(bpf(MAP_GET_FD_BY_ID, &mut ById { id, next_id: 0, flags: 0 })?)
}

/// How many entries a map can have.
pub(crate) fn capacity(map: BorrowedFd<'_>) -> io::Result<u32> {
    let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd()))?;
    let entries = told.lines().find_map(|line| line.strip_prefix("max_entries:"));
    let entries = entries.and_then(|entries| entries.trim().parse().ok());
    entries.ok_or_else(|| io::Error::other("the kernel does not say how large the map is"))
}

/// Makes an LPM trie.
pub(crate) fn create_trie(key_size: u32, value_size: u32, max_entries: u32) -> io::Result<OwnedFd> {
    // SAFETY: integers and arrays of them.
    let mut attributes: Create = unsafe { zeroed() };
    attributes.map_type = TYPE_LPM_TRIE;
    attributes.key_size = key_size;
    attributes.value_size = value_size;
    attributes.max_entries = max_entries;
    attributes.map_flags = NO_PREALLOC;
    attributes.name = *b"weft_class\0\0\0\0\0\0";
    descriptor(bpf(MAP_CREATE, &mut attributes)?)
}

fn element(map: BorrowedFd<'_>, key: &[u8], value: u64) -> Element {
    Element { map_fd: number(map), pad: 0, key: key.as_ptr() as u64, value, flags: 0 }
}

/// The value of a key, `size` bytes (for per-CPU maps, of all CPUs); `None` when it is absent.
pub(crate) fn look_up(map: BorrowedFd<'_>, key: &[u8], size: usize) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0u8; size];
    match bpf(MAP_LOOKUP_ELEM, &mut element(map, key, value.as_mut_ptr() as u64)) {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes one entry out and returns its value; `None` when it is absent. Hashes can from Linux 5.14 on.
pub(crate) fn take(map: BorrowedFd<'_>, key: &[u8], size: usize) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0u8; size];
    match bpf(MAP_LOOKUP_AND_DELETE_ELEM, &mut element(map, key, value.as_mut_ptr() as u64)) {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Adds an entry if its key is absent; whether it was.
pub(crate) fn insert(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<bool> {
    let attributes = element(map, key, value.as_ptr() as u64);
    match bpf(MAP_UPDATE_ELEM, &mut Element { flags: NOEXIST, ..attributes }) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Where a walk over a map stands: in a hash a bucket, which the kernel counts in 32 bits; in others a key.
pub(crate) type Cursor = Vec<u8>;

/// Reads entries from `cursor` on (from the start without one) into buffers of `count` keys of `key_size`
/// and as many values. Returns how many were read and where to go on; no cursor at the end. `ENOSPC` when a single
/// bucket has more than `count`.
pub(crate) fn look_up_batch(
    map: BorrowedFd<'_>,
    cursor: Option<&Cursor>,
    (keys, key_size): (&mut [u8], usize),
    values: &mut [u8],
    count: usize,
) -> io::Result<(usize, Option<Cursor>)> {
    let mut next: Cursor = vec![0; key_size.max(size_of::<u32>())];
    let mut attributes = Batch {
        in_batch: cursor.map_or(0, |cursor| cursor.as_ptr() as u64),
        out_batch: next.as_mut_ptr() as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: u32::try_from(count).map_err(io::Error::other)?,
        map_fd: number(map),
        element_flags: 0,
        flags: 0,
    };
    match bpf(MAP_LOOKUP_BATCH, &mut attributes) {
        Ok(_) => Ok((attributes.count as usize, Some(next))),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            Ok((attributes.count as usize, None))
        }
        Err(error) => Err(error),
    }
}

/// Adds or replaces one entry.
pub(crate) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    bpf(MAP_UPDATE_ELEM, &mut element(map, key, value.as_ptr() as u64)).map(drop)
}

/// Removes one entry; the absent is no error.
pub(crate) fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    match bpf(MAP_DELETE_ELEM, &mut element(map, key, 0)) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// The key after `key`, or the first.
pub(crate) fn next_key(
    map: BorrowedFd<'_>,
    key: Option<&[u8]>,
    size: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut next = vec![0u8; size];
    let mut attributes = Element {
        map_fd: number(map),
        pad: 0,
        key: key.map_or(0, |k| k.as_ptr() as u64),
        value: next.as_mut_ptr() as u64,
        flags: 0,
    };
    match bpf(MAP_GET_NEXT_KEY, &mut attributes) {
        Ok(_) => Ok(Some(next)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Adds or replaces `count` entries that lie one after another; says how many were done when it fails.
pub(crate) fn update_batch(
    map: BorrowedFd<'_>,
    keys: &[u8],
    values: &[u8],
    count: usize,
) -> Result<(), (usize, io::Error)> {
    write_batch(MAP_UPDATE_BATCH, map, keys, values.as_ptr() as u64, count)
}

/// Removes `count` entries whose keys lie one after another; says how many were done when it fails. The absent
/// is an error here, `ENOENT`.
pub(crate) fn delete_batch(
    map: BorrowedFd<'_>,
    keys: &[u8],
    count: usize,
) -> Result<(), (usize, io::Error)> {
    write_batch(MAP_DELETE_BATCH, map, keys, 0, count)
}

fn write_batch(
    command: i64,
    map: BorrowedFd<'_>,
    keys: &[u8],
    values: u64,
    count: usize,
) -> Result<(), (usize, io::Error)> {
    let mut attributes = Batch {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values,
        count: u32::try_from(count).map_err(|e| (0, io::Error::other(e)))?,
        map_fd: number(map),
        element_flags: 0,
        flags: 0,
    };
    bpf(command, &mut attributes).map(drop).map_err(|error| (attributes.count as usize, error))
}

/// Loads a classifier from its instructions.
pub(crate) fn load_classifier(instructions: &[u64]) -> io::Result<OwnedFd> {
    // SAFETY: integers and arrays of them.
    let mut attributes: Load = unsafe { zeroed() };
    attributes.program_type = TYPE_CLASSIFIER;
    attributes.instruction_count = u32::try_from(instructions.len()).map_err(io::Error::other)?;
    attributes.instructions = instructions.as_ptr() as u64;
    attributes.license = c"GPL".as_ptr() as u64;
    attributes.name = *b"weft_bare\0\0\0\0\0\0\0";
    descriptor(bpf(PROG_LOAD, &mut attributes)?)
}

/// A link of a classifier in front of what comes in at an interface; it ends when it is closed.
pub(crate) fn attach_ingress(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    let mut attributes = LinkCreate {
        program: number(program),
        ifindex,
        attach_type: TCX_INGRESS,
        flags: 0,
        relative: 0,
        pad: 0,
        revision: 0,
    };
    descriptor(bpf(LINK_CREATE, &mut attributes)?)
}

/// Runs a classifier `repeat` times on one buffer, which is not made new between the times: what it
/// returned last, nanoseconds a time, and the packet as it is afterwards.
pub(crate) fn test_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    ifindex: u32,
    repeat: u32,
) -> io::Result<(u32, u32, Vec<u8>)> {
    let mut context = [0u8; CONTEXT_SIZE];
    let at = context.iter_mut().skip(CONTEXT_IFINDEX);
    at.zip(ifindex.to_ne_bytes()).for_each(|(to, from)| *to = from);
    let mut after = vec![0u8; PACKET_ROOM];
    let mut attributes = TestRun {
        program: number(program),
        returned: 0,
        data_size_in: u32::try_from(packet.len()).map_err(io::Error::other)?,
        data_size_out: size(PACKET_ROOM),
        data_in: packet.as_ptr() as u64,
        data_out: after.as_mut_ptr() as u64,
        repeat,
        duration: 0,
        context_size_in: size(CONTEXT_SIZE),
        context_size_out: 0,
        context_in: context.as_ptr() as u64,
        context_out: 0,
    };
    bpf(PROG_TEST_RUN, &mut attributes)?;
    after.truncate(attributes.data_size_out as usize);
    Ok((attributes.returned, attributes.duration, after))
}
