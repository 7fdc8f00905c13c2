//! The one implementation of a verdict: policy lookup and precedence, flow judgement, conntrack transition.
//!
//! The kernel programs, `weft policy matrix` and the tests call the same functions; what differs is the
//! [`flow::World`] they look things up in.
#![no_std]
#![warn(
    clippy::wildcard_enum_match_arm,
    reason = "whoever adds a case is shown every place that it concerns"
)]

pub mod connection;
pub mod conntrack;
pub mod flow;
pub mod fragment;
pub mod ipv4;
pub mod lifetime;
pub mod policy;
pub mod related;
pub mod sctp;
