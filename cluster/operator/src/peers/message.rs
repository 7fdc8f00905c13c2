//! What operators say to each other. In bytes it is a version and then bincode; `tests/peers.txt` holds some.

use crate::progress::Rows;
use serde::{Deserialize, Serialize};
use weft_raft::Envelope;

/// One frame between operators. Whose it is, the connection's certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Say {
    /// Consensus.
    Consensus(Envelope),
    /// What the speaker knows of its own agents; all of it is the first thing on a connection.
    Agents(Rows),
    /// A call of the speaker's admin socket that whoever leads has to answer.
    Ask {
        /// What its answer is known by.
        number: u64,
        /// The call, as JSON.
        #[serde(with = "serde_bytes")]
        call: Vec<u8>,
    },
    /// The answer to an [`Say::Ask`].
    Answer {
        /// The question's number.
        number: u64,
        /// The answer.
        answer: Told,
    },
}

/// What is answered to an operator that asks another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// Nothing was done, since who was asked does not lead.
    NotLeading,
    /// What its admin socket would have answered, as JSON.
    Reply(#[serde(with = "serde_bytes")] Vec<u8>),
}
