//! A flow judged whole: who the two ends are, what their policies say, and where packets go.

use crate::policy::{Class, Query, Verdict, judge};
use weft_abi::{
    address::{Addr4, NetPort},
    conntrack::{PATH_HOST, PATH_STACK, Path},
    drop::DropReason,
    endpoint::Endpoint,
    ipcache::{AddressEntry, HOST, LOCAL, PrefixEntry, REMOTE_POD},
    policy::{EGRESS, INGRESS},
};

/// Where a judgement looks things up: the kernel's maps, or tables of a test.
pub trait World {
    /// A policy class's trie.
    type Class<'a>: Class
    where
        Self: 'a;
    /// What is known of an exact address.
    fn address(&self, address: Addr4) -> Option<&AddressEntry>;
    /// What is known of the longest prefix around an address.
    fn prefix(&self, address: Addr4) -> Option<&PrefixEntry>;
    /// The endpoint behind an interface.
    fn endpoint(&self, ifindex: u32) -> Option<&Endpoint>;
    /// A class's trie, if its policy is in place.
    fn class(&self, class: u32) -> Option<Self::Class<'_>>;
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
    /// Its address.
    pub address: Addr4,
    /// Identity number, 0 when unknown.
    pub identity: u32,
    /// Flags of [`weft_abi::ipcache`].
    pub flags: u32,
    /// Interface of a local pod; 0 for an address of this node's prefixes that nobody has.
    pub ifindex: u32,
    /// The node it is on, for another node's pod.
    pub node: Addr4,
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

impl Judgement {
    /// Before anything was found out.
    pub const NOTHING: Self = Self {
        refusal: None,
        opener: 0,
        target: 0,
        egress_rule: 0,
        ingress_rule: 0,
        forward: Path::zeroed(),
        reply: Path::zeroed(),
    };
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
    if let Some(entry) = world.address(address) {
        let AddressEntry { identity, flags, ifindex, node, .. } = *entry;
        return End { address, identity, flags, ifindex, node: node.to4() };
    }
    let mut end = End { address, identity: 0, flags: 0, ifindex: 0, node: Addr4::zeroed() };
    if let Some(prefix) = world.prefix(address) {
        end.identity = prefix.identity;
        // Of this node's prefixes but nobody's address: local, with no interface.
        end.flags = prefix.flags;
        end.node = prefix.node.to4();
    }
    end
}

/// Judges a flow: the egress of a local source, then the ingress of a local destination.
/// The answer is written to `found`, which the kernel keeps off its small stack.
#[inline(always)]
pub fn judge_flow<W: World>(world: &W, opening: &Opening, found: &mut Judgement) {
    let source = resolve(world, opening.source);
    let destination = resolve(world, opening.destination);
    *found = Judgement::NOTHING;
    found.opener = source.identity;
    found.target = destination.identity;
    if let Err(refusal) = both_sides(world, opening, &source, &destination, found) {
        found.refusal = Some(refusal);
    }
}

#[inline(always)]
fn both_sides<W: World>(
    world: &W,
    opening: &Opening,
    source: &End,
    destination: &End,
    found: &mut Judgement,
) -> Result<(), Refusal> {
    if source.flags & LOCAL != 0 {
        let endpoint = local(world, source, EGRESS)?;
        found.reply = Path::local(endpoint.ifindex, endpoint.mac);
        found.egress_rule =
            one_side(world, endpoint, EGRESS, destination, opening, &mut found.egress_rule)?;
    } else {
        found.reply = far_path(source);
    }
    if destination.flags & LOCAL != 0 {
        let endpoint = local(world, destination, INGRESS)?;
        found.forward = Path::local(endpoint.ifindex, endpoint.mac);
        // A pod's own node always reaches it, as Kubernetes demands for the kubelet's probes.
        if source.flags & HOST == 0 {
            found.ingress_rule =
                one_side(world, endpoint, INGRESS, source, opening, &mut found.ingress_rule)?;
        }
    } else {
        found.forward = far_path(destination);
    }
    Ok(())
}

/// The endpoint of a local end.
#[inline(always)]
fn local<'w, W: World>(world: &'w W, end: &End, direction: u8) -> Result<&'w Endpoint, Refusal> {
    if end.ifindex == 0 {
        return Err(Refusal { reason: DropReason::UnroutableIp, direction, class: 0 });
    }
    world.endpoint(end.ifindex).ok_or(not_ready(direction, 0))
}

/// What one endpoint's policy says of the other end: the rule that allows, or why not; a rule that
/// denies is written to `denying`.
#[inline(always)]
fn one_side<W: World>(
    world: &W,
    endpoint: &Endpoint,
    direction: u8,
    peer: &End,
    opening: &Opening,
    denying: &mut u32,
) -> Result<u32, Refusal> {
    let Some(class) = world.class(endpoint.class) else {
        return Err(not_ready(direction, endpoint.class));
    };
    let query = Query {
        direction,
        identity: peer.identity,
        // Of exact addresses too: an ipBlock matches whoever has the address.
        cidr: world.prefix(peer.address).map_or(0, |prefix| prefix.cidr),
        protocol: opening.protocol,
        port: opening.port,
    };
    let refusal = |reason| Refusal { reason, direction, class: endpoint.class };
    match judge(&class, &query) {
        Verdict::Allow { rule } => Ok(rule),
        Verdict::Deny { rule } => {
            *denying = rule;
            Err(refusal(DropReason::PolicyDeny))
        }
        Verdict::NoMatch => Err(refusal(DropReason::PolicyDenied)),
    }
}

#[inline(always)]
fn not_ready(direction: u8, class: u32) -> Refusal {
    Refusal { reason: DropReason::EndpointNotReady, direction, class }
}

/// The path to what is not a pod of this node.
#[inline(always)]
fn far_path(end: &End) -> Path {
    if end.flags & REMOTE_POD != 0 {
        Path::remote(end.node)
    } else {
        Path::by_stack(if end.flags & HOST != 0 { PATH_HOST } else { PATH_STACK })
    }
}
