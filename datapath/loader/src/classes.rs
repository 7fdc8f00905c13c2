//! The map of policy classes and their tries.
//!
//! The kernel's calls that write a map of maps come back when no program can still be reading what was there before:
//! a grace period of RCU, some 10 ms. That is what a class which is swapped is to wait for. One that is new or that
//! nobody uses any more has nothing to wait for, and pods start and end by these: it is enough that every packet from
//! now on finds it so.

use crate::{
    batch::{self, full_or},
    glances::Glances,
    kernel::KernelError,
    maps::failed,
    sys,
};
use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
};
use weft_abi::{
    layout::size,
    map::MapSpec,
    policy::{
        CLASS_CAPACITY_MAX, CLASS_CAPACITY_MIN, CLASSES, ClassEdit, PolicyEntry, PolicyPrefix,
    },
};

const PREFIX_SIZE: usize = size_of::<PolicyPrefix>();
const ENTRY_SIZE: usize = size_of::<PolicyEntry>();
/// Tries that are built before they are put in, each with a descriptor of its own: the soft limit of a process is 1024
/// where nobody raised it, and a grace period more for so many costs nobody much.
const TRIES_AT_ONCE: usize = 256;

/// The map of classes.
#[derive(Clone, Copy)]
pub(crate) struct Classes<'a>(BorrowedFd<'a>);

impl<'a> Classes<'a> {
    /// Behind its descriptor.
    pub(crate) fn of(map: BorrowedFd<'a>) -> Self {
        Self(map)
    }

    /// Those that have a trie.
    pub(crate) fn numbers(self) -> Result<Vec<u32>, KernelError> {
        let mut classes = Vec::new();
        let mut key: Option<Vec<u8>> = None;
        while let Some(next) = sys::next_key(self.0, key.as_deref(), 4)
            .map_err(failed(format!("read {}", CLASSES.name)))?
        {
            classes.push(u32::from_ne_bytes(next.clone().try_into().unwrap_or_default()));
            key = Some(next);
        }
        Ok(classes)
    }

    /// What the trie of one holds, in no order.
    pub(crate) fn entries(
        self,
        class: u32,
    ) -> Result<Vec<(PolicyPrefix, PolicyEntry)>, KernelError> {
        let Some(trie) = self.trie(class)? else { return Ok(Vec::new()) };
        let action = format!("read class {class}");
        let mut entries = Vec::new();
        let mut key: Option<Vec<u8>> = None;
        while let Some(next) = sys::next_key(trie.as_fd(), key.as_deref(), PREFIX_SIZE)
            .map_err(failed(action.clone()))?
        {
            let value =
                sys::look_up(trie.as_fd(), &next, ENTRY_SIZE).map_err(failed(action.clone()))?;
            if let Some((prefix, entry)) = value.and_then(|v| decode(&next, &v)) {
                entries.push((prefix, entry));
            }
            key = Some(next);
        }
        Ok(entries)
    }

    /// Builds new tries and puts them in; where there were others, no packet is judged by those when it returns.
    pub(crate) fn replace(
        self,
        classes: &[(u32, Vec<(PolicyPrefix, PolicyEntry)>)],
    ) -> Result<(), KernelError> {
        classes.chunks(TRIES_AT_ONCE).try_for_each(|some| self.replace_some(some))
    }

    fn replace_some(
        self,
        classes: &[(u32, Vec<(PolicyPrefix, PolicyEntry)>)],
    ) -> Result<(), KernelError> {
        let mut tries = Vec::with_capacity(classes.len());
        for (class, entries) in classes {
            tries.push(build_trie(*class, entries)?);
        }
        let numbers: Vec<u32> = classes.iter().map(|(class, _)| *class).collect();
        let descriptors: Vec<u8> =
            tries.iter().flat_map(|trie| trie.as_raw_fd().to_ne_bytes()).collect();
        let write =
            move |map: BorrowedFd<'_>, keys: &[u8]| batch::write(map, &CLASSES, keys, &descriptors);
        let written = if self.all(&numbers, false)? {
            self.until_seen(&numbers, true, write)
        } else {
            write(self.0, &keys(&numbers))
        };
        // Here, not where the write is waited out: others would be opened beside them meanwhile.
        drop(tries);
        written
    }

    /// Edits the trie of one, step by step.
    pub(crate) fn edit(self, class: u32, edits: &[ClassEdit]) -> Result<(), KernelError> {
        let trie = self
            .trie(class)?
            .ok_or_else(|| KernelError::Unusable(format!("class {class} has no trie to edit")))?;
        edits
            .iter()
            .try_for_each(|edit| match edit {
                ClassEdit::Upsert(prefix, entry) => {
                    sys::update(trie.as_fd(), &prefix.to_bytes(), &entry.to_bytes())
                }
                ClassEdit::Delete(prefix) => sys::delete(trie.as_fd(), &prefix.to_bytes()),
            })
            .map_err(|error| {
                let capacity = sys::capacity(trie.as_fd()).unwrap_or(CLASS_CAPACITY_MAX);
                full_or(error, format!("class {class}"), capacity)
            })
    }

