//! The `Ipcache` actor: who has an address, and where.

use crate::{
    Refusal,
    loader::{Loader, SetRoutes},
    mapsync::{Change, Fill, TableSync},
    published::Advance,
    refused,
    runtime::{Edge, Life, Refeed, Role, Seat, Serve, Thread, request},
    try_again,
};
use ipnet::Ipv4Net;
use std::{collections::BTreeMap, net::Ipv4Addr};
use weft_abi::{
    address::Addr4,
    ipcache::{Prefix4, PrefixEntry},
};
use weft_api::agent::NodeRow;
use weft_core::{
    ipcache::{Ipcache as Core, LocalPod},
    mapsync::{Edits, Rows},
};
use weft_types::{Delta, NodeName};

/// Owns the table of addresses. It has three sources, and touches nothing before all three spoke.
pub struct Ipcache {
    core: Core,
    spoke: Spoke,
    room: usize,
    addresses: Edge<TableSync>,
    prefixes: Edge<TableSync>,
    loader: Edge<Loader>,
}

/// Which sources said everything.
#[derive(Default)]
struct Spoke {
    published: bool,
    local: bool,
    prefixes: bool,
}

impl Ipcache {
    /// Of this node, which has room for so many addresses.
    pub fn new(
        (own, room): (NodeName, usize),
        addresses: &Seat<TableSync>,
        prefixes: &Seat<TableSync>,
        loader: &Seat<Loader>,
    ) -> Self {
        Self {
            core: Core::new(own),
            spoke: Spoke::default(),
            room,
            addresses: addresses.edge(),
            prefixes: prefixes.edge(),
            loader: loader.edge(),
        }
    }

    fn take(&mut self, delta: &Delta) {
        match delta {
            Delta::NodeUpsert(node) => self.core.upsert_node(node.clone()),
            Delta::NodeDelete(name) => self.core.delete_node(name),
            Delta::EndpointUpsert(pod) => self.core.upsert_pod(pod.clone()),
            Delta::EndpointDelete(address) => self.core.delete_pod(*address),
            Delta::IdentityUpsert(..)
            | Delta::IdentityDelete(_)
            | Delta::WorkloadUpsert(_)
            | Delta::WorkloadDelete(_)
            | Delta::PolicyUpsert(_)
            | Delta::PolicyDelete(_) => {}
        }
    }

    async fn realise(&mut self) -> Result<(), Refusal> {
        if !(self.spoke.published && self.spoke.local && self.spoke.prefixes) {
            return Ok(());
        }
        self.core.fits(self.room).map_err(refused)?;
        let edits = self.core.commit();
        // A route that another program's is in the way of is said, and keeps no address out of the tables.
        let mut routes = Ok(());
        if edits.routes || self.loader.is_hungry() {
            let life = self.loader.incarnation();
            self.loader.starve();
            routes = match self.loader.ask(SetRoutes(self.core.routes())).await {
                Ok(routes) => routes,
                Err(lost) => Err(lost.into()),
            };
            if routes.is_ok() {
                self.loader.fed(life);
            }
        }
        // Both tables are told, whatever became of the routes or of the other: the core does not say these edits again.
        let rows: Edits = edits
            .addresses
            .iter()
            .map(|(a, entry)| (a.octets().into(), entry.map(|e| e.to_bytes().into())))
            .collect();
        let addresses = write(&self.addresses, rows, || {
            self.core
                .rows()
                .addresses
                .iter()
                .map(|(a, e)| (a.octets().into(), e.to_bytes().into()))
                .collect()
        })
        .await;
        let rows: Edits = edits
            .prefixes
            .iter()
            .map(|(p, entry)| (key(p), entry.map(|e| e.to_bytes().into())))
            .collect();
        let prefixes = write(&self.prefixes, rows, || {
            self.core.rows().prefixes.iter().map(|(p, e)| (key(p), e.to_bytes().into())).collect()
        })
        .await;
        addresses.and(prefixes).and(routes)
    }
}

