//! W3C trace context, carried by every message so that one trace spans processes.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// `traceparent` of W3C Trace Context, version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceContext {
    /// Not zero.
    pub trace_id: u128,
    /// Not zero.
    pub span_id: u64,
    /// Bit 0: sampled.
    pub flags: u8,
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

/// A text that is not a `traceparent`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C traceparent: {0:?}")]
pub struct NotATraceparent(pub String);

impl FromStr for TraceContext {
    type Err = NotATraceparent;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = text.split('-');
            let (version, trace, span, flags) =
                (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
            let hex = |s: &str| s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            let shaped = version.len() == 2
                && version != "ff"
                && (version != "00" || parts.next().is_none())
                && trace.len() == 32
                && span.len() == 16
                && flags.len() == 2
                && [version, trace, span, flags].into_iter().all(hex);
            let context = Self {
                trace_id: u128::from_str_radix(trace, 16).ok()?,
                span_id: u64::from_str_radix(span, 16).ok()?,
                flags: u8::from_str_radix(flags, 16).ok()?,
            };
            (shaped && context.trace_id != 0 && context.span_id != 0).then_some(context)
        };
        parse().ok_or_else(|| NotATraceparent(text.to_owned()))
    }
}
