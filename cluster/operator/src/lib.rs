//! The operator: sources, identity allocation, publishing.

pub mod admin;
pub mod admission;
pub mod allocator;
pub mod config;
pub mod founding;
pub mod history;
pub mod labels;
pub mod leader;
pub mod member;
pub mod messages;
pub mod metrics;
pub mod operator;
pub mod progress;
pub mod sequencer;
pub mod session;
