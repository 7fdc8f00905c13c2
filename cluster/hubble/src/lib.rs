//! Flows in Hubble's shape: the model, its filters and its printers.

pub mod flow;
