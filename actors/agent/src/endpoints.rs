//! The `Endpoints` actor: the pods of this node, from CNI ADD to DEL.

use crate::{
    Refusal, internal,
    ipcache::{Ipcache, SetLocal},
    loader::{Loader, Open, Plug, Reattach, Unplug},
    mapsync::{BumpEpoch, ClassSync, Desire, Rows, TableSync},
    policy::{Hold, Policy, Release},
    published::Advance,
    state::{self, Record},
    try_again,
};
use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, AtomicResponse, Context, Handler, Message,
    MessageResult, ResponseActFuture, WrapFuture,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
};
use tokio::sync::mpsc;
use weft_abi::{GATEWAY_ADDR4, GATEWAY_MAC};
use weft_api::{Failure, FailureKind, agent::EndpointRow, cni};
use weft_core::ipcache::LocalPod;
use weft_datapath::kernel::{Link, LinkSpec};
use weft_types::{Delta, Identity, NamespacedName, Node, NodeName, PodEndpoint, Workload};
use weft_wire::ToOperator;

/// Whom the endpoints' actor asks.
#[derive(Clone)]
pub struct Callees {
    /// Policy classes.
    pub policy: Addr<Policy>,
    /// Addresses.
    pub ipcache: Addr<Ipcache>,
    /// Links.
    pub loader: Addr<Loader>,
    /// The map of endpoints.
    pub table: Addr<TableSync>,
    /// The epoch.
    pub classes: Addr<ClassSync>,
    /// The operator.
    pub uplink: mpsc::Sender<ToOperator>,
}

/// Owns this node's endpoints, their addresses and the file they are kept in.
pub struct Endpoints {
    node: NodeName,
    state_dir: PathBuf,
    mtu: u32,
    own: Option<Node>,
    workloads: BTreeMap<NamespacedName, Workload>,
    endpoints: BTreeMap<cni::Attachment, Record>,
    /// Addresses given to pods that are being plugged.
    pending: BTreeMap<cni::Attachment, Ipv4Addr>,
    callees: Callees,
}

impl Endpoints {
    /// With the endpoints of the life before.
    pub fn new(
        node: NodeName,
        state_dir: PathBuf,
        mtu: u32,
        records: Vec<Record>,
        callees: Callees,
    ) -> Self {
        Self {
            node,
            state_dir,
            mtu,
            own: None,
            workloads: BTreeMap::new(),
            endpoints: records.into_iter().map(|r| (r.attachment.clone(), r)).collect(),
            pending: BTreeMap::new(),
            callees,
        }
    }

    fn take(&mut self, delta: &Delta) {
        match delta {
            Delta::NodeUpsert(node) if node.name == self.node => self.own = Some(node.clone()),
            Delta::WorkloadUpsert(w) if w.node == self.node => {
                self.workloads.insert(w.name.clone(), w.clone());
            }
            Delta::WorkloadUpsert(w) => drop(self.workloads.remove(&w.name)),
            Delta::WorkloadDelete(name) => drop(self.workloads.remove(name)),
            Delta::NodeUpsert(_)
            | Delta::NodeDelete(_)
            | Delta::IdentityUpsert(..)
            | Delta::IdentityDelete(_)
            | Delta::EndpointUpsert(_)
            | Delta::EndpointDelete(_)
            | Delta::PolicyUpsert(_)
            | Delta::PolicyDelete(_) => {}
        }
    }

    /// An address of this node's prefixes that nobody has. The first two are the network's own.
    fn free_address(&self) -> Option<Ipv4Addr> {
        let taken: BTreeSet<Ipv4Addr> = self
            .endpoints
            .values()
            .map(|e| e.address)
            .chain(self.pending.values().copied())
            .collect();
        let cidrs = &self.own.as_ref()?.pod_cidrs;
        cidrs.iter().flat_map(|cidr| cidr.hosts().skip(1)).find(|address| !taken.contains(address))
    }

    fn free_id(&self) -> u32 {
        let taken: BTreeSet<u32> = self.endpoints.values().map(|e| e.id).collect();
        (1..).find(|id| !taken.contains(id)).unwrap_or(u32::MAX)
    }

    /// The rows of the endpoints' map.
    fn rows(&self) -> Rows {
        self.endpoints.values().map(|e| (e.ifindex.to_ne_bytes().into(), row(e))).collect()
    }

    fn keep(&self) -> Result<(), Refusal> {
        state::write(&self.state_dir, self.endpoints.values().cloned().collect()).map_err(internal)
    }

    /// What ADD needs before anything is made.
    fn admit(&mut self, add: &cni::Add) -> Result<(LinkSpec, Identity), Refusal> {
        let pod = NamespacedName::new(&add.pod_namespace, &add.pod_name);
        let workload = self.workloads.get(&pod).ok_or_else(|| {
            try_again(format!("pod {pod} is not known on node {} yet", self.node))
        })?;
        let identity = workload.identity;
        let address = match self.endpoints.get(&add.attachment) {
            Some(record) => record.address,
            None => self
                .free_address()
                .ok_or_else(|| try_again(format!("node {} has no free pod address", self.node)))?,
        };
        self.pending.insert(add.attachment.clone(), address);
        let spec = LinkSpec {
            netns: add.netns.clone().into(),
            interface: add.attachment.interface.clone(),
            host_interface: host_interface(&add.attachment),
            address,
            mtu: self.mtu,
        };
        Ok((spec, identity))
    }

