//! What an agent finds of the life before: files, links, and the kernel's rows where a file is damaged.
//!
//! A damaged record takes nothing from its pod: link and row go on, the row says address and identity, operators say the
//! name. The file stays as it is until CNI DEL removes it, so that who can read it after all, as a newer agent can, may.

use super::{Endpoints, Key, steps::unplug};
use crate::{
    Refusal, internal,
    loader::{Plugged, Reattach, Unpin},
    mapsync::ReadRows,
    runtime::Life,
    state::{self, Record, Records},
};
use std::{collections::BTreeMap, net::Ipv4Addr};
use weft_core::{
    endpoint::{Endpoint, Phase, Wire},
    mapsync::Rows,
};
use weft_types::{Identity, NamespacedName, PodEndpoint};

/// The namespace of a pod of which nobody has said the name; no namespace is called so.
const UNNAMED: &str = "?";

/// Whether nobody has said which pod this is.
pub(super) fn is_unnamed(endpoint: &Endpoint) -> bool {
    endpoint.pod.namespace == UNNAMED
}

/// A damaged record, for an administrator.
pub(super) fn problem(endpoint: &Endpoint, why: &str) -> String {
    let Endpoint { pod, address, .. } = endpoint;
    format!("{why}; pod {pod} at {address} goes on as the kernel has it: recreate it to mend this")
}

/// What is to be gone on from.
#[derive(Debug, Default)]
struct Found {
    endpoints: BTreeMap<Key, Endpoint>,
    /// Links that are nobody's, and names of files that are no endpoint's.
    strays: BTreeMap<String, Option<u32>>,
}

impl Found {
    /// From what there is: files, indices of links by name, and rows of the endpoints' map.
    fn of(records: Records, links: &BTreeMap<String, u32>, rows: &Rows) -> Self {
        let mut found = Self {
            strays: links.iter().map(|(link, ifindex)| (link.clone(), Some(*ifindex))).collect(),
            ..Self::default()
        };
        for (link, record) in records {
            let ifindex = links.get(&link).copied();
            let known = match record.map_err(|e| e.to_string()).and_then(|r| keyed(&link, r)) {
                Ok((key, record)) => Some((key, recorded(record, ifindex))),
                Err(why) => {
                    tracing::error!(link, why, "the record of an endpoint");
                    let key = Key { link: link.clone(), attachment: Err(why), network: None };
                    ifindex.and_then(|ifindex| in_kernel(&link, ifindex, rows)).map(|e| (key, e))
                }
            };
            if known.is_some() {
                found.strays.remove(&link);
            } else {
                found.strays.insert(link, ifindex);
            }
            found.endpoints.extend(known);
        }
        found
    }

    /// Links to put this process's programs on.
    fn attach(&self) -> Vec<u32> {
        let ready = self.endpoints.values().filter(|endpoint| endpoint.phase == Phase::Ready);
        ready.filter_map(|endpoint| Some(endpoint.wire?.ifindex)).collect()
    }
}

fn keyed(link: &str, record: Record) -> Result<(Key, Record), String> {
    let network = record.network.clone();
    let key = Key { network, ..Key::from(record.attachment.clone()) };
    if key.link != link {
        return Err(format!("the record of endpoint {link} is that of {}", key.link));
    }
    Ok((key, record))
}

/// An endpoint as its record has it.
fn recorded(record: Record, ifindex: Option<u32>) -> Endpoint {
    let wire = record.link.map(|(ifindex, mac)| Wire { ifindex, mac, mtu: record.mtu });
    let is_whole = wire.is_some_and(|wire| Some(wire.ifindex) == ifindex);
    Endpoint {
        pod: record.pod,
        netns: record.netns,
        id: record.id,
        address: record.address,
        identity: record.identity,
        adopted: record.adopted,
        wire,
        phase: if is_whole { Phase::Ready } else { Phase::Plugging },
    }
}

/// An endpoint as the kernel has it. Rows are there before ADD is answered: without one, no pod was ever told of this link.
fn in_kernel(link: &str, ifindex: u32, rows: &Rows) -> Option<Endpoint> {
    let bytes = rows.get(ifindex.to_ne_bytes().as_slice())?;
    let row = weft_abi::endpoint::Endpoint::from_bytes(bytes)?;
    Some(Endpoint {
        pod: NamespacedName::new(UNNAMED, link),
        netns: String::new(),
        id: row.id,
        address: Ipv4Addr::from(row.addr4.octets()),
        identity: Identity(row.identity),
        adopted: false,
        wire: Some(Wire { ifindex, mac: row.mac, mtu: None }),
        phase: Phase::Ready,
    })
}

impl Endpoints {
    /// Reads the files, puts this process's programs on the links, and undoes what was unfinished.
    pub(super) async fn recover(&mut self, life: &Life<Self>) -> Result<(), Refusal> {
        state::clean(&self.setting.folder).map_err(internal)?;
        let records = state::read(&self.setting.folder).map_err(internal)?;
        let links = self.edges.loader.ask(Plugged).await??.into_iter().collect();
        let rows = self.edges.table.ask(ReadRows).await??;
        let found = Found::of(records, &links, &rows);
        self.edges.loader.ask(Reattach(found.attach())).await??;
        for (link, ifindex) in found.strays {
            tracing::warn!(link, "what no endpoint has is removed");
            unplug(&self.edges.loader, &self.setting, &link, ifindex).await?;
        }
        self.edges.loader.ask(Unpin).await??;
        found.endpoints.into_iter().for_each(|(key, endpoint)| self.core.recover(key, endpoint));
        for effect in self.core.undo_unfinished() {
            self.execute(effect, life);
        }
        Ok(())
    }