    /// Takes some out, absent ones too.
    pub(crate) fn remove(self, classes: &[u32]) -> Result<(), KernelError> {
        let mut there = Vec::with_capacity(classes.len());
        for class in classes {
            if self.has(*class)? {
                there.push(*class);
            }
        }
        // Absent ones are not left to the thread: they look gone before it has come to them, and it would take out what
        // the owner puts in next.
        if there.is_empty() {
            return Ok(());
        }
        self.until_seen(&there, false, |map, keys| batch::remove(map, &CLASSES, keys))
    }

    /// The trie of one.
    fn trie(self, class: u32) -> Result<Option<OwnedFd>, KernelError> {
        let action = || format!("open the trie of class {class}");
        let id = sys::look_up(self.0, &class.to_ne_bytes(), 4).map_err(failed(action()))?;
        id.map(|id| sys::open_id(u32::from_ne_bytes(id.try_into().unwrap_or_default())))
            .transpose()
            .map_err(failed(action()))
    }

    fn has(self, class: u32) -> Result<bool, KernelError> {
        sys::look_up(self.0, &class.to_ne_bytes(), 4)
            .map(|trie| trie.is_some())
            .map_err(failed(format!("look for class {class}")))
    }

    /// Whether all of these are there, or none.
    fn all(self, classes: &[u32], there: bool) -> Result<bool, KernelError> {
        for class in classes {
            if self.has(*class)? != there {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes on a thread of its own, which outlasts the kernel's grace period, and returns as soon as the classes are
    /// there, or are not. Each must be the other way before, or the write could be still to come. The kernel has read all
    /// that the write names when this returns.
    fn until_seen(
        self,
        classes: &[u32],
        there: bool,
        write: impl FnOnce(BorrowedFd<'_>, &[u8]) -> Result<(), KernelError> + Send + 'static,
    ) -> Result<(), KernelError> {
        let action = || format!("write {}", CLASSES.name);
        let map = self.0.try_clone_to_owned().map_err(failed(action()))?;
        let (done, outcome) = mpsc::channel();
        let keys = keys(classes);
        thread::Builder::new()
            .name("weft-classes".to_owned())
            .spawn(move || {
                // Nobody may be waiting for it any more.
                let _ = done.send(write(map.as_fd(), &keys));
            })
            .map_err(failed(action()))?;
        let mut glances = Glances::new();
        loop {
            match outcome.recv_timeout(glances.pause()) {
                Ok(written) => return written,
                Err(RecvTimeoutError::Timeout) => match self.all(classes, there) {
                    Ok(true) => return Ok(()),
                    Ok(false) => {}
                    // Whether it was written is its own to say.
                    Err(error) => return outcome.recv().unwrap_or(Err(error)),
                },
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(KernelError::Unusable(format!("{}: its thread died", action())));
                }
            }
        }
    }
}

fn keys(classes: &[u32]) -> Vec<u8> {
    classes.iter().flat_map(|class| class.to_ne_bytes()).collect()
}

/// Entries that the trie of a class with so many is made for: room to be edited in place.
pub(crate) fn room_of(entries: u32) -> u32 {
    let doubled = entries.saturating_mul(2).min(CLASS_CAPACITY_MAX);
    doubled.next_power_of_two().max(CLASS_CAPACITY_MIN)
}

/// Makes and fills a class's trie, with room to be edited in place.
fn build_trie(class: u32, entries: &[(PolicyPrefix, PolicyEntry)]) -> Result<OwnedFd, KernelError> {
    let wanted = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    if wanted > CLASS_CAPACITY_MAX {
        return Err(KernelError::Full {
            map: format!("class {class}"),
            capacity: CLASS_CAPACITY_MAX,
        });
    }
    let capacity = room_of(wanted);
    let trie = sys::create_trie(size(PREFIX_SIZE), size(ENTRY_SIZE), capacity)
        .map_err(failed(format!("make a trie for class {class}")))?;
    let keys: Vec<u8> = entries.iter().flat_map(|(prefix, _)| prefix.to_bytes()).collect();
    let values: Vec<u8> = entries.iter().flat_map(|(_, entry)| entry.to_bytes()).collect();
    let spec = MapSpec {
        name: "weft_class",
        key_size: size(PREFIX_SIZE),
        value_size: size(ENTRY_SIZE),
        capacity,
        ..CLASSES
    };
    batch::write(trie.as_fd(), &spec, &keys, &values)?;
    Ok(trie)
}

fn decode(key: &[u8], value: &[u8]) -> Option<(PolicyPrefix, PolicyEntry)> {
    Some((PolicyPrefix::from_bytes(key)?, PolicyEntry::from_bytes(value)?))
}
