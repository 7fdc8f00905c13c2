//! The operator: sources, identity allocation, publishing.

pub mod admin;
pub mod config;
pub mod leader;
pub mod operator;
pub mod progress;
pub mod sequencer;
pub mod session;
