//! The `Ipcache` actor: who has an address, and where.

use crate::{
    Refusal, internal,
    loader::{Loader, SetRoutes},
    mapsync::{Desire, Rows, TableSync},
    published::Advance,
};
use actix::{Actor, Addr, AtomicResponse, Context, Handler, Message, WrapFuture};
use ipnet::Ipv4Net;
use std::{collections::BTreeMap, net::Ipv4Addr};
use weft_abi::ipcache::{AddressEntry, PrefixEntry};
use weft_core::ipcache::{Ipcache as Core, LocalPod};
use weft_types::{Delta, NodeName};

/// Owns the table of addresses.
pub struct Ipcache {
    core: Core,
    own: NodeName,
    /// Nothing is written before a snapshot is complete.
    complete: bool,
    addresses: Addr<TableSync>,
    prefixes: Addr<TableSync>,
    loader: Addr<Loader>,
}

impl Ipcache {
    /// Of this node.
    pub fn new(
        own: NodeName,
        addresses: Addr<TableSync>,
        prefixes: Addr<TableSync>,
        loader: Addr<Loader>,
    ) -> Self {
        Self { core: Core::new(own.clone()), own, complete: false, addresses, prefixes, loader }
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

    fn realise(&self) -> impl Future<Output = Result<(), Refusal>> + use<> {
        let rows = self.core.rows();
        let routes = self
            .core
            .nodes()
            .filter(|node| node.name != self.own)
            .flat_map(|node| node.pod_cidrs.iter().map(|cidr| (*cidr, node.address)))
            .map(|(cidr, via)| (cidr.network(), cidr.prefix_len(), via))
            .collect();
        let (addresses, prefixes) = (self.addresses.clone(), self.prefixes.clone());
        let (loader, complete) = (self.loader.clone(), self.complete);
        async move {
            if !complete {
                return Ok(());
            }
            loader.send(SetRoutes(routes)).await.map_err(internal)??;
            let bytes: Rows =
                rows.addresses.iter().map(|(a, e)| (a.octets().into(), address(e))).collect();
            addresses.send(Desire(bytes)).await.map_err(internal)??;
            let bytes: Rows = rows.prefixes.iter().map(|(p, e)| (key(p), prefix(e))).collect();
            prefixes.send(Desire(bytes)).await.map_err(internal)?
        }
    }
}

/// A prefix as the kernel's tries have it: its length, then the address.
fn key(prefix: &Ipv4Net) -> Vec<u8> {
    let mut key = u32::from(prefix.prefix_len()).to_ne_bytes().to_vec();
    key.extend(prefix.network().octets());
    key
}

fn address(entry: &AddressEntry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of::<AddressEntry>());
    for word in [entry.identity, entry.flags, entry.ifindex] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(entry.spare);
    bytes.extend(entry.node.octets);
    bytes
}

fn prefix(entry: &PrefixEntry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of::<PrefixEntry>());
    for word in [entry.identity, entry.cidr, entry.flags] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(entry.spare);
    bytes.extend(entry.node.octets);
    bytes
}

impl Actor for Ipcache {
    type Context = Context<Self>;
}

impl Handler<Advance> for Ipcache {
    type Result = AtomicResponse<Self, Result<(), Refusal>>;

    fn handle(&mut self, advance: Advance, _: &mut Self::Context) -> Self::Result {
        if advance.snapshot {
            self.core.clear();
            self.complete = true;
        }
        advance.deltas.iter().for_each(|delta| self.take(delta));
        AtomicResponse::new(Box::pin(self.realise().into_actor(self)))
    }
}

/// The prefixes that policies name.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct SetPrefixes(pub BTreeMap<Ipv4Net, u32>);

impl Handler<SetPrefixes> for Ipcache {
    type Result = AtomicResponse<Self, Result<(), Refusal>>;

    fn handle(&mut self, set: SetPrefixes, _: &mut Self::Context) -> Self::Result {
        self.core.set_prefixes(set.0);
        AtomicResponse::new(Box::pin(self.realise().into_actor(self)))
    }
}

/// A pod of this node came, changed or went.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct SetLocal(pub Ipv4Addr, pub Option<LocalPod>);

impl Handler<SetLocal> for Ipcache {
    type Result = AtomicResponse<Self, Result<(), Refusal>>;

    fn handle(&mut self, SetLocal(address, pod): SetLocal, _: &mut Self::Context) -> Self::Result {
        match pod {
            Some(pod) => self.core.upsert_local(address, pod),
            None => self.core.delete_local(address),
        }
        AtomicResponse::new(Box::pin(self.realise().into_actor(self)))
    }
}