    /// The pod has a link: remember it.
    fn adopt(&mut self, add: &cni::Add, spec: &LinkSpec, identity: Identity, link: &Link) -> Rows {
        self.pending.remove(&add.attachment);
        let id = self.endpoints.get(&add.attachment).map_or_else(|| self.free_id(), |e| e.id);
        let record = Record {
            attachment: add.attachment.clone(),
            pod: NamespacedName::new(&add.pod_namespace, &add.pod_name),
            id,
            address: spec.address,
            identity,
            host_interface: spec.host_interface.clone(),
            ifindex: link.ifindex,
            mac: link.mac,
        };
        self.endpoints.insert(add.attachment.clone(), record);
        self.rows()
    }

    fn as_published(&self) -> Vec<PodEndpoint> {
        self.endpoints
            .values()
            .map(|e| PodEndpoint {
                name: e.pod.clone(),
                address: e.address,
                identity: e.identity,
                node: self.node.clone(),
            })
            .collect()
    }

    /// Endpoints whose workload has another identity now.
    fn relabelled(&mut self) -> Vec<(Record, Identity)> {
        let workloads = &self.workloads;
        self.endpoints
            .values_mut()
            .filter_map(|record| {
                let now = workloads.get(&record.pod)?.identity;
                (now != record.identity).then(|| {
                    let before = std::mem::replace(&mut record.identity, now);
                    (record.clone(), before)
                })
            })
            .collect()
    }
}

/// The name of the host side: of a length that Linux takes, the same for the same attachment.
fn host_interface(attachment: &cni::Attachment) -> String {
    // FNV-1a, 64 bits; a name must be stable over versions of the standard library's hasher.
    let text = [attachment.container_id.as_bytes(), b"/", attachment.interface.as_bytes()].concat();
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("wl{:012x}", hash & 0xffff_ffff_ffff)
}

