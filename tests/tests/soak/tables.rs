//! What a node's maps say, with what an agent is free to number as it likes replaced by what the number stands for.

use std::collections::{BTreeMap, BTreeSet};
use weft_abi::{
    endpoint::ENDPOINTS,
    ipcache::{ADDRESSES4, AddressEntry, PREFIXES4, Prefix4, PrefixEntry},
};
use weft_datapath::{RealKernel, kernel::Maps};
use weft_tests::lab::Lab;

/// The maps that an agent writes; rows in words that can be compared and read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    addresses: BTreeSet<(Vec<u8>, Vec<u8>)>,
    endpoints: BTreeSet<(Vec<u8>, Vec<u8>)>,
    prefixes: BTreeSet<String>,
    classes: BTreeMap<u32, BTreeSet<String>>,
}

impl Tables {
    /// Without the pods of another node that were asked for, since a flow was theirs: who begins anew has asked for nobody. Each of
    /// them has the identity there that it has here.
    #[track_caller]
    pub(crate) fn without_strangers(mut self, anew: &Self, other: &Self) -> Self {
        let identity = |row: &[u8]| AddressEntry::from_bytes(row).unwrap().identity;
        let there: BTreeMap<&[u8], u32> =
            other.addresses.iter().map(|(at, row)| (at.as_slice(), identity(row))).collect();
        self.addresses.retain(|(address, row)| {
            let is_known = anew.addresses.iter().any(|(at, _)| at == address);
            if !is_known {
                let their = there.get(address.as_slice()).copied();
                assert_eq!(their, Some(identity(row)), "{address:?} was asked for");
            }
            is_known
        });
        self
    }
}

/// Those of a node.
pub(crate) fn of(lab: &Lab, node: &str) -> Tables {
    let maps = RealKernel::open(&lab.dir().join(node).join("bpf"), 1).unwrap().maps;
    let rows = |map| maps.entries(map).unwrap().into_iter().map(|row| (row.key, row.value));
    // A number of a prefix is the agent's own.
    let mut named = BTreeMap::new();
    let mut prefixes = BTreeSet::new();
    for (key, value) in rows(&PREFIXES4) {
        let prefix = Prefix4::from_bytes(&key).unwrap();
        let entry = PrefixEntry::from_bytes(&value).unwrap();
        let name = format!("{:?}/{}", prefix.addr, prefix.length);
        if entry.cidr != 0 {
            named.entry(entry.cidr).or_insert_with(BTreeSet::new).insert(name.clone());
        }
        prefixes.insert(format!("{name} {} {} {:?}", entry.identity, entry.flags, entry.node));
    }
    let peer = |identity: u32| {
        named.get(&identity).map_or_else(|| identity.to_string(), |names| format!("{names:?}"))
    };
    let class = |number: u32| {
        let entries = maps.class_entries(number).unwrap().into_iter().map(|(prefix, entry)| {
            let key = prefix.key;
            format!(
                "{} {} {}/{:?} of {}: {} {}",
                key.direction,
                peer(key.identity),
                key.protocol,
                key.port,
                prefix.length,
                entry.precedence,
                entry.flags
            )
        });
        (number, entries.collect())
    };
    Tables {
        addresses: rows(&ADDRESSES4).collect(),
        endpoints: rows(&ENDPOINTS).collect(),
        prefixes,
        classes: maps.classes().unwrap().into_iter().map(class).collect(),
    }
}
