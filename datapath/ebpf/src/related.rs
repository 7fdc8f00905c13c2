//! ICMP errors at each hook: who may report a packet, and where its report goes.

use crate::{
    Dropped, Pass,
    hook::{endpoint, for_pod, in_front, is_ours},
    maps::Scratch,
    parse::{self, Packet},
    track,
};
use aya_ebpf::programs::TcContext;
use weft_abi::{
    drop::DropReason,
    policy::{EGRESS, INGRESS},
};
use weft_verdict::related;

/// From a pod, about a packet that was sent to it.
#[inline(always)]
pub fn from_pod(
    ctx: &TcContext,
    scratch: &mut Scratch,
    packet: &Packet,
    ifindex: u32,
) -> Result<Pass, Dropped> {
    if packet.tuple.source != endpoint(ifindex)?.addr4 {
        return Err(Dropped::bare(DropReason::InvalidSourceIp, EGRESS));
    }
    report(ctx, scratch, packet, EGRESS)
}

/// To a pod from the node's own stack, about a packet that the pod sent.
#[inline(always)]
pub fn to_pod(
    ctx: &TcContext,
    scratch: &mut Scratch,
    packet: &Packet,
    ifindex: u32,
) -> Result<Pass, Dropped> {
    report(ctx, scratch, packet, INGRESS)?;
    in_front(scratch, ifindex)
}

/// From the network, to a pod. Whoever forwards packets may report them, so any address will do that is not ours.
#[inline(always)]
pub fn from_net(ctx: &TcContext, scratch: &mut Scratch, packet: &Packet) -> Result<Pass, Dropped> {
    if !for_pod(packet) {
        return Ok(Pass::Stack);
    }
    if is_ours(packet.tuple.source) {
        return Err(Dropped::bare(DropReason::InvalidSourceIp, INGRESS));
    }
    report(ctx, scratch, packet, INGRESS)
}

/// Sends an error to who sent the packet that it quotes, if that packet's flow may be.
#[inline(always)]
fn report(
    ctx: &TcContext,
    scratch: &mut Scratch,
    packet: &Packet,
    direction: u8,
) -> Result<Pass, Dropped> {
    let fail = |reason| Dropped::bare(reason, direction);
    let quoted = parse::quoted(ctx).map_err(fail)?;
    if !related::is_addressed(&packet.tuple, &quoted) {
        return Err(fail(DropReason::InvalidPacket));
    }
    // What comes from a pod is about packets to that pod; it forwards none.
    if direction == EGRESS && !related::may_report(&packet.tuple, &quoted) {
        return Err(fail(DropReason::InvalidPacket));
    }
    track::report(scratch, &quoted)?.ok_or(fail(DropReason::UnknownFlow))
}
