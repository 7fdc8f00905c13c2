//! The state of a connection, of TCP or SCTP, as the packets that passed tell it. No sequence numbers are followed: what
//! an end means is its own to judge; what is needed here is how long to remember, and what a packet may open.
//!
//! | state | since | forgotten after |
//! |---|---|---|
//! | `Opening` | the first packet | [`crate::lifetime::TCP_OPENING`] |
//! | `Answered` | the other end spoke | as `Opening`: who sends from addresses that are not its own gets this far |
//! | `Established` | the opener heard it | [`crate::lifetime::TCP_ESTABLISHED`] |
//! | `HalfClosed` | one end is done | [`crate::lifetime::TCP_HALF_CLOSED`] |
//! | `Closed` | both are | [`crate::lifetime::CLOSED`] |
//! | `Reset` | one gave it up, and went on saying so | [`crate::lifetime::CLOSED`] |

use weft_abi::conntrack::{Flow, SENT, SENT_ACK, SENT_FIN, SENT_RESET};

/// TCP's FIN flag as it stands in the header.
pub const FIN: u8 = 1;
/// TCP's SYN flag.
pub const SYN: u8 = 2;
/// TCP's RST flag.
pub const RST: u8 = 4;
/// TCP's ACK flag.
pub const ACK: u8 = 16;

/// How far FIN stands from [`SENT_FIN`]; RST stands where [`SENT_RESET`] does. Every packet of a connection passes here, so
/// that neither costs a branch.
const FIN_TO_SENT: u32 = 1;
const _: () = assert!(FIN << FIN_TO_SENT == SENT_FIN && RST == SENT_RESET);

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nobody answered.
    Opening,
    /// Answered, and the opener has not said that it heard.
    Answered,
    /// Open both ways.
    Established,
    /// One end sends no more.
    HalfClosed,
    /// Neither does.
    Closed,
    /// An end gave it up.
    Reset,
}

/// What an end has sent, after one more packet with these control bits.
#[inline(always)]
pub fn after(before: u8, control: u8) -> u8 {
    // Who gave a connection up sends nothing more of it: another packet of that end's says that the reset was not its own.
    let mut sent = before & !SENT_RESET | SENT | (control & FIN) << FIN_TO_SENT | control & RST;
    if control & (SYN | RST | ACK) == ACK {
        sent |= SENT_ACK;
    }
    sent
}

/// The state of a flow that is a connection.
#[inline(always)]
pub fn state(flow: &Flow) -> State {
    let (opener, target) = (flow.opener_sent, flow.target_sent);
    if (opener | target) & SENT_RESET != 0 {
        State::Reset
    } else if opener & target & SENT_FIN != 0 {
        State::Closed
    } else if target & SENT == 0 {
        State::Opening
    } else if opener & SENT_ACK == 0 {
        State::Answered
    } else if (opener | target) & SENT_FIN != 0 {
        State::HalfClosed
    } else {
        State::Established
    }
}

/// Whether a packet may be the first of a connection; another belongs to one that is older than the tables' memory of it.
#[inline(always)]
pub fn opens(control: u8) -> bool {
    control & (SYN | RST | ACK) == SYN
}
