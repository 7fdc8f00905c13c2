//! The pure cores of the agent: policy, ipcache, endpoint, ipam, mapsync, flow.

pub mod endpoint;
pub mod flow;
pub mod ipcache;
pub mod mapsync;
pub mod policy;
