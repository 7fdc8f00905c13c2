//! Every map key, map value, event, drop reason and load-time constant that the kernel programs and user space share.
//!
//! One module a concern; each map's key, value, name, kind and capacity stand side by side. A type
//! that enters a map is written with [`abi!`], which asserts its layout at compile time, so a
//! type whose bytes were never thought about cannot cross into the kernel.
#![cfg_attr(not(feature = "user"), no_std)]
#![allow(unsafe_code, reason = "the plain-old-data marker of map types is an unsafe trait")]

#[macro_use]
pub mod layout;
pub mod address;
pub mod conntrack;
pub mod drop;
pub mod endpoint;
pub mod epoch;
pub mod event;
pub mod fragment;
pub mod ipcache;
pub mod map;
pub mod metrics;
pub mod policy;

/// The version of everything in this crate. A change of any layout, constant or meaning bumps it;
/// it is stored in the pinned map [`epoch::NODE_STATE`] and compared before programs are attached.
pub const ABI_VERSION: u32 = 5;

/// The hardware address of every pod's gateway: the host side of each pod's link carries it, and the
/// pod's permanent neighbour entry names it, so no ARP is needed and one constant serves all rewrites.
/// Locally administered (bit 1 of the first byte), as IEEE 802 asks of addresses nobody bought.
pub const GATEWAY_MAC: [u8; 6] = [0xee, 0xee, 0x57, 0xef, 0x70, 0x01];

/// The gateway address that every pod has, IPv4 link-local (RFC 3927) so that it collides with no
/// cluster's addresses. It is never the source or destination of a routed packet.
pub const GATEWAY_ADDR4: [u8; 4] = [169, 254, 1, 1];
