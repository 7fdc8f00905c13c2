//! What SCTP's chunks mean for a connection, in TCP's control bits. One pair of addresses is a flow: an association of
//! many homes is one flow for each pair, and those that were not opened by an INIT are counted as from the middle.

use crate::connection::{ACK, FIN, RST, SYN};

/// Types of chunks (RFC 9260 §3.2).
pub const INIT: u8 = 1;
/// Answers an [`INIT`].
pub const INIT_ACK: u8 = 2;
/// Ends the association at once.
pub const ABORT: u8 = 6;
/// Its sender sends no more data.
pub const SHUTDOWN: u8 = 7;
/// Answers a [`SHUTDOWN`].
pub const SHUTDOWN_ACK: u8 = 8;
/// Answers a [`SHUTDOWN_ACK`].
pub const SHUTDOWN_COMPLETE: u8 = 14;

/// The control bits of a packet by its first chunk. What opens or ends an association comes alone, but for an ABORT or a
/// SHUTDOWN behind other chunks: that one is remembered for longer than need be.
#[inline(always)]
pub fn control(chunk: u8) -> u8 {
    match chunk {
        INIT => SYN,
        INIT_ACK => SYN | ACK,
        ABORT => RST,
        SHUTDOWN | SHUTDOWN_ACK | SHUTDOWN_COMPLETE => FIN | ACK,
        _ => ACK,
    }
}
