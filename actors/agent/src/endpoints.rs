//! The `Endpoints` actor: the pods of this node, from CNI ADD to DEL. What happens next is [`weft_core::endpoint`]'s; here it is done.

use crate::{
    Refusal, internal,
    ipcache::{Ipcache, SetLocal, write},
    loader::{Inspect, Loader, Open, Plug, Plugged, Reattach, Unplug},
    mapsync::{BumpEpoch, ClassSync, TableSync},
    policy::{DescribeClasses, Policy, SetHeld},
    published::Advance,
    runtime::{Edge, Life, Refeed, Role, Seat, Serve, Thread, request},
    state::{self, Record},
    try_again,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::sync::{oneshot, watch};
use tracing::Span;
use weft_abi::{GATEWAY_ADDR4, GATEWAY_MAC, address::Addr4};
use weft_api::{
    Failure, FailureKind,
    agent::EndpointRow,
    cni::{self, Attachment},
};
use weft_core::{
    endpoint::{Caller, Effect, Endpoint, Endpoints as Core, Event, Phase, Wire},
    ipcache::LocalPod,
    mapsync::{Rows, difference},
};
use weft_datapath::kernel::LinkSpec;
use weft_process::trace;
use weft_types::{Delta, Identity, NodeName, PodEndpoint, TraceContext};

/// How long tables that could not be written are left alone.
const SETTLE_AGAIN: Duration = Duration::from_millis(200);
/// How often links that could not be removed are tried again.
const RETRY: Duration = Duration::from_secs(10);

/// A plugged pod and the call that plugged it, where that is known.
#[derive(Clone, Debug)]
pub struct PluggedPod {
    /// As operators are told.
    pub endpoint: PodEndpoint,
    /// Its number on this node.
    pub id: u32,
    /// CNI ADD's trace; it makes no difference to what the pod is.
    pub cause: Option<TraceContext>,
}

impl PartialEq for PluggedPod {
    fn eq(&self, other: &Self) -> bool {
        (&self.endpoint, self.id) == (&other.endpoint, other.id)
    }
}

/// The pods that are plugged here, as operators are told and flows name them.
pub type PluggedPods = Arc<BTreeMap<Ipv4Addr, PluggedPod>>;

/// What does not change over the lives of this actor.
#[derive(Clone)]
pub struct Setting {
    /// This node.
    pub node: NodeName,
    /// Folder of the endpoints' files.
    pub folder: PathBuf,
    /// MTU of pods.
    pub mtu: u32,
    /// Where it is said who is plugged; nothing before the endpoints of the agent's life before are in the
    /// tables, since an empty answer would take them from every other node.
    pub plugged: Arc<watch::Sender<Option<PluggedPods>>>,
}

/// Whom the endpoints' actor asks.
#[derive(Clone)]
pub struct Callees {
    /// Policy classes.
    pub policy: Seat<Policy>,
    /// Addresses.
    pub ipcache: Seat<Ipcache>,
    /// Links.
    pub loader: Seat<Loader>,
    /// The map of endpoints.
    pub table: Seat<TableSync>,
    /// The epoch.
    pub classes: Seat<ClassSync>,
}

struct Edges {
    policy: Edge<Policy>,
    ipcache: Edge<Ipcache>,
    loader: Rc<Edge<Loader>>,
    table: Edge<TableSync>,
    classes: Edge<ClassSync>,
}

/// What the other tables were told of this node's endpoints.
#[derive(Default)]
struct Told {
    held: BTreeMap<Identity, usize>,
    rows: Rows,
    local: BTreeMap<Ipv4Addr, LocalPod>,
}

enum Waiter {
    Add(oneshot::Sender<Result<cni::Added, Refusal>>),
    Delete(oneshot::Sender<Result<(), Refusal>>),
}

/// Owns this node's endpoints, their addresses and their files.
pub struct Endpoints {
    setting: Setting,
    core: Core<Attachment>,
    edges: Edges,
    told: Told,
    waiters: BTreeMap<Caller, (Attachment, Waiter)>,
    /// The calls under way: what is done for an endpoint is done in the span of its call, however many share
    /// a settlement.
    calls: BTreeMap<Attachment, Span>,
    next_caller: Caller,
    settling: bool,
}

impl Endpoints {
    /// With nothing yet; a life begins by reading the files.
    pub fn new(setting: Setting, callees: &Callees) -> Self {
        Self {
            setting,
            core: Core::default(),
            edges: Edges {
                policy: callees.policy.edge(),
                ipcache: callees.ipcache.edge(),
                loader: Rc::new(callees.loader.edge()),
                table: callees.table.edge(),
                classes: callees.classes.edge(),
            },
            told: Told::default(),
            waiters: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_caller: 0,
            settling: false,
        }
    }

    fn take(&mut self, delta: &Delta) {
        match delta {
            Delta::NodeUpsert(node) if node.name == self.setting.node => {
                self.core.set_pod_cidrs(node.pod_cidrs.clone());
            }
            Delta::WorkloadUpsert(w) => {
                let here = (w.node == self.setting.node).then_some(w.identity);
                self.core.set_workload(&w.name, here);
            }
            Delta::WorkloadDelete(name) => self.core.set_workload(name, None),
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

    fn wait(&mut self, key: &Attachment, waiter: Waiter) -> Caller {
        self.calls.insert(key.clone(), Span::current());
        self.next_caller += 1;
        self.waiters.insert(self.next_caller, (key.clone(), waiter));
        self.next_caller
    }

    /// Whom to answer; the call is over with it.
    fn waiter(&mut self, caller: Caller) -> Option<Waiter> {
        let (key, waiter) = self.waiters.remove(&caller)?;
        self.calls.remove(&key);
        Some(waiter)
    }

    fn happened(&mut self, event: Event<Attachment>, life: &Life<Self>) {
        for effect in self.core.step(event) {
            self.execute(effect, life);
        }
    }

    fn execute(&mut self, effect: Effect<Attachment>, life: &Life<Self>) {
        match effect {
            Effect::Settle => self.settle_soon(Duration::ZERO, life),
            Effect::Plug { key, endpoint } => {
                let (loader, setting) = (Rc::clone(&self.edges.loader), self.setting.clone());
                self.then(life, key.clone(), async move {
                    let wire = plug(&loader, &setting, &key, &endpoint).await;
                    Event::Linked { key, wire: wire.map_err(|e| e.to_string()) }
                });
            }
            Effect::Open { key, endpoint } => {
                let (loader, setting) = (Rc::clone(&self.edges.loader), self.setting.clone());
                self.then(life, key.clone(), async move {
                    let result = open(&loader, &setting, &key, &endpoint).await;
                    Event::Opened { key, result: result.map_err(|e| e.to_string()) }
                });
            }
            Effect::Unplug { key } => {
                let (loader, setting) = (Rc::clone(&self.edges.loader), self.setting.clone());
                let ifindex = self.core.get(&key).and_then(|e| e.wire).map(|wire| wire.ifindex);
                self.then(life, key.clone(), async move {
                    let result = unplug(&loader, &setting, &key, ifindex).await;
                    Event::Unplugged { key, result: result.map_err(|e| e.to_string()) }
                });
            }
            Effect::Added { caller, endpoint } => self.added(caller, &endpoint),
            Effect::Deleted { caller } => {
                if let Some(Waiter::Delete(answer)) = self.waiter(caller) {
                    // Whoever asked may have gone; so everywhere below.
                    drop(answer.send(Ok(())));
                }
            }
            Effect::Failed { caller, why } => match self.waiter(caller) {
                Some(Waiter::Add(answer)) => drop(answer.send(Err(try_again(why)))),
                Some(Waiter::Delete(answer)) => drop(answer.send(Err(try_again(why)))),
                None => {}
            },
        }
    }

    /// Runs slow work beside the mailbox; its end comes back as an event.
    fn then(
        &self,
        life: &Life<Self>,
        key: Attachment,
        work: impl Future<Output = Event<Attachment>> + 'static,
    ) {
        let me = life.edge();
        let call = self.calls.get(&key).cloned().unwrap_or_else(Span::current);
        let ended = async move {
            let event = work.await;
            drop(me.ask(Happened(event)).await);
        };
        call.in_scope(|| life.spawn(ended));
    }

    /// One settlement for all that happened meanwhile.
    fn settle_soon(&mut self, wait: Duration, life: &Life<Self>) {
        if std::mem::replace(&mut self.settling, true) {
            return;
        }
        let me = life.edge();
        life.spawn(async move {
            tokio::time::sleep(wait).await;
            drop(me.ask(Settle).await);
        });
    }

    fn added(&mut self, caller: Caller, endpoint: &Endpoint) {
        let Some(Waiter::Add(answer)) = self.waiter(caller) else { return };
        let key = self.core.iter().find(|(_, e)| e.address == endpoint.address).map(|(key, _)| key);
        let added = match (endpoint.wire, key) {
            (Some(wire), Some(key)) => Ok(cni::Added {
                address: endpoint.address,
                gateway: GATEWAY_ADDR4.into(),
                host_interface: host_interface(key),
                host_mac: mac(GATEWAY_MAC),
                mac: mac(wire.mac),
                mtu: self.setting.mtu,
            }),
            _ => Err(internal("the endpoint has no link")),
        };
        drop(answer.send(added));
    }

    /// Makes the tables hold who is in them: rows come after the class they need, and go before it does.
    async fn settle(&mut self) -> Result<u64, Refusal> {
        let (version, inside) = self.core.in_tables();
        let causes = self.causes();
        let mut now = Told::default();
        let mut pods = BTreeMap::new();
        for (endpoint, wire) in inside {
            *now.held.entry(endpoint.identity).or_default() += 1;
            now.rows.insert(wire.ifindex.to_ne_bytes().into(), row(endpoint, wire));
            let local = LocalPod { identity: endpoint.identity, ifindex: wire.ifindex };
            now.local.insert(endpoint.address, local);
            let pod = PodEndpoint {
                name: endpoint.pod.clone(),
                address: endpoint.address,
                identity: endpoint.identity,
                node: self.setting.node.clone(),
            };
            let cause = causes.get(&endpoint.address).copied();
            pods.insert(endpoint.address, PluggedPod { endpoint: pod, id: endpoint.id, cause });
        }
        let mut both = now.held.clone();
        for (identity, count) in &self.told.held {
            let most = both.entry(*identity).or_default();
            *most = (*most).max(*count);
        }
        let changed = now.rows != self.told.rows || now.local != self.told.local;
        self.hold(both).await?;
        let rows = difference(&self.told.rows, &now.rows);
        write(&self.edges.table, rows, || now.rows.clone()).await?;
        self.told.rows = now.rows;
        if self.edges.ipcache.is_hungry() || now.local != self.told.local {
            let life = self.edges.ipcache.incarnation();
            self.edges.ipcache.starve();
            self.edges.ipcache.ask(SetLocal(now.local.clone())).await??;
            self.edges.ipcache.fed(life);
            self.told.local = now.local;
        }
        self.hold(now.held).await?;
        if changed {
            self.edges.classes.ask(BumpEpoch).await??;
        }
        self.setting.plugged.send_if_modified(|told| {
            let differs = told.as_deref() != Some(&pods);
            if differs {
                *told = Some(Arc::new(pods));
            }
            differs
        });
        Ok(version)
    }

    /// The calls that endpoints are being plugged by.
    fn causes(&self) -> BTreeMap<Ipv4Addr, TraceContext> {
        let cause = |(key, call): (&Attachment, &Span)| {
            Some((self.core.get(key)?.address, trace::of(call)?))
        };
        self.calls.iter().filter_map(cause).collect()
    }

    async fn hold(&mut self, held: BTreeMap<Identity, usize>) -> Result<(), Refusal> {
        if !self.edges.policy.is_hungry() && held == self.told.held {
            return Ok(());
        }
        let life = self.edges.policy.incarnation();
        self.edges.policy.starve();
        self.edges.policy.ask(SetHeld(held.clone())).await??;
        self.edges.policy.fed(life);
        self.told.held = held;
        Ok(())
    }

    /// Reads the files, puts this process's programs on the links, and undoes what was unfinished.
    async fn recover(&mut self, life: &Life<Self>) -> Result<(), Refusal> {
        let records = state::read(&self.setting.folder).map_err(internal)?;
        let links: BTreeSet<(String, u32)> =
            self.edges.loader.ask(Plugged).await??.into_iter().collect();
        let mut known = BTreeSet::new();
        let mut attach = Vec::new();
        for record in records {
            let name = host_interface(&record.attachment);
            let wire = record.link.map(|(ifindex, mac)| Wire { ifindex, mac });
            let whole = wire.filter(|wire| links.contains(&(name.clone(), wire.ifindex)));
            known.insert(name);
            attach.extend(whole.map(|wire| wire.ifindex));
            let phase = if whole.is_some() { Phase::Ready } else { Phase::Plugging };
            self.core.recover(record.attachment.clone(), endpoint_of(record, wire, phase));
        }
        self.edges.loader.ask(Reattach(attach)).await??;
        for (host_interface, ifindex) in links {
            if !known.contains(&host_interface) {
                tracing::warn!(host_interface, "a link that no endpoint has is removed");
                let unplug = Unplug { host_interface, ifindex: Some(ifindex) };
                self.edges.loader.ask(unplug).await??;
            }
        }
        for effect in self.core.undo_unfinished() {
            self.execute(effect, life);
        }
        Ok(())
    }
}

fn endpoint_of(record: Record, wire: Option<Wire>, phase: Phase) -> Endpoint {
    Endpoint {
        pod: record.pod,
        netns: record.netns,
        id: record.id,
        address: record.address,
        identity: record.identity,
        wire,
        phase,
    }
}

fn spec(setting: &Setting, key: &Attachment, endpoint: &Endpoint) -> LinkSpec {
    LinkSpec {
        netns: endpoint.netns.clone().into(),
        interface: key.interface.clone(),
        host_interface: host_interface(key),
        address: endpoint.address,
        mtu: setting.mtu,
    }
}

/// The file before the link: what a crash leaves is found by its file.
async fn keep(setting: &Setting, key: &Attachment, endpoint: &Endpoint) -> Result<(), Refusal> {
    let record = Record {
        version: Record::VERSION,
        attachment: key.clone(),
        pod: endpoint.pod.clone(),
        netns: endpoint.netns.clone(),
        id: endpoint.id,
        address: endpoint.address,
        identity: endpoint.identity,
        link: endpoint.wire.map(|wire| (wire.ifindex, wire.mac)),
    };
    let (folder, name) = (setting.folder.clone(), host_interface(key));
    let written = tokio::task::spawn_blocking(move || state::write(&folder, &name, &record));
    written.await.map_err(internal)?.map_err(internal)
}

async fn plug(
    loader: &Edge<Loader>,
    setting: &Setting,
    key: &Attachment,
    endpoint: &Endpoint,
) -> Result<Wire, Refusal> {
    keep(setting, key, endpoint).await?;
    let link = loader.ask(Plug(spec(setting, key, endpoint))).await??;
    Ok(Wire { ifindex: link.ifindex, mac: link.mac })
}

async fn open(
    loader: &Edge<Loader>,
    setting: &Setting,
    key: &Attachment,
    endpoint: &Endpoint,
) -> Result<(), Refusal> {
    keep(setting, key, endpoint).await?;
    let wire = endpoint.wire.ok_or_else(|| internal("the endpoint has no link"))?;
    loader.ask(Open(wire.ifindex)).await?
}

async fn unplug(
    loader: &Edge<Loader>,
    setting: &Setting,
    key: &Attachment,
    ifindex: Option<u32>,
) -> Result<(), Refusal> {
    let name = host_interface(key);
    loader.ask(Unplug { host_interface: name.clone(), ifindex }).await??;
    let folder = setting.folder.clone();
    let removed = tokio::task::spawn_blocking(move || state::remove(&folder, &name));
    removed.await.map_err(internal)?.map_err(internal)
}

/// The name of the host side: of a length that Linux takes, the same for the same attachment.
pub fn host_interface(attachment: &Attachment) -> String {
    // FNV-1a, 64 bits; a name must be stable over versions of the standard library's hasher.
    let text = [attachment.container_id.as_bytes(), b"/", attachment.interface.as_bytes()].concat();
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("wl{:012x}", hash & 0xffff_ffff_ffff)
}

/// An endpoint's row in the kernel.
fn row(endpoint: &Endpoint, wire: Wire) -> Vec<u8> {
    let row = weft_abi::endpoint::Endpoint {
        ifindex: wire.ifindex,
        id: endpoint.id,
        identity: endpoint.identity.0,
        // A class's number is its identity's.
        class: endpoint.identity.0,
        addr4: Addr4::new(endpoint.address.octets()),
        mac: wire.mac,
        ..weft_abi::endpoint::Endpoint::zeroed()
    };
    row.to_bytes().into()
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

impl Role for Endpoints {
    const THREAD: Thread = Thread::Control;

    async fn born(&mut self, life: &Life<Self>) -> Result<(), Refusal> {
        life.refeed_after(&self.edges.policy);
        life.refeed_after(&self.edges.ipcache);
        life.refeed_after(&self.edges.table);
        self.recover(life).await?;
        self.settle_soon(Duration::ZERO, life);
        life.every(RETRY, || Happened(Event::Retry));
        Ok(())
    }
}

/// Something happened to an endpoint.
pub struct Happened(Event<Attachment>);
request!(Happened => ());

impl Serve<Happened> for Endpoints {
    async fn serve(&mut self, Happened(event): Happened, life: &Life<Self>) {
        self.happened(event, life);
    }
}

/// Write the tables.
pub struct Settle;
request!(Settle => ());

impl Serve<Settle> for Endpoints {
    async fn serve(&mut self, _: Settle, life: &Life<Self>) {
        self.settling = false;
        match self.settle().await {
            Ok(version) => self.happened(Event::Settled { version }, life),
            Err(error) => {
                tracing::warn!(%error, "endpoints' tables");
                self.settle_soon(SETTLE_AGAIN, life);
            }
        }
    }
}

impl Serve<Refeed> for Endpoints {
    async fn serve(&mut self, _: Refeed, life: &Life<Self>) {
        self.settle_soon(Duration::ZERO, life);
    }
}

impl Serve<Advance> for Endpoints {
    async fn serve(&mut self, advance: Advance, life: &Life<Self>) -> Result<(), Refusal> {
        if advance.whole {
            self.core.forget_workloads();
        }
        advance.deltas.iter().for_each(|delta| self.take(delta));
        let version = self.settle().await?;
        self.happened(Event::Settled { version }, life);
        Ok(())
    }
}

/// CNI ADD, and where the answer goes.
pub struct Add(pub cni::Add, pub oneshot::Sender<Result<cni::Added, Refusal>>);
request!(Add => ());

impl Serve<Add> for Endpoints {
    async fn serve(&mut self, Add(add, answer): Add, life: &Life<Self>) {
        let caller = self.wait(&add.attachment, Waiter::Add(answer));
        let pod = weft_types::NamespacedName::new(add.pod_namespace, add.pod_name);
        let event = Event::Add { key: add.attachment, pod, netns: add.netns, caller };
        self.happened(event, life);
    }
}

/// CNI DEL, and where the answer goes; deleting the absent succeeds.
pub struct Delete(pub Attachment, pub oneshot::Sender<Result<(), Refusal>>);
request!(Delete => ());

impl Serve<Delete> for Endpoints {
    async fn serve(&mut self, Delete(key, answer): Delete, life: &Life<Self>) {
        let caller = self.wait(&key, Waiter::Delete(answer));
        self.happened(Event::Delete { key, caller }, life);
    }
}

/// CNI CHECK.
pub struct Check(pub cni::Check);
request!(Check => Result<(), Refusal>);

impl Serve<Check> for Endpoints {
    async fn serve(&mut self, Check(check): Check, _: &Life<Self>) -> Result<(), Refusal> {
        let key = &check.attachment;
        let endpoint = self.core.get(key).ok_or_else(|| Failure {
            kind: FailureKind::NotFound,
            message: format!("container {} is not plugged here", key.container_id),
        })?;
        let no = |message: String| Err(Failure { kind: FailureKind::Refused, message });
        match check.address {
            Some(address) if address != endpoint.address => {
                return no(format!("the pod's address is {}, not {address}", endpoint.address));
            }
            _ if endpoint.phase != Phase::Ready => {
                return no(format!("the endpoint is {}", endpoint.phase.as_str()));
            }
            _ => {}
        }
        let differences =
            self.edges.loader.ask(Inspect(spec(&self.setting, key, endpoint))).await??;
        if differences.is_empty() { Ok(()) } else { no(differences.join("; ")) }
    }
}

/// How many endpoints are in each state.
pub struct CountEndpoints;
request!(CountEndpoints => BTreeMap<&'static str, usize>);

impl Serve<CountEndpoints> for Endpoints {
    async fn serve(&mut self, _: CountEndpoints, _: &Life<Self>) -> BTreeMap<&'static str, usize> {
        self.core.iter().fold(BTreeMap::new(), |mut counts, (_, endpoint)| {
            *counts.entry(endpoint.phase.as_str()).or_default() += 1;
            counts
        })
    }
}

/// The endpoints as people want them.
pub struct ListEndpoints {
    /// Revision the kernel holds.
    pub realised: String,
}
request!(ListEndpoints => Vec<EndpointRow>);

impl Serve<ListEndpoints> for Endpoints {
    async fn serve(&mut self, list: ListEndpoints, _: &Life<Self>) -> Vec<EndpointRow> {
        let identities: BTreeSet<Identity> = self.core.iter().map(|(_, e)| e.identity).collect();
        let describe = DescribeClasses(identities.into_iter().collect());
        let classes = self.edges.policy.ask(describe).await.unwrap_or_default();
        let row = |(key, endpoint): (&Attachment, &Endpoint)| {
            let class = classes.get(&endpoint.identity).cloned().unwrap_or_default();
            EndpointRow {
                node: self.setting.node.0.clone(),
                id: endpoint.id,
                pod: endpoint.pod.to_string(),
                address: endpoint.address,
                identity: endpoint.identity.0,
                labels: class.labels,
                interface: host_interface(key),
                state: endpoint.phase.as_str().to_owned(),
                policy: class.isolated.to_owned(),
                realised: list.realised.clone(),
            }
        };
        self.core.iter().map(row).collect()
    }
}
