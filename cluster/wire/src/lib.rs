//! The messages between agent and operator: serde and bincode, framed, versioned, over mutual TLS.

pub mod credentials;
pub mod frame;
pub mod message;
pub mod tls;
pub use message::{ToAgent, ToOperator};

use std::time::Duration;

/// Version of the messages here; a frame carries it, and a peer refuses what it does not know.
pub const WIRE_VERSION: u16 = 5;

/// How long CNI ADD waits for the nodes that have to know the pod's address (invariant W6 of the design).
pub const SPREAD_MAX: Duration = Duration::from_millis(100);
