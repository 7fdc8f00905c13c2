//! A large cluster in memory, by the shipped state: namespaces of ten apps, whose policies let each app be spoken with by the one
//! before it and by nobody else.

use anyhow::{Context, Result, anyhow};
use ipnet::Ipv4Net;
use std::{collections::BTreeSet, net::Ipv4Addr};
use weft_state::{
    ClusterState, CommandV1, Stamp, Word,
    interests::{Change, Interests},
};
use weft_types::{Delta, Identity, NamespacedName, Node, NodeName, Object, object::Pod};

/// Pods of a node.
pub(crate) const NODE_PODS: usize = 50;
/// Apps of a namespace.
const APPS: usize = 10;
/// Pods of an app.
const APP_PODS: usize = 50;
/// Pods that one command makes.
const AT_ONCE: usize = 10_000;
/// Sets pods that follow each other on nodes far apart: a prime that divides no number of nodes here.
const APART: usize = 7919;
/// Of pods' addresses: a /24 a node.
const PODS: u32 = 0x0a00_0000;
/// Of the nodes' own.
const NODES: u32 = 0xac10_0000;

/// The cluster.
pub(crate) struct Town {
    pub(crate) state: ClusterState,
    /// Whom each node has to know.
    pub(crate) interests: Interests,
    pods: Vec<Placed>,
    nodes: Vec<Host>,
    identities: u32,
    replaced: usize,
}

/// Where a pod is.
#[derive(Clone, Copy)]
struct Placed {
    node: usize,
    address: Ipv4Addr,
    /// How often it was replaced.
    generation: usize,
}

/// What a node gave and said so far.
#[derive(Clone, Copy, Default)]
struct Host {
    addresses: u32,
    words: u64,
}

impl Town {
    /// Of so many nodes.
    pub(crate) fn new(nodes: usize) -> Result<Self> {
        let mut town = Self {
            state: ClusterState::new("bench"),
            interests: Interests::default(),
            pods: Vec::new(),
            nodes: vec![Host::default(); nodes],
            identities: Identity::CLUSTER_MIN,
            replaced: 0,
        };
        let places = (0..nodes).map(|node| Ok(Object::Node(place(node)?)));
        town.desire(places.collect::<Result<_>>()?, vec![]);
        for number in 0..(nodes * NODE_PODS).div_ceil(APPS * APP_PODS) {
            town.desire(policies(number)?, vec![]);
        }
        for first in (0..nodes * NODE_PODS).step_by(AT_ONCE) {
            let placed: Vec<usize> = (first..nodes * NODE_PODS).take(AT_ONCE).collect();
            for pod in &placed {
                let node = pod * APART % nodes;
                let address = town.address(node)?;
                town.pods.push(Placed { node, address, generation: 0 });
            }
            town.desire(placed.iter().filter_map(|pod| town.object(*pod)).collect(), vec![]);
            placed.iter().for_each(|pod| drop(town.plug(*pod)));
        }
        town.interests = Interests::new(town.state.snapshot());
        Ok(town)
    }

    /// The identities of a node's pods, and of the apps that may speak with these.
    pub(crate) fn has_to_know(&self, node: usize) -> BTreeSet<Identity> {
        let here = self.pods.iter().zip(0..).filter(|(placed, _)| placed.node == node);
        let apps = here.flat_map(|(_, pod): (_, usize)| {
            let app = pod / APP_PODS;
            [app, app - app % APPS + (app + APPS - 1) % APPS]
        });
        apps.filter_map(|app| self.identity(app * APP_PODS)).collect()
    }

    /// So many pods that were not are replaced by others of their apps, on the next node; what changed by that.
    pub(crate) fn replace(&mut self, count: usize) -> Result<Vec<Change>> {
        let pods: Vec<usize> =
            (self.replaced..).take(count).map(|turn| turn * APART % self.pods.len()).collect();
        self.replaced += count;
        let old: Vec<Object> = pods.iter().filter_map(|pod| self.object(*pod)).collect();
        let mut deltas = Vec::new();
        for pod in &pods {
            let Placed { node, address, generation } = self.placed(*pod).context("no such pod")?;
            deltas.extend(self.say(node, Word::Unplug(address)));
            let node = (node + 1) % self.nodes.len();
            let now = Placed { node, address: self.address(node)?, generation: generation + 1 };
            self.pods.get_mut(*pod).into_iter().for_each(|placed| *placed = now);
        }
        let new = pods.iter().filter_map(|pod| self.object(*pod)).collect();
        deltas.extend(self.desire(new, old));
        deltas.extend(pods.iter().flat_map(|pod| self.plug(*pod)).collect::<Vec<_>>());
        Ok(self.interests.take(deltas))
    }