    /// What operators say of who has an address names an endpoint whose record is damaged. Not by the address alone: they
    /// may not have heard yet that it went to another pod.
    pub(super) fn name(&mut self, pod: &PodEndpoint) {
        let is_it = |endpoint: &Endpoint| {
            is_unnamed(endpoint)
                && pod.node == self.setting.node
                && (endpoint.address, endpoint.identity) == (pod.address, pod.identity)
        };
        let unnamed = self.core.iter().find(|(_, endpoint)| is_it(endpoint));
        if let Some(key) = unnamed.map(|(key, _)| key.clone()) {
            self.core.name(&key, &pod.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::host_interface;
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
    use std::{collections::BTreeSet, fs};
    use weft_abi::address::Addr4;
    use weft_api::cni::Attachment;

    const PODS: u32 = 3;

    fn attachment(number: u32) -> Attachment {
        Attachment { container_id: format!("c{number}"), interface: "eth0".to_owned() }
    }

    fn link(number: u32) -> (String, u32) {
        (host_interface(&attachment(number)), 10 + number)
    }

    fn address(number: u32) -> Ipv4Addr {
        [10, 0, 1, 2 + u8::try_from(number).unwrap()].into()
    }

    fn mac(number: u32) -> [u8; 6] {
        [2, 0, 0, 0, 0, u8::try_from(number).unwrap()]
    }

    fn record(number: u32) -> Record {
        Record {
            version: Record::VERSION,
            attachment: attachment(number),
            network: Some("weft".to_owned()),
            pod: NamespacedName::new("shop", format!("cart-{number}")),
            netns: format!("/run/netns/{number}"),
            id: 1 + number,
            address: address(number),
            identity: Identity(300 + number),
            adopted: false,
            link: Some((link(number).1, mac(number))),
            mtu: Some(1500),
        }
    }

    /// What the kernel has of all of them.
    fn rows() -> Rows {
        let row = |number: u32| {
            let row = weft_abi::endpoint::Endpoint {
                ifindex: link(number).1,
                id: 1 + number,
                identity: 300 + number,
                addr4: Addr4::new(address(number).octets()),
                mac: mac(number),
                ..weft_abi::endpoint::Endpoint::zeroed()
            };
            (row.ifindex.to_ne_bytes().to_vec(), row.to_bytes().to_vec())
        };
        (0..PODS).map(row).collect()
    }

    fn read(bytes: &[u8]) -> Records {
        let disk = tempfile::tempdir().unwrap();
        let folder = state::folder(disk.path()).unwrap();
        (0..PODS).for_each(|n| state::write(&folder, &link(n).0, &record(n)).unwrap());
        fs::write(folder.join(link(0).0 + ".json"), bytes).unwrap();
        state::read(&folder).unwrap()
    }

    fn written(number: u32) -> Vec<u8> {
        let disk = tempfile::tempdir().unwrap();
        state::write(disk.path(), "wl", &record(number)).unwrap();
        fs::read(disk.path().join("wl.json")).unwrap()
    }

    fn damages() -> impl Strategy<Value = Vec<u8>> {
        let (whole, torn) = (written(0), written(0));
        prop_oneof![
            any::<Vec<u8>>(),
            (0..torn.len()).prop_map(move |end| torn[..end].to_vec()),
            (0..whole.len(), 1..=255_u8).prop_map(move |(at, bits)| {
                let mut bytes = whole.clone();
                bytes[at] ^= bits;
                bytes
            }),
            Just(written(1)),
        ]
    }

    proptest! {
        /// No bytes in a file end the start, take anything from anybody, or make anybody another.
        #[test]
        fn a_damaged_file_costs_nobody_anything(
            bytes in damages(),
            has_link: bool,
            has_row: bool,
        ) {
            let mut links = BTreeMap::from_iter((0..PODS).map(link).chain([("wlstray".to_owned(), 99)]));
            let mut rows = rows();
            if !has_link {
                links.remove(&link(0).0);
            }
            if !has_row {
                rows.remove(link(0).1.to_ne_bytes().as_slice());
            }
            let mut found = Found::of(read(&bytes), &links, &rows);

            let attach = BTreeSet::from_iter(found.attach());
            let mut strays = BTreeMap::from([("wlstray".to_owned(), Some(99))]);
            let first = found.endpoints.remove_entry(&Key::from(attachment(0)));
            let goes_on = first.as_ref().is_some_and(|(_, first)| first.phase == Phase::Ready);
            assert_eq!(attach, BTreeSet::from_iter(goes_on.then_some(10).into_iter().chain([11, 12])));
            match first {
                // The damage made no difference.
                Some((Key { attachment: Ok(_), .. }, endpoint)) => {
                    assert_eq!(endpoint, recorded(record(0), has_link.then_some(10)));
                }
                Some((Key { attachment: Err(why), .. }, endpoint)) => {
                    assert!(has_link && has_row && why.contains(&link(0).0), "{why}");
                    let pod = NamespacedName::new(UNNAMED, link(0).0);
                    let netns = String::new();
                    let known = Record { mtu: None, ..record(0) };
                    assert_eq!(endpoint, Endpoint { pod, netns, ..recorded(known, Some(10)) });
                }
                None => {
                    assert!(!has_link || !has_row);
                    strays.insert(link(0).0, has_link.then_some(10));
                }
            }
            assert_eq!(found.strays, strays);
            let others = (1..PODS).map(|n| (Key::from(attachment(n)), recorded(record(n), Some(10 + n))));
            assert_eq!(found.endpoints, others.collect());
        }
    }
}
