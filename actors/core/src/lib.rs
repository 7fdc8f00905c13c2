//! The pure cores of the agent: policy, ipcache, endpoint (and whose address is whose), mapsync, flow.

pub mod directory;
pub mod endpoint;
pub mod flow;
pub mod ipcache;
pub mod mapsync;
pub mod policy;
pub mod recent;
