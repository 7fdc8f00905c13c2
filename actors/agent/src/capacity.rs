//! How large the kernel's maps may grow, and how large those are made that its programs write.

use weft_abi::{
    conntrack::{FLOWS4, PENDING4},
    ipcache::{ADDRESSES4, PREFIXES4},
    map::MapSpec,
    policy::CLASS_CAPACITY_MAX,
};
use weft_core::policy::Room;
use weft_datapath::kernel::Maps;

/// Prefixes that policies may name unless configured otherwise: the trie has rows of nodes' prefixes too.
const POLICY_PREFIXES: u32 = PREFIXES4.capacity / 2;
/// Flows a table can be made for at most: some 2 GB of kernel memory.
const FLOWS_MAX: i64 = 1 << 24;

/// What maps are told of their sizes. What the agent writes takes memory as it is written, so these are limits; a revision that
/// needs more is refused, and the one before stays in force.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Addresses of pods and nodes that there may be; a revision that brings more is refused.
    #[arg(long, value_name = "ADDRESSES", default_value_t = ADDRESSES4.capacity,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(ADDRESSES4.capacity)))]
    pub address_entries: u32,
    /// Entries that one policy class may have; a revision that needs more is refused.
    #[arg(long, value_name = "ENTRIES", default_value_t = CLASS_CAPACITY_MAX,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(CLASS_CAPACITY_MAX)))]
    pub class_entries: u32,
    /// Prefixes that policies may name; a revision that names more is refused.
    #[arg(long, value_name = "PREFIXES", default_value_t = POLICY_PREFIXES,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(POLICY_PREFIXES)))]
    pub policy_prefixes: u32,
    /// Answered flows to make room for, 176 bytes each, when the node's maps are made. More are told by `weft status`.
    #[arg(long, value_name = "FLOWS", default_value_t = FLOWS4.capacity,
        value_parser = clap::value_parser!(u32).range(1..=FLOWS_MAX))]
    pub flow_entries: u32,
    /// Flows without an answer yet to make room for; newer ones push out those that were used longest ago.
    #[arg(long, value_name = "FLOWS", default_value_t = PENDING4.capacity,
        value_parser = clap::value_parser!(u32).range(1..=FLOWS_MAX))]
    pub pending_entries: u32,
}

impl Config {
    /// What policies have room for.
    pub fn policies(&self) -> Room {
        let (classes, prefixes) = (self.class_entries as usize, self.policy_prefixes as usize);
        Room { class_entries: classes, prefixes }
    }

    /// How large the maps are made that the kernel's programs write.
    pub fn made(&self) -> [(&'static MapSpec, u32); 2] {
        [(&FLOWS4, self.flow_entries), (&PENDING4, self.pending_entries)]
    }

    /// Which of those were made for another size in the agent's life before, in words: they keep it, with the flows in them.
    pub fn kept(&self, maps: &dyn Maps) -> Vec<String> {
        let made =
            self.made().into_iter().map(|(map, wanted)| (map.name, maps.capacity(map), wanted));
        made.filter(|(_, is, wanted)| is != wanted)
            .map(|(name, is, wanted)| {
                format!(
                    "map {name} was made for {is} entries, not {wanted}: it keeps them until the node starts again"
                )
            })
            .collect()
    }
}
