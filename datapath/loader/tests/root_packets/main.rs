//! Packets through the kernel programs by `BPF_PROG_TEST_RUN`, a module a concern.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

#[path = "../support/mod.rs"]
mod support;

mod drops;
mod flows;
mod forwarding;
mod fragments;
mod related;
mod sctp;
mod world;
