//! A flow judged whole: who the two ends are, what their policies say, and where packets go.

use crate::policy::{Class, Query, Verdict, judge};
use weft_abi::{
    address::{Addr, Addr4, NetPort},
    conntrack::{PATH_LOCAL, PATH_REMOTE, PATH_STACK, Path},
    drop::DropReason,
    endpoint::Endpoint,
    ipcache::{AddressEntry, HOST, LOCAL, PrefixEntry, REMOTE_POD},
    policy::{EGRESS, INGRESS},
};

/// Where a judgement looks things up: the kernel's maps, or tables of a test.
pub trait World {
    /// A policy class's trie.
    type Class: Class;
    /// What is known of an exact address.
    fn address(&self, address: Addr4) -> Option<AddressEntry>;
    /// What is known of the longest prefix around an address.
    fn prefix(&self, address: Addr4) -> Option<PrefixEntry>;
    /// The endpoint behind an interface.
    fn endpoint(&self, ifindex: u32) -> Option<Endpoint>;
    /// A class's trie, if its policy is in place.
    fn class(&self, class: u32) -> Option<Self::Class>;
    /// The node's device, for paths to other nodes.
    fn uplink(&self) -> u32;
}

/// A flow in the direction it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Who opened it.
    pub source: Addr4,
    /// Who is called.
    pub destination: Addr4,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port; for ICMP, its type.
    pub port: NetPort,
}

/// One end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Identity number, 0 when unknown.
    pub identity: u32,
    /// Node-local identity of the longest policy prefix around its address.
    pub cidr: u32,
    /// Flags of [`weft_abi::ipcache`].
    pub flags: u32,
    /// Interface of a local pod.
    pub ifindex: u32,
    /// The node it is on, for another node's pod.
    pub node: Addr,
}

/// What was found out about a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Why it may not be, if so.
    pub refusal: Option<Refusal>,
    /// Identity of who opened it.
    pub opener: u32,
    /// Identity of who is called.
    pub target: u32,
    /// Rule of the egress verdict; 0 where it is judged elsewhere.
    pub egress_rule: u32,
    /// Rule of the ingress verdict; 0 where it is judged elsewhere.
    pub ingress_rule: u32,
    /// Path to who is called.
    pub forward: Path,
    /// Path to who opened it.
    pub reply: Path,
}

/// Why a flow may not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason to drop it for.
    pub reason: DropReason,
    /// Whose policy decided.
    pub direction: u8,
    /// The class that decided; 0 when it was no policy.
    pub class: u32,
}

/// Finds out who has an address.
#[inline(always)]
pub fn resolve<W: World>(world: &W, address: Addr4) -> End {
    let exact = world.address(address);
    // Prefixes are looked up for exact addresses too: an ipBlock matches whoever has the address.
    let prefix = world.prefix(address).unwrap_or(PrefixEntry::zeroed());
    match exact {
        Some(entry) => End {
            identity: entry.identity,
            cidr: prefix.cidr,
            flags: entry.flags,
            ifindex: entry.ifindex,
            node: entry.node,
        },
        None => End {
            identity: prefix.identity,
            cidr: prefix.cidr,
            // An address of this node's prefixes without an entry is nobody's, never local.
            flags: prefix.flags & !LOCAL,
            ifindex: if prefix.flags & LOCAL != 0 { u32::MAX } else { 0 },
            node: prefix.node,
        },
    }
}

/// Judges a flow: the egress of a local source, then the ingress of a local destination.
#[inline(always)]
pub fn judge_flow<W: World>(world: &W, opening: &Opening) -> Judgement {
    let source = resolve(world, opening.source);
    let destination = resolve(world, opening.destination);
    let mut found = Judgement {
        refusal: None,
        opener: source.identity,
        target: destination.identity,
        egress_rule: 0,
        ingress_rule: 0,
        forward: Path::zeroed(),
        reply: Path::zeroed(),
    };
    if destination.ifindex == u32::MAX {
        found.refusal = Some(Refusal {
            reason: DropReason::UnroutableIp,
            direction: INGRESS,
            class: 0,
        });
        return found;
    }
    let uplink = world.uplink();
    if source.flags & LOCAL != 0 {
        let Some(endpoint) = world.endpoint(source.ifindex) else {
            found.refusal = Some(not_ready(EGRESS, 0));
            return found;
        };
        found.reply = local_path(&endpoint);
        match one_side(world, &endpoint, EGRESS, &destination, opening) {
            Ok(rule) => found.egress_rule = rule,
            Err((refusal, rule)) => {
                found.refusal = Some(refusal);
                found.egress_rule = rule;
                return found;
            }
        }
    } else {
        found.reply = far_path(&source, uplink);
    }
    if destination.flags & LOCAL != 0 {
        let Some(endpoint) = world.endpoint(destination.ifindex) else {
            found.refusal = Some(not_ready(INGRESS, 0));
            return found;
        };
        found.forward = local_path(&endpoint);
        // A pod's own node always reaches it, as Kubernetes demands for the kubelet's probes.
        if source.flags & HOST == 0 {
            match one_side(world, &endpoint, INGRESS, &source, opening) {
                Ok(rule) => found.ingress_rule = rule,
                Err((refusal, rule)) => {
                    found.refusal = Some(refusal);
                    found.ingress_rule = rule;
                }
            }
        }
    } else {
        found.forward = far_path(&destination, uplink);
    }
    found
}

/// What one endpoint's policy says of the other end: the rule that allows, or why not and which rule.
#[inline(always)]
fn one_side<W: World>(
    world: &W,
    endpoint: &Endpoint,
    direction: u8,
    peer: &End,
    opening: &Opening,
) -> Result<u32, (Refusal, u32)> {
    let Some(class) = world.class(endpoint.class) else {
        return Err((not_ready(direction, endpoint.class), 0));
    };
    let query = Query {
        direction,
        identity: peer.identity,
        cidr: peer.cidr,
        protocol: opening.protocol,
        port: opening.port,
    };
    let refusal = |reason| Refusal { reason, direction, class: endpoint.class };
    match judge(&class, &query) {
        Verdict::Allow { rule } => Ok(rule),
        Verdict::Deny { rule } => Err((refusal(DropReason::PolicyDeny), rule)),
        Verdict::NoMatch => Err((refusal(DropReason::PolicyDenied), 0)),
    }
}

#[inline(always)]
fn not_ready(direction: u8, class: u32) -> Refusal {
    Refusal { reason: DropReason::EndpointNotReady, direction, class }
}

/// The path into a pod of this node.
#[inline(always)]
fn local_path(endpoint: &Endpoint) -> Path {
    let mut path = Path::zeroed();
    path.kind = PATH_LOCAL;
    path.mac = endpoint.mac;
    path.ifindex = endpoint.ifindex;
    path
}

/// The path to what is not a pod of this node.
#[inline(always)]
fn far_path(end: &End, uplink: u32) -> Path {
    let mut path = Path::zeroed();
    if end.flags & REMOTE_POD != 0 {
        path.kind = PATH_REMOTE;
        path.ifindex = uplink;
        path.next_hop = end.node;
    } else {
        path.kind = PATH_STACK;
    }
    path
}
