//! The pure cores of the agent: policy, ipcache, endpoint (and whose address is whose), mapsync, flow.

#![warn(
    clippy::wildcard_enum_match_arm,
    reason = "whoever adds a case is shown every place that it concerns"
)]

pub mod directory;
pub mod endpoint;
pub mod first;
pub mod flow;
pub mod ipcache;
pub mod leftover;
pub mod mapsync;
pub mod patience;
pub mod policy;
pub mod recent;
pub mod strangers;
