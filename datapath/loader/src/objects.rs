//! The eBPF objects, embedded.

/// `from_pod` and `to_pod`.
pub static POD: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pod.o"));
/// `from_net`.
pub static NET: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/net.o"));
