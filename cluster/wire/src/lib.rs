//! The messages between agent and operator: serde and bincode, framed, versioned, over mutual TLS.

pub mod credentials;
pub mod frame;
pub mod greeting;
pub mod message;
pub mod tls;
pub mod version;
pub use message::{ToAgent, ToOperator};
pub use version::VERSIONS;

use std::time::Duration;

/// How long CNI ADD waits for the nodes that have to know the pod's address (invariant W6 of the design).
pub const SPREAD_MAX: Duration = Duration::from_millis(100);
