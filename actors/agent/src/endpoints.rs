//! The `Endpoints` actor: the pods of this node, from CNI ADD to DEL. What happens next is [`weft_core::endpoint`]'s; here it is done.

mod key;
mod plugged;
mod recovery;
mod spread;
mod steps;
mod tables;

use crate::{
    Refusal, internal,
    ipcache::Ipcache,
    loader::{Inspect, Loader},
    mapsync::{ClassSync, TableSync},
    metrics::Counts,
    policy::{DescribeClasses, Policy},
    published::Advance,
    runtime::{Edge, Life, Refeed, Role, Seat, Serve, Thread, request},
    try_again,
    uplink::Progress,
};
pub use key::{Key, host_interface};
pub use plugged::{PluggedHere, PluggedPod, PluggedPods};
pub use spread::Spread;
use spread::Spreads;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use steps::{find, open, plug, spec, unplug};
use tokio::sync::{oneshot, watch};
use tracing::Span;
use weft_abi::{GATEWAY_ADDR4, GATEWAY_MAC};
use weft_api::{Failure, FailureKind, agent::EndpointRow, cni};
use weft_core::{
    endpoint::{Caller, Effect, Endpoint, Endpoints as Core, Event, Failure as Why, Phase},
    ipcache::LocalPod,
    mapsync::Rows,
};
use weft_types::{Delta, Identity, NodeName};

/// How long tables that could not be written are left alone.
const SETTLE_AGAIN: Duration = Duration::from_millis(200);
/// How often links that could not be removed are tried again.
const RETRY: Duration = Duration::from_secs(10);

/// What does not change over the lives of this actor.
#[derive(Clone)]
pub struct Setting {
    /// This node.
    pub node: NodeName,
    /// Folder of the endpoints' files.
    pub folder: PathBuf,
    /// MTU of pods that are plugged from now on.
    pub mtu: watch::Receiver<u32>,
    /// Whether an operator is there.
    pub progress: watch::Receiver<Progress>,
    /// Where it is said who is plugged; nothing before the endpoints of the agent's life before are in the
    /// tables, since an empty answer would take them from every other node.
    pub plugged: Arc<watch::Sender<Option<PluggedPods>>>,
    /// What is counted.
    pub counts: Counts,
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
    core: Core<Key>,
    edges: Edges,
    told: Told,
    waiters: BTreeMap<Caller, (Key, Waiter)>,
    /// The calls under way: what is done for an endpoint is done in the span of its call, however many share
    /// a settlement.
    calls: BTreeMap<Key, Span>,
    next_caller: Caller,
    settling: bool,
    /// Whether the tables were written, so that it may be said who is plugged.
    published: bool,
    /// Who waits until other nodes know its address.
    spreads: Spreads,
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
            published: false,
            spreads: Spreads::default(),
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
            Delta::EndpointUpsert(pod) => self.name(pod),
            Delta::NodeUpsert(_)
            | Delta::NodeDelete(_)
            | Delta::IdentityUpsert(..)
            | Delta::IdentityDelete(_)
            | Delta::EndpointDelete(_)
            | Delta::PolicyUpsert(_)
            | Delta::PolicyDelete(_) => {}
        }
    }

    fn wait(&mut self, key: &Key, waiter: Waiter) -> Caller {
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

    fn happened(&mut self, event: Event<Key>, life: &Life<Self>) {
        for effect in self.core.step(event) {
            self.execute(effect, life);
        }
    }

    fn execute(&mut self, effect: Effect<Key>, life: &Life<Self>) {
        match effect {
            Effect::Settle => self.settle_soon(Duration::ZERO, life),
            Effect::Announce => self.publish(),
            Effect::Plug { key, endpoint } => {
                if self.setting.progress.borrow().operator.is_some() {
                    self.spreads.begin(endpoint.address);
                }
                let (loader, setting) = (Rc::clone(&self.edges.loader), self.setting.clone());
                self.then(life, key.clone(), async move {
                    let wire = plug(&loader, &setting, &key, &endpoint).await;
                    Event::Linked { key, wire: wire.map_err(why) }
                });
            }
            Effect::Open { key, endpoint } => {
                let (loader, setting) = (Rc::clone(&self.edges.loader), self.setting.clone());
                let spread = self.spreads.of(endpoint.address);
                self.then(life, key.clone(), async move {
                    let opened = open(&loader, &setting, &key, &endpoint);
                    let (result, ()) =
                        tokio::join!(opened, spread.wait(&endpoint, &setting.counts));
                    Event::Opened { key, result: result.map_err(why) }
                });
            }
            Effect::Find { key, endpoint } => {
                let (loader, setting) = (Rc::clone(&self.edges.loader), self.setting.clone());
                self.then(life, key.clone(), async move {
                    let result = find(&loader, &setting, &key, &endpoint).await;
                    Event::Found { key, result: result.map_err(why) }
                });
            }
            Effect::Unplug { key } => {
                let (loader, setting) = (Rc::clone(&self.edges.loader), self.setting.clone());
                let ifindex = self.core.get(&key).and_then(|e| e.wire).map(|wire| wire.ifindex);
                self.then(life, key.clone(), async move {
                    let result = unplug(&loader, &setting, &key.link, ifindex).await;
                    Event::Unplugged { key, result: result.map_err(why) }
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
                Some(Waiter::Add(answer)) => drop(answer.send(Err(refusal(why)))),
                Some(Waiter::Delete(answer)) => drop(answer.send(Err(refusal(why)))),
                None => {}
            },
        }
    }

    /// Runs slow work beside the mailbox; its end comes back as an event.
    fn then(&self, life: &Life<Self>, key: Key, work: impl Future<Output = Event<Key>> + 'static) {
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
            // A sleep of no time takes a tick of the timer, a millisecond: behind what waits in the mailbox is soon enough.
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
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
                host_interface: key.link.clone(),
                host_mac: mac(GATEWAY_MAC),
                mac: mac(wire.mac),
                // Of an older agent's link the best guess is that the device is as it was.
                mtu: wire.mtu.unwrap_or_else(|| *self.setting.mtu.borrow()),
            }),
            _ => Err(internal("the endpoint has no link")),
        };
        drop(answer.send(added));
    }
}