/// Tells a map's owner a change, or everything when it is new or may not hold what it was told.
pub async fn write(
    map: &Edge<TableSync>,
    edits: Edits,
    whole: impl FnOnce() -> Rows,
) -> Result<(), Refusal> {
    let life = map.incarnation();
    if !map.is_hungry() && edits.is_empty() {
        return Ok(());
    }
    let hungry = map.is_hungry();
    map.starve();
    if hungry {
        map.ask(Fill(whole())).await??
    } else {
        map.ask(Change(edits)).await??
    }
    map.fed(life);
    Ok(())
}

/// A prefix as the kernel's tries have it.
fn key(prefix: &Ipv4Net) -> Vec<u8> {
    let addr = Addr4::new(prefix.network().octets());
    Prefix4 { length: prefix.prefix_len().into(), addr }.to_bytes().into()
}

/// The prefix rows that a kernel's map holds; rows of another layout are none.
pub fn prefix_rows(rows: &Rows) -> BTreeMap<Ipv4Net, PrefixEntry> {
    let row = |(key, value): (&Vec<u8>, &Vec<u8>)| {
        let prefix = Prefix4::from_bytes(key)?;
        let length = u8::try_from(prefix.length).ok()?;
        let prefix = Ipv4Net::new(prefix.addr.octets().into(), length).ok()?;
        Some((prefix, PrefixEntry::from_bytes(value)?))
    };
    rows.iter().filter_map(row).collect()
}

impl Role for Ipcache {
    const THREAD: Thread = Thread::Control;

    async fn born(&mut self, life: &Life<Self>) -> Result<(), Refusal> {
        life.refeed_after(&self.addresses);
        life.refeed_after(&self.prefixes);
        life.refeed_after(&self.loader);
        Ok(())
    }
}

impl Serve<Refeed> for Ipcache {
    async fn serve(&mut self, _: Refeed, _: &Life<Self>) {
        if let Err(error) = self.realise().await {
            tracing::error!(%error, "address maps after a restart");
        }
    }
}

impl Serve<Advance> for Ipcache {
    async fn serve(&mut self, advance: Advance, _: &Life<Self>) -> Result<(), Refusal> {
        if advance.whole {
            self.core.clear();
            self.spoke.published = true;
        }
        advance.deltas.iter().for_each(|delta| self.take(delta));
        self.realise().await
    }
}

/// The prefixes that policies name: all of them.
pub struct SetPrefixes(pub BTreeMap<Ipv4Net, u32>);
request!(SetPrefixes => Result<(), Refusal>);

impl Serve<SetPrefixes> for Ipcache {
    async fn serve(&mut self, set: SetPrefixes, _: &Life<Self>) -> Result<(), Refusal> {
        self.core.set_prefixes(set.0);
        self.spoke.prefixes = true;
        self.realise().await
    }
}

/// The pods of this node that have a link: all of them.
pub struct SetLocal(pub BTreeMap<Ipv4Addr, LocalPod>);
request!(SetLocal => Result<(), Refusal>);

impl Serve<SetLocal> for Ipcache {
    async fn serve(&mut self, set: SetLocal, _: &Life<Self>) -> Result<(), Refusal> {
        let first = !std::mem::replace(&mut self.spoke.local, true);
        self.core.set_local(set.0);
        let others_spoke = self.spoke.published && self.spoke.prefixes;
        if !first && !others_spoke {
            return Err(try_again("no operator has sent this node its state yet"));
        }
        self.realise().await
    }
}

/// The nodes.
pub struct ListNodes;
request!(ListNodes => Vec<NodeRow>);

impl Serve<ListNodes> for Ipcache {
    async fn serve(&mut self, _: ListNodes, _: &Life<Self>) -> Vec<NodeRow> {
        let row = |node: &weft_types::Node| NodeRow {
            name: node.name.0.clone(),
            address: node.address,
            pod_cidrs: node.pod_cidrs.iter().map(ToString::to_string).collect(),
        };
        self.core.nodes().map(row).collect()
    }
}
