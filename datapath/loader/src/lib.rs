//! Loads, pins, attaches and replaces the eBPF programs; typed map handles; netlink.

pub mod bpf;
pub mod kernel;
pub mod maps;
pub mod objects;
pub mod pins;
pub mod programs;
mod real;
mod sys;
pub use real::RealKernel;
