//! The programs of a pod's link, on the host side: `from_pod` at tcx (or clsact) ingress sees what the
//! pod sends; `to_pod` at egress sees what the node's own stack sends to it (what `from_pod` and
//! `from_net` deliver bypasses it). Linux 6.1 or later. Each is there twice, as a TCX link and as the filter behind
//! it: a TCX program's answer ends the way, but for "next", which ours never gives, so a packet is judged once.
#![no_std]
#![no_main]

use aya_ebpf::{macros::classifier, programs::TcContext};
use weft_abi::{
    event::{POINT_FROM_POD, POINT_TO_POD},
    policy::{EGRESS, INGRESS},
};
use weft_ebpf::{hook, run};

#[classifier]
pub fn from_pod(ctx: TcContext) -> i32 {
    run(&ctx, hook::from_pod, POINT_FROM_POD, EGRESS)
}

#[classifier]
pub fn to_pod(ctx: TcContext) -> i32 {
    run(&ctx, hook::to_pod, POINT_TO_POD, INGRESS)
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: no panicking operation is left in the object; a test looks for this symbol.
    unsafe { core::hint::unreachable_unchecked() }
}
