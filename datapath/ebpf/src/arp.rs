//! ARP of pods: they need none (their gateway's neighbour entry is permanent), and who asks anyway is told.

use crate::{Dropped, Pass, parse::ETH};
use aya_ebpf::programs::TcContext;
use weft_abi::{GATEWAY_MAC, drop::DropReason, endpoint::Endpoint, policy::EGRESS};

const REQUEST: u8 = 1;
const REPLY: u8 = 2;

/// Answers a pod's request, whatever address it asks for, with the gateway's hardware address.
#[inline(always)]
pub fn answer(ctx: &TcContext, endpoint: &Endpoint) -> Result<Pass, Dropped> {
    let fail = |reason| Dropped::bare(reason, EGRESS);
    let arp: [u8; 28] = ctx.load(ETH).map_err(|_| fail(DropReason::Truncated))?;
    let sender = [arp[14], arp[15], arp[16], arp[17]];
    if sender != endpoint.addr4.octets() {
        return Err(fail(DropReason::InvalidSourceIp));
    }
    if arp[7] != REQUEST {
        return Err(fail(DropReason::UnsupportedL3));
    }
    let mut reply = [0u8; 34];
    // Ethernet: to the asker, from the gateway.
    copy(&mut reply, 0, &endpoint.mac);
    copy(&mut reply, 6, &GATEWAY_MAC);
    reply[12] = 0x08;
    reply[13] = 0x06;
    copy(&mut reply, 14, &[arp[0], arp[1], arp[2], arp[3], arp[4], arp[5], 0, REPLY]);
    copy(&mut reply, 22, &GATEWAY_MAC);
    copy(&mut reply, 28, &[arp[24], arp[25], arp[26], arp[27]]);
    ctx.store(0, &reply, 0).map_err(|_| fail(DropReason::WriteFailed))?;
    let mut target = [0u8; 10];
    target[..6].copy_from_slice(&endpoint.mac);
    target[6..].copy_from_slice(&sender);
    ctx.store(32, &target, 0).map_err(|_| fail(DropReason::WriteFailed))?;
    Ok(Pass::Back)
}

#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "within bounds, or the verifier would refuse the panic"
)]
fn copy<const N: usize>(to: &mut [u8; 34], at: usize, from: &[u8; N]) {
    let mut i = 0;
    while i < N {
        if at + i < 34 {
            to[at + i] = from[i];
        }
        i += 1;
    }
}
