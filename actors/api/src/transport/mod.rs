//! How a request crosses a Unix socket: one JSON object a line, both ways.
//!
//! The [`Client`] blocks and needs no runtime, so the CNI plugin can link it; the `server` half runs on tokio
//! and is behind the feature `server`. A request has one answer line, or, where it asks for a stream, any
//! number of them and then `"end"`.

mod client;
#[cfg(feature = "server")]
mod listen;
#[cfg(feature = "server")]
mod server;

pub use client::{CallError, Client, Options, Stream};
#[cfg(feature = "server")]
pub use listen::BindError;
#[cfg(feature = "server")]
pub use server::{Limits, Response, Server};

use serde::{Serialize, de::DeserializeOwned};

/// A request that knows the type of its answers.
pub trait Request: Serialize + DeserializeOwned {
    /// What answers it.
    type Answer: Serialize + DeserializeOwned;
}

impl Request for crate::agent::Request {
    type Answer = crate::agent::Answer;
}

impl Request for crate::operator::Request {
    type Answer = crate::operator::Answer;
}
