//! Why a call failed, as runtimes are told.

use crate::version::Version;
use serde_json::{Value, json};

/// Error codes: below 100 the specification's own (and `skel`'s, which its reference plugins share), from 100 on ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The configuration's `cniVersion` is not spoken here, or has no such command.
    IncompatibleVersion = 1,
    /// The container is not known here: it needs no clean-up.
    UnknownContainer = 3,
    /// A variable of the environment is missing or malformed.
    InvalidEnvironment = 4,
    /// Reading or writing failed.
    Io = 5,
    /// Standard input is no configuration.
    Decode = 6,
    /// The configuration contradicts itself or lacks something.
    InvalidConfig = 7,
    /// `CNI_NETNS` is no network namespace, or not a container's.
    InvalidNetns = 8,
    /// Not now; the same call may succeed later.
    TryAgain = 11,
    /// STATUS: no ADD would succeed.
    NotAvailable = 50,
    /// STATUS: no ADD would succeed, and pods that are plugged may lack connectivity.
    Limited = 51,
    /// The agent failed.
    Agent = 100,
    /// CHECK found a difference.
    Different = 101,
}

/// Why a call failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CniError {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl CniError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The JSON that goes to standard output.
    pub(crate) fn json(&self, version: Version) -> Value {
        json!({ "cniVersion": version.as_str(), "code": self.code as u32, "msg": self.message })
    }
}
