//! What strangers may send, given to what reads it: each module is one fuzz target.
//!
//! A target takes any bytes and panics when what reads them does, or breaks a promise. `targets` runs them under
//! libFuzzer (`make fuzz`), `tests/corpus.rs` over what is in `corpus`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic is what a target has to say"
)]

pub mod api;
pub mod bytes;
pub mod cni;
pub mod manifests;
pub mod peers;
pub mod state;
pub mod verdict;
pub mod wire;
pub mod words;

/// A target: any bytes.
pub type Target = fn(&[u8]);

/// All of them, by their names.
pub const TARGETS: [(&str, Target); 8] = [
    ("api", api::run),
    ("cni", cni::run),
    ("manifests", manifests::run),
    ("peers", peers::run),
    ("state", state::run),
    ("verdict", verdict::run),
    ("wire", wire::run),
    ("words", words::run),
];
