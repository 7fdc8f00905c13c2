//! The one place that hands an action to the kernel: forwards, counts, tells.

use crate::{
    Dropped, Pass, config, count, event,
    maps::Scratch,
    parse::{ETH, Packet, ethertype, linear},
    track,
};
use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT, bpf_redir_neigh},
    helpers::{bpf_check_mtu, bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer},
    programs::TcContext,
};
use weft_abi::{
    GATEWAY_MAC,
    conntrack::{PATH_LOCAL, PATH_REMOTE},
    drop::DropReason,
};
use weft_verdict::ipv4;

const AF_INET: u32 = 2;
/// `linux/bpf.h`: look at a packet's segments too.
const BPF_MTU_CHK_SEGS: u64 = 1;
/// Bytes of a frame that every device takes: an Ethernet header and what every host must (RFC 791 §3.1).
const ALWAYS_FITS: u32 = ETH as u32 + 576;

/// What routing a packet writes, by two bytes at a time: of an Ethernet and an IPv4 header.
#[repr(C, packed(2))]
struct Routed {
    destination: [u16; 3],
    source: [u16; 3],
    ethertype: u16,
    before: [u16; 4],
    ttl: u8,
    protocol: u8,
    checksum: u16,
}

/// Ends a program.
#[inline(always)]
pub fn finish(
    ctx: &TcContext,
    scratch: &Scratch,
    packet: &Packet,
    result: Result<Pass, Dropped>,
    point: u8,
    direction: u8,
) -> i32 {
    let result = result.and_then(|pass| forward(ctx, scratch, packet, pass, direction));
    match result {
        Ok(action) => {
            count::packet(ctx, 0, direction);
            action
        }
        Err(dropped) => {
            count::packet(ctx, dropped.reason.number(), dropped.direction);
            event::dropped(ctx, packet, &dropped, point, ethertype(ctx));
            TC_ACT_SHOT
        }
    }
}

#[inline(always)]
fn forward(
    ctx: &TcContext,
    scratch: &Scratch,
    packet: &Packet,
    pass: Pass,
    direction: u8,
) -> Result<i32, Dropped> {
    let path = match pass {
        Pass::Stack => return Ok(TC_ACT_OK),
        // SAFETY: the context of a running program.
        Pass::Back => return Ok(unsafe { bpf_redirect((*ctx.skb.skb).ifindex, 0) } as i32),
        Pass::ByPath => track::path(scratch),
    };
    match path.kind {
        PATH_LOCAL => {
            let routed = hop(ctx, packet, direction)?;
            routed.destination = words(path.mac);
            routed.source = words(GATEWAY_MAC);
            // SAFETY: a helper with scalar arguments.
            Ok(unsafe { bpf_redirect_peer(path.to, 0) } as i32)
        }
        // The node's stack cuts it, or says that it must be cut: its route is the same.
        PATH_REMOTE if !fits(ctx, config::uplink()) => Ok(TC_ACT_OK),
        PATH_REMOTE => {
            hop(ctx, packet, direction)?;
            Ok(to_neighbour(path.to))
        }
        _ => Ok(TC_ACT_OK),
    }
}

/// Whether a device takes a packet as it is, or its segments: a redirect asks nobody, and the device would drop it.
#[inline(always)]
fn fits(ctx: &TcContext, ifindex: u32) -> bool {
    if ctx.len() <= ALWAYS_FITS {
        return true;
    }
    // The packet's own length; what the device takes comes back.
    let mut length = 0;
    // SAFETY: the context of a running program, and a word that lives across the call.
    let checked =
        unsafe { bpf_check_mtu(ctx.skb.skb.cast(), ifindex, &raw mut length, 0, BPF_MTU_CHK_SEGS) };
    // A device that is gone loses the packet either way.
    checked <= 0
}

#[inline(always)]
fn to_neighbour(node: u32) -> i32 {
    // SAFETY: plain integers and arrays.
    let mut next: bpf_redir_neigh = unsafe { core::mem::zeroed() };
    next.nh_family = AF_INET;
    next.__bindgen_anon_1.ipv4_nh = node;
    let size = size_of::<bpf_redir_neigh>() as i32;
    // SAFETY: the parameters live across the call and are as long as said.
    unsafe { bpf_redirect_neigh(config::uplink(), &raw mut next, size, 0) as i32 }
}

/// One hop less to live: Weft routes. What else is to be written comes back.
#[inline(always)]
#[expect(
    clippy::mut_from_ref,
    reason = "it is of the packet, which the context points to and does not hold"
)]
fn hop<'p>(ctx: &'p TcContext, packet: &Packet, direction: u8) -> Result<&'p mut Routed, Dropped> {
    if packet.ttl <= 1 {
        return Err(Dropped::bare(DropReason::TtlExceeded, direction));
    }
    let routed = match linear::<Routed>(ctx, 0) {
        Some(routed) => routed,
        None => pulled(ctx).ok_or(Dropped::bare(DropReason::WriteFailed, direction))?,
    };
    // SAFETY: inside the packet, which is this program's alone to write; nobody else holds a place in it.
    let routed = unsafe { &mut *routed };
    routed.ttl = packet.ttl - 1;
    routed.checksum = ipv4::checksum_after_hop(routed.checksum);
    Ok(routed)
}

/// The headers of a packet whose linear part does not hold them, made linear.
#[inline(always)]
fn pulled(ctx: &TcContext) -> Option<*mut Routed> {
    ctx.pull_data(size_of::<Routed>() as u32).ok()?;
    linear(ctx, 0)
}

#[inline(always)]
fn words(mac: [u8; 6]) -> [u16; 3] {
    let [a, b, c, d, e, f] = mac;
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]), u16::from_ne_bytes([e, f])]
}
