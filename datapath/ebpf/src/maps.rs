//! The maps, under the names and layouts of `weft-abi`. Both objects share them by pin.
#![allow(missing_docs, reason = "weft-abi says of each map what it is")]

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap, HashOfMaps, LpmTrie, LruHashMap, PerCpuArray},
    macros::{btf_map, map},
    maps::RingBuf,
};
use core::mem::MaybeUninit;
use weft_abi::{
    address::Addr4,
    conntrack::{FLOWS4, Flow, FlowKey4, PENDING4, Path},
    endpoint::{ENDPOINTS, Endpoint},
    epoch::NodeState,
    event::{EVENTS, MUTED4, Muted},
    fragment::{FRAGMENTS4, FragmentKey4, Fragmented},
    ipcache::{ADDRESSES4, AddressEntry, PREFIXES4, PrefixEntry},
    metrics::{Counter, METRICS},
    policy::{CLASS_CAPACITY_MIN, CLASSES, PolicyEntry, PolicyKey},
};
use weft_verdict::flow::Judgement;

/// What a running program keeps off its 512 bytes of stack. All of it is written before it is read.
pub struct Scratch {
    /// A flow to be inserted.
    pub flow: MaybeUninit<Flow>,
    /// A judgement.
    pub found: MaybeUninit<Judgement>,
    /// The path to leave by.
    pub path: MaybeUninit<Path>,
}

/// Of this CPU alone: no program of ours interrupts another on it, since all run with softirqs off.
/// A plain map: its value is nobody else's business and needs no type information.
#[map(name = "weft_scratch")]
static WEFT_SCRATCH: aya_ebpf::maps::PerCpuArray<Scratch> =
    aya_ebpf::maps::PerCpuArray::with_max_entries(1, 0);

/// This CPU's scratch.
#[inline(always)]
pub fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: this CPU's own, taken once a run; its fields may be uninitialised by type.
    WEFT_SCRATCH.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
}

/// Entries take their memory when they are written; programs themselves, which may not wait for it, write others.
const WRITTEN_BY_AGENT: usize = BPF_F_NO_PREALLOC as usize;

/// A [`PolicyEntry`] as its trie declares it. As a struct it would let no trie in before Linux 6.2: the template that
/// an outer map compares with is made with type information, the agent's tries are made without, and there a known struct
/// without a timer differs from what is unknown (`btf_find_timer`: `-ENOENT` against `-EINVAL`). A known array does not.
pub type PlainEntry = [u64; 2];
const _: () = assert!(size_of::<PlainEntry>() == size_of::<PolicyEntry>());
const _: () = assert!(align_of::<PlainEntry>() >= align_of::<PolicyEntry>());

/// A policy class's trie.
pub type ClassTrie = LpmTrie<PolicyKey, PlainEntry, { CLASS_CAPACITY_MIN as usize }>;

#[btf_map(name = "weft_classes")]
pub static WEFT_CLASSES: HashOfMaps<u32, ClassTrie, { CLASSES.capacity as usize }> =
    HashOfMaps::new();
#[btf_map(name = "weft_addresses4")]
pub static WEFT_ADDRESSES4: HashMap<
    Addr4,
    AddressEntry,
    { ADDRESSES4.capacity as usize },
    WRITTEN_BY_AGENT,
> = HashMap::new();
#[btf_map(name = "weft_prefixes4")]
pub static WEFT_PREFIXES4: LpmTrie<Addr4, PrefixEntry, { PREFIXES4.capacity as usize }> =
    LpmTrie::new();
#[btf_map(name = "weft_endpoints")]
pub static WEFT_ENDPOINTS: HashMap<
    u32,
    Endpoint,
    { ENDPOINTS.capacity as usize },
    WRITTEN_BY_AGENT,
> = HashMap::new();
#[btf_map(name = "weft_node_state")]
pub static WEFT_NODE_STATE: Array<NodeState, 1> = Array::new();
#[btf_map(name = "weft_flows4")]
pub static WEFT_FLOWS4: HashMap<FlowKey4, Flow, { FLOWS4.capacity as usize }> = HashMap::new();
#[btf_map(name = "weft_pending4")]
pub static WEFT_PENDING4: LruHashMap<FlowKey4, Flow, { PENDING4.capacity as usize }> =
    LruHashMap::new();
#[btf_map(name = "weft_metrics")]
pub static WEFT_METRICS: PerCpuArray<Counter, { METRICS.capacity as usize }> = PerCpuArray::new();
#[btf_map(name = "weft_muted4")]
pub static WEFT_MUTED4: LruHashMap<FlowKey4, Muted, { MUTED4.capacity as usize }> =
    LruHashMap::new();
#[btf_map(name = "weft_fragments4")]
pub static WEFT_FRAGMENTS4: LruHashMap<FragmentKey4, Fragmented, { FRAGMENTS4.capacity as usize }> =
    LruHashMap::new();
#[map(name = "weft_events")]
pub static WEFT_EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS.capacity, 0);
