//! The program of the node's devices: `from_net` at tcx (or clsact) ingress judges packets to pods of
//! this node and delivers them past the node's stack; all else passes untouched. Linux 6.1 or later.
#![no_std]
#![no_main]

use aya_ebpf::{macros::classifier, programs::TcContext};
use weft_abi::{event::POINT_FROM_NET, policy::INGRESS};
use weft_ebpf::{hook, run};

#[classifier]
pub fn from_net(ctx: TcContext) -> i32 {
    run(&ctx, hook::from_net, POINT_FROM_NET, INGRESS)
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: no panicking operation is left in the object; a test looks for this symbol.
    unsafe { core::hint::unreachable_unchecked() }
}
