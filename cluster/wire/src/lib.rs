//! The messages between agent and operator: serde and bincode, framed, versioned, over mutual TLS.

pub mod credentials;
pub mod frame;
pub mod message;
pub mod tls;
pub use message::{ToAgent, ToOperator};

/// Version of the messages here; a frame carries it, and a peer refuses what it does not know.
pub const WIRE_VERSION: u16 = 4;
