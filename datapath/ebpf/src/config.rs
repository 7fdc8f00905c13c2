//! Constants of the node, set when the object is loaded.

use aya_ebpf::Global;

/// Index of the node's device, for paths to other nodes.
#[unsafe(no_mangle)]
static UPLINK_IFINDEX: Global<u32> = Global::new(0);

/// The node's device.
#[inline(always)]
pub fn uplink() -> u32 {
    UPLINK_IFINDEX.load()
}
