//! The clock that the kernel's programs stamp flows with.

use nix::time::{ClockId, clock_gettime};

/// Seconds of the monotonic clock, as the programs count them: from `bpf_ktime_get_coarse_ns`, in 32 bits.
pub fn seconds() -> u32 {
    // The clock is there on every Linux; its seconds since the boot fit for 136 years.
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| u32::try_from(time.tv_sec()).unwrap_or(u32::MAX))
}
