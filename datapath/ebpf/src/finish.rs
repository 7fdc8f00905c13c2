//! The one place that hands an action to the kernel: forwards, counts, tells.

use crate::{
    Dropped, Pass, count, event,
    maps::Scratch,
    parse::{Packet, ethertype},
    track,
};
use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT, bpf_redir_neigh},
    helpers::{bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer},
    programs::TcContext,
};
use weft_abi::{
    GATEWAY_MAC,
    conntrack::{PATH_LOCAL, PATH_REMOTE, Path},
    drop::DropReason,
};

const AF_INET: u32 = 2;
/// Offset of the time to live.
const TTL_AT: usize = 22;
/// Offset of the header checksum.
const CHECKSUM_AT: usize = 24;

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
            TC_ACT_SHOT as i32
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
        Pass::Stack => return Ok(TC_ACT_OK as i32),
        // SAFETY: the context of a running program.
        Pass::Back => return Ok(unsafe { bpf_redirect((*ctx.skb.skb).ifindex, 0) } as i32),
        Pass::ByPath => track::path(scratch),
    };
    match path.kind {
        PATH_LOCAL => {
            hop(ctx, packet, direction)?;
            let mut macs = [0u8; 12];
            macs[..6].copy_from_slice(&path.mac);
            macs[6..].copy_from_slice(&GATEWAY_MAC);
            ctx.store(0, &macs, 0).map_err(|_| Dropped::bare(DropReason::WriteFailed, direction))?;
            // SAFETY: a helper with scalar arguments.
            Ok(unsafe { bpf_redirect_peer(path.ifindex, 0) } as i32)
        }
        PATH_REMOTE => {
            hop(ctx, packet, direction)?;
            Ok(to_neighbour(path))
        }
        _ => Ok(TC_ACT_OK as i32),
    }
}

#[inline(always)]
fn to_neighbour(path: &Path) -> i32 {
    // SAFETY: plain integers and arrays.
    let mut next: bpf_redir_neigh = unsafe { core::mem::zeroed() };
    next.nh_family = AF_INET;
    next.__bindgen_anon_1.ipv4_nh = u32::from_ne_bytes(path.next_hop.to4().octets);
    let size = size_of::<bpf_redir_neigh>() as i32;
    // SAFETY: the parameters live across the call and are as long as said.
    unsafe { bpf_redirect_neigh(path.ifindex, &raw mut next, size, 0) as i32 }
}

/// One hop less to live: Weft routes.
#[inline(always)]
fn hop(ctx: &TcContext, packet: &Packet, direction: u8) -> Result<(), Dropped> {
    if packet.ttl <= 1 {
        return Err(Dropped::bare(DropReason::TtlExceeded, direction));
    }
    let failed = |_| Dropped::bare(DropReason::WriteFailed, direction);
    let (old, new) = (u64::from(packet.ttl), u64::from(packet.ttl - 1));
    // The checksum covers 16-bit words; the time to live is the first byte of its word.
    ctx.l3_csum_replace(CHECKSUM_AT, old, new, 2).map_err(failed)?;
    ctx.store(TTL_AT, &(packet.ttl - 1), 0).map_err(failed)
}