    fn placed(&self, pod: usize) -> Option<Placed> {
        self.pods.get(pod).copied()
    }

    fn name(&self, pod: usize) -> NamespacedName {
        let app = pod / APP_PODS % APPS;
        let generation = self.placed(pod).map_or(0, |placed| placed.generation);
        let name = format!("app{app}-7d4b9c6f5d-{pod:06}-{generation}");
        NamespacedName::new(namespace(pod / APP_PODS / APPS), name)
    }

    fn object(&self, pod: usize) -> Option<Object> {
        let app = format!("app{}", pod / APP_PODS % APPS);
        let labels = [("app".to_owned(), app), ("tier".to_owned(), "service".to_owned())];
        Some(Object::Pod(Pod {
            name: self.name(pod),
            labels: labels.into(),
            service_account: "default".to_owned(),
            ports: vec![],
            node: Some(name_of(self.placed(pod)?.node)),
            address: None,
            command: vec![],
        }))
    }

    fn identity(&self, pod: usize) -> Option<Identity> {
        Some(self.state.workloads().get(&self.name(pod))?.identity)
    }

    fn desire(&mut self, put: Vec<Object>, remove: Vec<Object>) -> Vec<Delta> {
        let new = self.state.unnumbered(&put, &remove);
        let identities = (self.identities..).map(Identity).zip(new).collect::<Vec<_>>();
        self.identities = identities.last().map_or(self.identities, |(last, _)| last.0 + 1);
        self.state.apply(&CommandV1::Desire { put, remove, identities })
    }

    fn plug(&mut self, pod: usize) -> Vec<Delta> {
        let (Some(placed), Some(identity)) = (self.placed(pod), self.identity(pod)) else {
            return Vec::new();
        };
        let Placed { node, address, .. } = placed;
        self.say(node, Word::Plug { pod: self.name(pod), address, identity })
    }

    fn say(&mut self, node: usize, word: Word) -> Vec<Delta> {
        let Some(host) = self.nodes.get_mut(node) else { return Vec::new() };
        host.words += 1;
        let stamp = Stamp { session: 1, sequence: host.words };
        self.state.apply(&CommandV1::Said(name_of(node), stamp, word))
    }

    fn address(&mut self, node: usize) -> Result<Ipv4Addr> {
        let host = self.nodes.get_mut(node).context("no such node")?;
        host.addresses += 1;
        let low = u8::try_from(host.addresses).context("a node has no address left")?;
        Ok(Ipv4Addr::from(prefix(node)? + u32::from(low)))
    }
}

/// A node's name.
pub(crate) fn name_of(node: usize) -> NodeName {
    NodeName(format!("node-{node}"))
}

fn prefix(node: usize) -> Result<u32> {
    Ok(PODS + (u32::try_from(node)? << 8))
}

fn place(node: usize) -> Result<Node> {
    let address = Ipv4Addr::from(NODES + 1 + u32::try_from(node)?);
    let prefix = Ipv4Net::new(Ipv4Addr::from(prefix(node)?), 24)?;
    Ok(Node { name: name_of(node), address, pod_cidrs: vec![prefix] })
}

fn namespace(number: usize) -> String {
    format!("team-{number}")
}

/// Each app may be spoken with by the one before it. With the namespace that they are in.
fn policies(number: usize) -> Result<Vec<Object>> {
    let policy = |app: usize| {
        let (namespace, before) = (namespace(number), (app + APPS - 1) % APPS);
        format!(
            "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{ name: app{app}, namespace: {namespace} }}
spec:
  podSelector: {{ matchLabels: {{ app: app{app} }} }}
  policyTypes: [Ingress]
  ingress:
  - from: [{{ podSelector: {{ matchLabels: {{ app: app{before} }} }} }}]
    ports: [{{ port: 8080 }}]
"
        )
    };
    let text = (0..APPS).map(policy).collect::<Vec<_>>().join("---\n");
    let read = weft_manifests::parse("town", &text);
    Ok(read.map_err(|errors| anyhow!("{errors:?}"))?.objects)
}
