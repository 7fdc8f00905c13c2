//! The pure cores of the agent: policy, ipcache, endpoint, ipam, mapsync, flow.

pub mod directory;
pub mod endpoint;
pub mod flow;
pub mod ipcache;
pub mod mapsync;
pub mod policy;
pub mod recent;
