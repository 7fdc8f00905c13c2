//! The kernel's maps as the verdict's [`World`].

use crate::maps;
use aya_ebpf::btf_maps::lpm_trie::Key;
use weft_abi::{
    address::Addr4,
    endpoint::Endpoint,
    ipcache::{AddressEntry, PrefixEntry},
    policy::{PREFIX_PORT, PolicyEntry, PolicyKey},
};
use weft_verdict::{flow::World, policy::Class};

/// The maps of this node; nothing is stored in it.
pub struct Kernel;

/// A class's trie.
pub struct Trie(&'static maps::ClassTrie);

impl Class for Trie {
    #[inline(always)]
    fn entry(&self, key: &PolicyKey) -> Option<&PolicyEntry> {
        let entry = self.0.get(&Key::new(PREFIX_PORT, *key))?;
        // SAFETY: of the same size and no less aligned, and valid for any bits; it lives as long as what it was.
        Some(unsafe { &*core::ptr::from_ref(entry).cast::<PolicyEntry>() })
    }
}

impl World for Kernel {
    type Class<'a> = Trie;

    #[inline(always)]
    fn address(&self, address: Addr4) -> Option<&AddressEntry> {
        // SAFETY: a value's memory stays valid while the program runs; what an edit tears is judged
        // again after the epoch that follows every edit.
        maps::WEFT_ADDRESSES4.get_ptr(address).map(|p| unsafe { &*p })
    }

    #[inline(always)]
    fn prefix(&self, address: Addr4) -> Option<&PrefixEntry> {
        maps::WEFT_PREFIXES4.get(&Key::new(32, address))
    }

    #[inline(always)]
    fn endpoint(&self, ifindex: u32) -> Option<&Endpoint> {
        // SAFETY: as in `address`.
        maps::WEFT_ENDPOINTS.get_ptr(ifindex).map(|p| unsafe { &*p })
    }

    #[inline(always)]
    fn class(&self, class: u32) -> Option<Trie> {
        // SAFETY: an inner map lives until a grace period after its last reader.
        unsafe { maps::WEFT_CLASSES.get(&class) }.map(Trie)
    }
}

/// The node's epoch, read before anything is looked up.
#[inline(always)]
pub fn epoch() -> u64 {
    match maps::WEFT_NODE_STATE.get_ptr(0) {
        // SAFETY: an aligned eight-byte read; the agent writes it while programs run.
        Some(state) => unsafe { core::ptr::read_volatile(&raw const (*state).epoch) },
        None => 0,
    }
}