/// An endpoint's row in the kernel.
fn row(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    // A class's number is its identity's.
    for word in [record.ifindex, record.id, record.identity.0, record.identity.0] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(record.address.octets());
    bytes.extend([0; 20]);
    bytes.extend(record.mac);
    bytes.extend([0; 18]);
    bytes
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

impl Actor for Endpoints {
    type Context = Context<Self>;

    /// Recovery: the links are there; put this life's programs on them and tell the other actors.
    fn started(&mut self, ctx: &mut Self::Context) {
        let callees = self.callees.clone();
        let records: Vec<Record> = self.endpoints.values().cloned().collect();
        let recover = async move {
            let links = records.iter().map(|r| r.ifindex).collect();
            callees.loader.send(Reattach(links)).await.map_err(internal)??;
            for record in records {
                callees.policy.send(Hold(record.identity)).await.map_err(internal)??;
                let local = LocalPod { identity: record.identity, ifindex: record.ifindex };
                let set = SetLocal(record.address, Some(local));
                callees.ipcache.send(set).await.map_err(internal)??;
            }
            Ok::<(), Refusal>(())
        };
        ctx.wait(recover.into_actor(self).map(|result, _, _| {
            if let Err(error) = result {
                tracing::error!(%error, "endpoints of the life before");
            }
        }));
    }
}

impl Handler<Advance> for Endpoints {
    type Result = AtomicResponse<Self, Result<(), Refusal>>;

    fn handle(&mut self, advance: Advance, _: &mut Self::Context) -> Self::Result {
        if advance.snapshot {
            self.workloads.clear();
        }
        advance.deltas.iter().for_each(|delta| self.take(delta));
        let relabelled = self.relabelled();
        let kept = if relabelled.is_empty() { Ok(()) } else { self.keep() };
        let (callees, rows) = (self.callees.clone(), self.rows());
        let realise = async move {
            kept?;
            for (record, _) in &relabelled {
                callees.policy.send(Hold(record.identity)).await.map_err(internal)??;
            }
            callees.table.send(Desire(rows)).await.map_err(internal)??;
            for (record, before) in relabelled {
                let local = LocalPod { identity: record.identity, ifindex: record.ifindex };
                let set = SetLocal(record.address, Some(local));
                callees.ipcache.send(set).await.map_err(internal)??;
                callees.policy.send(Release(before)).await.map_err(internal)??;
            }
            Ok(())
        };
        AtomicResponse::new(Box::pin(realise.into_actor(self)))
    }
}

/// CNI ADD.
#[derive(Clone, Message)]
#[rtype(result = "Result<cni::Added, Refusal>")]
pub struct Add(pub cni::Add);

impl Handler<Add> for Endpoints {
    type Result = ResponseActFuture<Self, Result<cni::Added, Refusal>>;

    fn handle(&mut self, Add(add): Add, _: &mut Self::Context) -> Self::Result {
        let admitted = self.admit(&add);
        let known = self.endpoints.contains_key(&add.attachment);
        let callees = self.callees.clone();
        let attachment = add.attachment.clone();
        let make = async move {
            let (spec, identity) = admitted?;
            let link = callees.loader.send(Plug(spec.clone())).await.map_err(internal)??;
            if !known {
                callees.policy.send(Hold(identity)).await.map_err(internal)??;
            }
            Ok((spec, identity, link))
        };
        Box::pin(make.into_actor(self).then(move |made, actor, _| {
            let callees = actor.callees.clone();
            let node = actor.node.clone();
            let mtu = actor.mtu;
            let adopted = made.and_then(|(spec, identity, link)| {
                let rows = actor.adopt(&add, &spec, identity, &link);
                actor.keep()?;
                Ok((spec, identity, link, rows))
            });
            actor.pending.remove(&attachment);
            let finish = async move {
                let (spec, identity, link, rows) = adopted?;
                callees.table.send(Desire(rows)).await.map_err(internal)??;
                let local = LocalPod { identity, ifindex: link.ifindex };
                let set = SetLocal(spec.address, Some(local));
                callees.ipcache.send(set).await.map_err(internal)??;
                callees.loader.send(Open(link.ifindex)).await.map_err(internal)??;
                callees.classes.send(BumpEpoch).await.map_err(internal)??;
                let endpoint = PodEndpoint {
                    name: NamespacedName::new(add.pod_namespace, add.pod_name),
                    address: spec.address,
                    identity,
                    node,
                };
                // Without an operator it is told with the next session.
                let _ =
                    callees.uplink.try_send(ToOperator::EndpointPlugged { endpoint, trace: None });
                Ok(cni::Added {
                    address: spec.address,
                    gateway: GATEWAY_ADDR4.into(),
                    host_interface: spec.host_interface,
                    host_mac: mac(GATEWAY_MAC),
                    mac: mac(link.mac),
                    mtu,
                })
            };
            finish.into_actor(actor)
        }))
    }
}

/// CNI DEL; deleting the absent succeeds.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Delete(pub cni::Attachment);

impl Handler<Delete> for Endpoints {
    type Result = ResponseActFuture<Self, Result<(), Refusal>>;

    fn handle(&mut self, Delete(attachment): Delete, _: &mut Self::Context) -> Self::Result {
        let record = self.endpoints.remove(&attachment);
        let kept = if record.is_some() { self.keep() } else { Ok(()) };
        let (callees, rows) = (self.callees.clone(), self.rows());
        let undo = async move {
            kept?;
            let Some(record) = record else {
                let host_interface = host_interface(&attachment);
                let unplug = Unplug { host_interface, ifindex: 0 };
                return callees.loader.send(unplug).await.map_err(internal)?;
            };
            let unplug = Unplug { host_interface: record.host_interface, ifindex: record.ifindex };
            callees.loader.send(unplug).await.map_err(internal)??;
            callees.ipcache.send(SetLocal(record.address, None)).await.map_err(internal)??;
            callees.table.send(Desire(rows)).await.map_err(internal)??;
            callees.policy.send(Release(record.identity)).await.map_err(internal)??;
            callees.classes.send(BumpEpoch).await.map_err(internal)??;
            let gone = ToOperator::EndpointUnplugged { address: record.address };
            let _ = callees.uplink.try_send(gone);
            Ok(())
        };
        Box::pin(undo.into_actor(self))
    }
}

/// CNI CHECK.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Check(pub cni::Check);

impl Handler<Check> for Endpoints {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, Check(check): Check, _: &mut Self::Context) -> Self::Result {
        let record = self.endpoints.get(&check.attachment).ok_or_else(|| Failure {
            kind: FailureKind::NotFound,
            message: format!("container {} is not plugged here", check.attachment.container_id),
        })?;
        match check.address {
            Some(address) if address != record.address => Err(Failure {
                kind: FailureKind::Refused,
                message: format!("the pod's address is {}, not {address}", record.address),
            }),
            _ => Ok(()),
        }
    }
}

/// The endpoints as the operator wants them.
#[derive(Message)]
#[rtype(result = "Vec<PodEndpoint>")]
pub struct Records;

impl Handler<Records> for Endpoints {
    type Result = MessageResult<Records>;

    fn handle(&mut self, _: Records, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.as_published())
    }
}

/// The endpoints as people want them.
#[derive(Message)]
#[rtype(result = "Vec<EndpointRow>")]
pub struct Rowed {
    /// Revision the kernel holds.
    pub realised: String,
}

impl Handler<Rowed> for Endpoints {
    type Result = MessageResult<Rowed>;

    fn handle(&mut self, rowed: Rowed, _: &mut Self::Context) -> Self::Result {
        let row = |e: &Record| EndpointRow {
            node: self.node.0.clone(),
            id: e.id,
            pod: e.pod.to_string(),
            address: e.address,
            identity: e.identity.0,
            labels: Vec::new(),
            interface: e.host_interface.clone(),
            state: "ready".to_owned(),
            policy: String::new(),
            realised: rowed.realised.clone(),
        };
        MessageResult(self.endpoints.values().map(row).collect())
    }
}
