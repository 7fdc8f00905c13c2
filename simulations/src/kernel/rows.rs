//! What deltas mean to the cores, and rows as the kernel's maps have them, as the agent's own actors spell them.

use ipnet::Ipv4Net;
use std::{collections::BTreeMap, net::Ipv4Addr};
use weft_abi::{
    address::Addr4,
    endpoint::Endpoint,
    ipcache::{Prefix4, PrefixEntry},
};
use weft_core::{
    ipcache::{Ipcache, LocalPod},
    mapsync::Rows,
    policy::Engine,
};
use weft_types::{Delta, Policy, policy::PolicyId};

pub(super) fn take_policy(engine: &mut Engine, delta: &Delta) {
    match delta {
        Delta::IdentityUpsert(number, labels) => engine.upsert_identity(*number, labels.clone()),
        Delta::IdentityDelete(number) => engine.delete_identity(*number),
        Delta::PolicyUpsert(policy) => engine.upsert_policy(policy.clone()),
        Delta::PolicyDelete(id) => engine.delete_policy(id),
        Delta::EndpointUpsert(pod) => engine.upsert_pod(pod.address, pod.identity),
        Delta::EndpointDelete(address) => engine.delete_pod(*address),
        Delta::NodeUpsert(_)
        | Delta::NodeDelete(_)
        | Delta::WorkloadUpsert(_)
        | Delta::WorkloadDelete(_) => {}
    }
}

pub(super) fn take_address(ipcache: &mut Ipcache, delta: &Delta) {
    match delta {
        Delta::NodeUpsert(node) => ipcache.upsert_node(node.clone()),
        Delta::NodeDelete(name) => ipcache.delete_node(name),
        Delta::EndpointUpsert(pod) => ipcache.upsert_pod(pod.clone()),
        Delta::EndpointDelete(address) => ipcache.delete_pod(*address),
        Delta::IdentityUpsert(..)
        | Delta::IdentityDelete(_)
        | Delta::WorkloadUpsert(_)
        | Delta::WorkloadDelete(_)
        | Delta::PolicyUpsert(_)
        | Delta::PolicyDelete(_) => {}
    }
}

/// With a policy that goes, another one goes that a policy engine should keep.
pub(super) fn forget_neighbours(engine: &mut Engine, deltas: &[Delta]) {
    let goes = |delta: &Delta| matches!(delta, Delta::PolicyDelete(_));
    let neighbours: Vec<PolicyId> =
        engine.policies().map(|policy: &Policy| policy.id.clone()).collect();
    let count = deltas.iter().filter(|delta| goes(delta)).count();
    neighbours.iter().take(count).for_each(|id| engine.delete_policy(id));
}

/// An endpoint's row in the kernel.
pub(super) fn row(address: Ipv4Addr, pod: &LocalPod) -> (Vec<u8>, Vec<u8>) {
    let row = Endpoint {
        ifindex: pod.ifindex,
        id: pod.ifindex,
        identity: pod.identity.0,
        // A class's number is its identity's.
        class: pod.identity.0,
        addr4: Addr4::new(address.octets()),
        ..Endpoint::zeroed()
    };
    (pod.ifindex.to_ne_bytes().into(), row.to_bytes().into())
}

/// A prefix as the kernel's tries have it.
pub(super) fn key(prefix: &Ipv4Net) -> Vec<u8> {
    let addr = Addr4::new(prefix.network().octets());
    Prefix4 { length: prefix.prefix_len().into(), addr }.to_bytes().into()
}

/// The prefix rows that a map holds.
pub(super) fn prefix_rows(rows: &Rows) -> BTreeMap<Ipv4Net, PrefixEntry> {
    let row = |(key, value): (&Vec<u8>, &Vec<u8>)| {
        let prefix = Prefix4::from_bytes(key)?;
        let length = u8::try_from(prefix.length).ok()?;
        let prefix = Ipv4Net::new(prefix.addr.octets().into(), length).ok()?;
        Some((prefix, PrefixEntry::from_bytes(value)?))
    };
    rows.iter().filter_map(row).collect()
}
