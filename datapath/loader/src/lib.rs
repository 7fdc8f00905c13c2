//! Loads, pins, attaches and replaces the eBPF programs; typed map handles; netlink.

pub mod attachment;
mod batch;
mod classes;
pub mod clock;
pub mod events;
pub mod fake;
mod glances;
pub mod kernel;
pub mod links;
pub mod lru;
pub mod maps;
mod netlink;
mod netns;
pub mod objects;
pub mod programs;
mod real;
pub mod rtnl;
pub mod run;
mod sys;
mod walk;

pub use real::RealKernel;
