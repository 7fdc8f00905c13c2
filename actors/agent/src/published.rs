//! What an operator published, on its way through the actors.

use crate::Refusal;
use actix::Message;
use std::sync::Arc;
use weft_types::{Delta, Revision};

/// Bring this actor, and what it owns in the kernel, to a revision.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Advance {
    /// The revision.
    pub revision: Revision,
    /// Whether `deltas` is the whole state: what it does not name does not exist.
    pub snapshot: bool,
    /// The changes.
    pub deltas: Arc<Vec<Delta>>,
}
