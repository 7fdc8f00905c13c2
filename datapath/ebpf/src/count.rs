//! Counters: what was forwarded, what was dropped and why, what is worth a notice.

use crate::maps;
use aya_ebpf::programs::TcContext;
use weft_abi::metrics::metrics_index;

/// Counts a packet under a drop reason, or 0 when it is forwarded.
#[inline(always)]
pub fn packet(ctx: &TcContext, reason: u8, direction: u8) {
    add(metrics_index(reason, direction), u64::from(ctx.len()));
}

/// Counts what is worth a notice; it has no direction and no bytes.
#[inline(always)]
pub fn notice(number: u8) {
    add(metrics_index(number, 0), 0);
}

#[inline(always)]
fn add(index: u32, bytes: u64) {
    if let Some(counter) = maps::WEFT_METRICS.get_ptr_mut(index) {
        // SAFETY: this CPU's own value.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += bytes;
        }
    }
}
