//! What a kernel would hold had its agent begun from nothing.

use super::{
    maps::Maps,
    rows::{key, prefix_rows, row, take_address, take_policy},
    shell::Inside,
};
use crate::told::Kept;
use weft_abi::{
    endpoint::ENDPOINTS,
    ipcache::{ADDRESSES4, PREFIXES4},
};
use weft_core::{
    ipcache::Ipcache,
    policy::{Engine, prefixes_of_rows},
};
use weft_types::NodeName;

/// All of it. Prefixes have the numbers that `held` gives them: any numbers do.
pub(super) fn maps(node: &NodeName, kept: &Kept, inside: &Inside, held: &Maps) -> Maps {
    let (mut engine, mut ipcache) = (Engine::default(), Ipcache::new(node.clone()));
    engine.seed_prefixes(&prefixes_of_rows(&prefix_rows(&held.rows(PREFIXES4.name))));
    for delta in kept.deltas() {
        take_policy(&mut engine, delta);
        take_address(&mut ipcache, delta);
    }
    inside.values().for_each(|pod| engine.hold(pod.identity));
    engine.commit();
    ipcache.set_prefixes(engine.prefixes().clone());
    ipcache.set_local((**inside).clone());
    let rows = ipcache.rows();
    let addresses = rows.addresses.iter();
    let addresses = addresses.map(|(at, row)| (at.octets().into(), row.to_bytes().into()));
    let prefixes = rows.prefixes.iter().map(|(net, row)| (key(net), row.to_bytes().into()));
    let endpoints = inside.iter().map(|(at, pod)| row(*at, pod));
    Maps {
        rows: [
            (ADDRESSES4.name, addresses.collect()),
            (PREFIXES4.name, prefixes.collect()),
            (ENDPOINTS.name, endpoints.collect()),
        ]
        .into(),
        classes: engine.classes(),
        epoch: held.epoch,
    }
}

/// The first map in which two kernels differ.
pub(super) fn difference(one: &Maps, other: &Maps) -> Option<&'static str> {
    let of = |map: &'static str| (one.rows(map) != other.rows(map)).then_some(map);
    let rows = [ADDRESSES4.name, PREFIXES4.name, ENDPOINTS.name].into_iter().find_map(of);
    rows.or_else(|| (one.classes != other.classes).then_some("classes"))
}
