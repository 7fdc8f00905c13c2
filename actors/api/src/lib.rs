//! The local API: requests and answers over the agent's and the operator's sockets.
//!
//! Unix sockets, mode 0600. Each line is one JSON object (newline-delimited, at most
//! [`LINE_MAX`] bytes), so a person can speak it with `socat`. A connection carries requests one after
//! another; `follow` streams end when the client closes.

pub mod agent;
pub mod cni;
#[cfg(feature = "server")]
pub mod health;
pub mod operator;
pub mod transport;

use serde::{Deserialize, Serialize};
use weft_types::TraceContext;

/// Version of the local API. New fields and requests do not change it.
pub const API_VERSION: u16 = 1;

/// The commit that this program was built from, or `unknown`.
pub const COMMIT: &str = env!("WEFT_COMMIT");

/// Longest line of either side, in bytes.
pub const LINE_MAX: usize = 16 << 20;

/// A request with what every request carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call<R> {
    /// [`API_VERSION`] of the caller.
    pub version: u16,
    /// The caller's trace, as a `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "traceparent")]
    pub traceparent: Option<TraceContext>,
    /// The caller's own span, where the callee is to send it to a collector in the caller's stead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
    /// Milliseconds the caller will wait; work that is later is refused.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// What is asked.
    pub request: R,
}

/// A caller that is too short-lived to send its span itself, as a CNI plugin is; the span's own id is the `traceparent`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// When it began, in nanoseconds since 1970.
    pub begun_ns: u64,
    /// The span that it is a part of; none where the trace began with it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "traceparent")]
    pub parent: Option<TraceContext>,
}

/// An answer, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply<A> {
    /// The answer.
    Ok(A),
    /// Why there is none.
    Error(Failure),
    /// A stream's last item was the one before.
    End,
}

impl<A> From<Result<A, Failure>> for Reply<A> {
    fn from(result: Result<A, Failure>) -> Self {
        match result {
            Ok(answer) => Self::Ok(answer),
            Err(failure) => Self::Error(failure),
        }
    }
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure, for programs.
    pub kind: FailureKind,
    /// What was attempted, on what, and why it failed; for people.
    pub message: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The request contradicts itself or names something malformed.
    Invalid,
    /// It names something that is not there.
    NotFound,
    /// Not now; the same request may succeed later (CNI code 11).
    TryAgain,
    /// The answer to a check is no.
    Refused,
    /// Something here failed.
    Internal,
}

mod traceparent {
    //! A trace context as its W3C text.
    use serde::{Deserialize, Deserializer, Serializer};
    use weft_types::TraceContext;

    pub(super) fn serialize<S: Serializer>(
        value: &Option<TraceContext>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(context) => serializer.collect_str(context),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<TraceContext>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        // A malformed traceparent is ignored, as W3C Trace Context asks.
        Ok(text.and_then(|t| t.parse().ok()))
    }
}
