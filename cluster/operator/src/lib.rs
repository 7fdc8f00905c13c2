//! The operator: sources, identity allocation, publishing.

pub mod admin;
pub mod admission;
pub mod config;
pub mod elections;
pub mod founding;
pub mod history;
pub mod identities;
pub mod keeper;
pub mod labels;
pub mod leader;
pub mod leading;
pub mod member;
pub mod messages;
pub mod metrics;
pub mod operator;
pub mod peers;
pub mod progress;
pub mod sequencer;
pub mod session;
pub mod versions;
pub mod violations;
