//! Loads, pins, attaches and replaces the eBPF programs; typed map handles; netlink.

pub mod bpf;
pub mod kernel;
pub mod pins;
