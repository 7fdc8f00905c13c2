//! The operator: sources, identity allocation, publishing.

pub mod admin;
pub mod config;
pub mod leader;
pub mod sequencer;
pub mod session;
