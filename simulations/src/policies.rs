//! Policies that clients want: about few pods mostly, so that most changes touch few.

use crate::client::{NAMESPACE, SHARED};
use ipnet::{IpNet, Ipv4Net};
use weft_types::{
    NamespacedName, Policy, Selector, Source,
    label::key,
    policy::{IpBlock, Isolation, Peer, Peers, PolicyId, PolicyKind, Port, Ports, Protocol, Rule},
    selector::Requirement,
};

/// Ports that packets go to; policies name some of them.
pub(crate) const PORTS: [u16; 3] = [80, 443, 8050];

/// One of so many selectors is of most pods.
const BROAD: u8 = 16;

/// A policy with a name.
pub(crate) fn named(name: &str) -> PolicyId {
    let name = NamespacedName::new(NAMESPACE, name);
    PolicyId { kind: PolicyKind::NetworkPolicy, name }
}

/// Any policy; of `nodes` nodes' prefixes it may name some.
pub(crate) fn any(id: PolicyId, rng: &mut fastrand::Rng, nodes: usize) -> Policy {
    let is_broad = rng.u8(0..BROAD) == 0;
    let subject = selector(rng, is_broad);
    let some = |rng: &mut fastrand::Rng| isolated(rng, nodes, is_broad);
    let (ingress, egress) = match rng.u8(0..4) {
        0 => (Isolation::Open, some(rng)),
        1 => (some(rng), some(rng)),
        _ => (some(rng), Isolation::Open),
    };
    Policy { id, subject, ingress, egress }
}

/// What is about many names few: a class of each pod with an entry for each other would be most of the work.
fn isolated(rng: &mut fastrand::Rng, nodes: usize, is_broad: bool) -> Isolation {
    let rules = rng.usize(0..3);
    Isolation::Isolated((0..rules).map(|_| rule(rng, nodes, is_broad)).collect())
}

fn rule(rng: &mut fastrand::Rng, nodes: usize, is_broad: bool) -> Rule {
    let many = !is_broad && rng.u8(0..BROAD) == 0;
    let peers = match rng.u8(0..8) {
        0 => Peers::Anyone,
        1 | 2 => Peers::Only(block(rng, nodes).into_iter().map(Peer::Block).collect()),
        3 => Peers::Only(vec![Peer::Pods(selector(rng, many)), Peer::Pods(selector(rng, false))]),
        _ => Peers::Only(vec![Peer::Pods(selector(rng, many))]),
    };
    let tcp = |first, last| Port::Range { protocol: Protocol::Tcp, first, last };
    let ports = match rng.u8(0..4) {
        0 => Ports::Only(vec![tcp(80, 80), Port::Protocol(Protocol::Udp)]),
        1 => Ports::Only(vec![tcp(8000, 8099)]),
        _ => Ports::All,
    };
    Rule { peers, ports }
}

/// Pods of the namespace with few of the label sets that many share; or all pods, or all others.
fn selector(rng: &mut fastrand::Rng, is_broad: bool) -> Selector {
    let (source, key) = (Source::K8s, "app".to_owned());
    let mut values: Vec<String> =
        (0..3).map(|_| format!("shared-{}", rng.u32(0..SHARED))).collect();
    values.sort();
    values.dedup();
    let apps = match (is_broad, rng.bool()) {
        (true, true) => Requirement::NotIn { source, key, values },
        (true, false) => Requirement::Exists { source, key },
        (false, _) => Requirement::In { source, key, values },
    };
    let (key, values) = (key::NAMESPACE.to_owned(), vec![NAMESPACE.to_owned()]);
    Selector::new(vec![apps, Requirement::In { source, key, values }])
}

/// A node's prefix, or half of it, or every node's but that; without a few addresses at times.
fn block(rng: &mut fastrand::Rng, nodes: usize) -> Option<IpBlock> {
    let node = u8::try_from(rng.usize(0..nodes.max(1)) + 1).unwrap_or(u8::MAX);
    let net = |length| Ipv4Net::new([10, 0, node, 0].into(), length).ok().map(IpNet::V4);
    let all = Ipv4Net::new([10, 0, 0, 0].into(), 8).ok().map(IpNet::V4);
    let (cidr, except) = match rng.u8(0..4) {
        0 => (all?, net(24)),
        1 => (net(24)?, net(29)),
        2 => (net(28)?, None),
        _ => (net(24)?, None),
    };
    Some(IpBlock { cidr, except: except.into_iter().collect() })
}
