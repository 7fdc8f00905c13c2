//! The node agent: actors around the cores, the local API socket.
//!
//! Requests go one way: `Uplink` → `Endpoints` → `Policy` → `Ipcache` → `TableSync`, `ClassSync`, `Loader`. What an actor
//! answers, the kernel holds. `Observer` is told, and asks nobody.

pub mod api;
pub mod capacity;
pub mod cni;
pub mod config;
pub mod conntrack;
pub mod endpoints;
pub mod flows;
pub mod gated;
pub mod inspect;
pub mod ipcache;
pub mod journal;
pub mod leftovers;
pub mod loader;
pub mod mapsync;
pub mod metrics;
pub mod notices;
pub mod observer;
pub mod policy;
pub mod published;
pub mod runtime;
pub mod state;
pub mod uplink;

/// Why an actor did not do what it was asked.
pub type Refusal = weft_api::Failure;

/// A failure inside the agent.
pub(crate) fn internal(problem: impl std::fmt::Display) -> Refusal {
    Refusal { kind: weft_api::FailureKind::Internal, message: problem.to_string() }
}

/// There is no room: so it stays until what is wanted changes, or the limits do.
pub(crate) fn refused(problem: impl std::fmt::Display) -> Refusal {
    Refusal { kind: weft_api::FailureKind::Refused, message: problem.to_string() }
}

/// Not now, perhaps later.
pub(crate) fn try_again(problem: impl std::fmt::Display) -> Refusal {
    Refusal { kind: weft_api::FailureKind::TryAgain, message: problem.to_string() }
}
