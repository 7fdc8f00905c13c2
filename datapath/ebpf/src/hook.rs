//! What each hook does, concern after concern.

use crate::{
    Dropped, Pass, arp, fragment,
    maps::Scratch,
    parse::{self, ETH_P_ARP, ETH_P_IP, Packet, Subject},
    related,
    table::{self, Found, Tracked},
    track,
    world::Kernel,
};
use aya_ebpf::programs::TcContext;
use weft_abi::{
    address::Addr4,
    drop::DropReason,
    endpoint::Endpoint,
    ipcache::{HOST, LOCAL},
    policy::{EGRESS, INGRESS},
};
use weft_verdict::flow::World;

/// From a pod: the source must be its own.
#[inline(always)]
pub fn from_pod(
    ctx: &TcContext,
    scratch: &mut Scratch,
    packet: &mut Packet,
) -> Result<Pass, Dropped> {
    // SAFETY: the context of a running program.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    if parse::ethertype(ctx) != ETH_P_IP {
        return not_ip(ctx, ifindex);
    }
    let subject = parse::ipv4(ctx, packet).map_err(|reason| Dropped::bare(reason, EGRESS))?;
    if subject == Subject::Error {
        return related::from_pod(ctx, scratch, packet, ifindex);
    }
    let tracked = table::begin(&packet.tuple);
    let found = table::find(&tracked, &packet.tuple);
    // A flow's entry says whose packets come by which interface, without another look-up.
    if !found.as_ref().is_some_and(|found| found.sender_is_behind(&tracked, ifindex)) {
        let endpoint = endpoint(ifindex)?;
        if packet.tuple.source != endpoint.addr4 {
            return Err(Dropped::bare(DropReason::InvalidSourceIp, EGRESS));
        }
    }
    judge(ctx, scratch, packet, &tracked, found)
}

#[inline(always)]
fn not_ip(ctx: &TcContext, ifindex: u32) -> Result<Pass, Dropped> {
    let endpoint = endpoint(ifindex)?;
    match parse::ethertype(ctx) {
        ETH_P_ARP => arp::answer(ctx, endpoint),
        _ => Err(Dropped::bare(DropReason::UnsupportedL3, EGRESS)),
    }
}

/// The pod behind an interface.
#[inline(always)]
pub fn endpoint(ifindex: u32) -> Result<&'static Endpoint, Dropped> {
    Kernel.endpoint(ifindex).ok_or(Dropped::bare(DropReason::EndpointNotReady, EGRESS))
}

/// To a pod from the node's own stack. It is in front of the pod already: what passes goes on, if this
/// is the pod that it is for.
#[inline(always)]
pub fn to_pod(
    ctx: &TcContext,
    scratch: &mut Scratch,
    packet: &mut Packet,
) -> Result<Pass, Dropped> {
    match parse::ethertype(ctx) {
        ETH_P_IP => {}
        ETH_P_ARP => return Ok(Pass::Stack),
        _ => return Err(Dropped::bare(DropReason::UnsupportedL3, INGRESS)),
    }
    let subject = parse::ipv4(ctx, packet).map_err(|reason| Dropped::bare(reason, INGRESS))?;
    // SAFETY: the context of a running program.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    if subject == Subject::Error {
        return related::to_pod(ctx, scratch, packet, ifindex);
    }
    let tracked = table::begin(&packet.tuple);
    let found = table::find(&tracked, &packet.tuple);
    if found.is_none() {
        match Kernel.endpoint(ifindex) {
            None => return Err(Dropped::bare(DropReason::EndpointNotReady, INGRESS)),
            Some(endpoint) if endpoint.addr4 == packet.tuple.destination => {}
            Some(_) => return Err(Dropped::bare(DropReason::UnroutableIp, INGRESS)),
        }
    }
    judge(ctx, scratch, packet, &tracked, found)?;
    in_front(scratch, ifindex)
}

/// Lets a packet go on that is in front of the pod that it is for.
#[inline(always)]
pub fn in_front(scratch: &Scratch, ifindex: u32) -> Result<Pass, Dropped> {
    if !track::path(scratch).is_into(ifindex) {
        return Err(Dropped::bare(DropReason::UnroutableIp, INGRESS));
    }
    Ok(Pass::Stack)
}

/// From the network: packets to pods of this node are judged, the node's own go their way. What comes
/// under an address of this node or of its pods is no packet of theirs.
#[inline(always)]
pub fn from_net(
    ctx: &TcContext,
    scratch: &mut Scratch,
    packet: &mut Packet,
) -> Result<Pass, Dropped> {
    if parse::ethertype(ctx) != ETH_P_IP {
        return Ok(Pass::Stack);
    }
    match parse::ipv4(ctx, packet) {
        Ok(Subject::Flow) => {}
        Ok(Subject::Error) => return related::from_net(ctx, scratch, packet),
        Err(reason) if for_pod(packet) => return Err(Dropped::bare(reason, INGRESS)),
        // What is not for a pod is not ours to judge.
        Err(_) => return Ok(Pass::Stack),
    }
    let tracked = table::begin(&packet.tuple);
    let found = table::find(&tracked, &packet.tuple);
    if found.is_none() && !for_pod(packet) {
        return Ok(Pass::Stack);
    }
    let told = found.as_ref().and_then(|found| found.sender_is_elsewhere(&tracked));
    if !told.unwrap_or_else(|| !is_ours(packet.tuple.source)) {
        return Err(Dropped::bare(DropReason::InvalidSourceIp, INGRESS));
    }
    judge(ctx, scratch, packet, &tracked, found)
}

/// Lets a packet go on with its flow, or opens one; the later fragments of its datagram will be of it.
#[inline(always)]
fn judge(
    ctx: &TcContext,
    scratch: &mut Scratch,
    packet: &Packet,
    tracked: &Tracked,
    found: Option<Found>,
) -> Result<Pass, Dropped> {
    fragment::remember(ctx, packet);
    let pass = track::pass(ctx, scratch, packet, tracked, found)?;
    fragment::remember_passed(packet);
    Ok(pass)
}

/// Whether an address is this node's or one of its pods'.
#[inline(always)]
pub fn is_ours(address: Addr4) -> bool {
    Kernel.address(address).is_some_and(|a| a.flags & (LOCAL | HOST) != 0)
}

/// Whether the destination is in this node's pod prefixes.
#[inline(always)]
pub fn for_pod(packet: &Packet) -> bool {
    let destination = packet.tuple.destination;
    Kernel.address(destination).is_some_and(|a| a.flags & LOCAL != 0)
        || Kernel.prefix(destination).is_some_and(|p| p.flags & LOCAL != 0)
}