fn why(refusal: Refusal) -> Why {
    match refusal.kind {
        FailureKind::TryAgain => Why::Passing(refusal.message),
        FailureKind::Invalid
        | FailureKind::NotFound
        | FailureKind::Refused
        | FailureKind::Internal => Why::Lasting(refusal.message),
    }
}

fn refusal(why: Why) -> Refusal {
    match why {
        Why::Passing(why) => try_again(why),
        Why::Lasting(why) => internal(why),
    }
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
pub struct Happened(Event<Key>);
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
        let key = Key { network: add.network, ..Key::from(add.attachment) };
        let caller = self.wait(&key, Waiter::Add(answer));
        let pod = weft_types::NamespacedName::new(add.pod_namespace, add.pod_name);
        let event = Event::Add { key, pod, netns: add.netns, adopt: add.adopt, caller };
        self.happened(event, life);
    }
}

/// CNI DEL, and where the answer goes; deleting the absent succeeds.
pub struct Delete(pub Key, pub oneshot::Sender<Result<(), Refusal>>);
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
        let asked = Key::from(check.attachment.clone());
        let (key, endpoint) =
            self.core.iter().find(|(key, _)| **key == asked).ok_or_else(|| Failure {
                kind: FailureKind::NotFound,
                message: format!("container {} is not plugged here", check.attachment.container_id),
            })?;
        let no = |message: String| Err(Failure { kind: FailureKind::Refused, message });
        if !check.addresses.contains(&endpoint.address) {
            let (is, said) = (endpoint.address, &check.addresses);
            return no(format!("the pod's address is {is}, not among {said:?}"));
        }
        let spec = spec(&self.setting, key, endpoint)?;
        if check.netns != endpoint.netns {
            return no(format!("the pod is in {}, not in {}", endpoint.netns, check.netns));
        }
        if endpoint.phase != Phase::Ready {
            return no(format!("the endpoint is {}", endpoint.phase.as_str()));
        }
        let differences = self.edges.loader.ask(Inspect(spec)).await??;
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

/// CNI STATUS: whether there is an address for another pod.
pub struct CanPlug;
request!(CanPlug => Result<(), Refusal>);

impl Serve<CanPlug> for Endpoints {
    async fn serve(&mut self, _: CanPlug, _: &Life<Self>) -> Result<(), Refusal> {
        self.core.obstacle().map_or(Ok(()), |why| Err(refusal(why)))
    }
}

/// Every endpoint.
pub struct ListHeld;
request!(ListHeld => Vec<(Key, Endpoint)>);

impl Serve<ListHeld> for Endpoints {
    async fn serve(&mut self, _: ListHeld, _: &Life<Self>) -> Vec<(Key, Endpoint)> {
        self.core.iter().map(|(key, endpoint)| (key.clone(), endpoint.clone())).collect()
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
        let row = |(key, endpoint): (&Key, &Endpoint)| {
            let class = classes.get(&endpoint.identity).cloned().unwrap_or_default();
            EndpointRow {
                node: self.setting.node.0.clone(),
                id: endpoint.id,
                pod: endpoint.pod.to_string(),
                address: endpoint.address,
                identity: endpoint.identity.0,
                labels: class.labels,
                interface: key.link.clone(),
                state: endpoint.phase.as_str().to_owned(),
                policy: class.isolated.to_owned(),
                realised: list.realised.clone(),
            }
        };
        self.core.iter().map(row).collect()
    }
}
