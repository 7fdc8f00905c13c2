//! Flows in Hubble's shape: the model, its filters and its printers.

pub mod drop;
pub mod filter;
pub mod flow;
pub mod format;
pub mod print;
pub mod time;
