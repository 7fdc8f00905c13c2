//! ICMP errors: a router or a host says that a packet did not arrive. Each quotes the packet, and so belongs to its flow.

use crate::conntrack::{self, Step, Tuple};
use weft_abi::conntrack::Flow;

/// "Destination unreachable", with "fragmentation needed" among its codes (RFC 792, RFC 1191).
pub const UNREACHABLE: u8 = 3;
/// "Time exceeded" (RFC 792).
pub const TIME_EXCEEDED: u8 = 11;
/// "Parameter problem" (RFC 792).
pub const PARAMETER_PROBLEM: u8 = 12;

/// Whether an ICMP type is an error about a packet. A redirect quotes one too, but says where to send the next: nobody
/// who is one hop from every other needs it, and it is judged as any other ICMP.
#[inline(always)]
pub fn is_error(kind: u8) -> bool {
    matches!(kind, UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM)
}

/// What to do with an error about a packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The flow was judged in this epoch: the error goes to who sent the packet.
    Forward,
    /// It was refused in this epoch, and so is the error.
    Refuse,
    /// It was judged in another epoch: judge it again first.
    Rejudge,
    /// No packet of this flow is quoted: it could only have opened another.
    Unrelated,
}

/// What the flow under the quoted packet's key makes of the error.
#[inline(always)]
pub fn report(flow: &Flow, quoted: &Tuple, from_opener: bool, epoch: u64) -> Report {
    match conntrack::step(flow, quoted, from_opener, epoch) {
        Step::Forward => Report::Forward,
        Step::Refuse => Report::Refuse,
        Step::Rejudge => Report::Rejudge,
        Step::Reopen => Report::Unrelated,
    }
}

/// Whether a pod may report a packet: one that was sent to it. It forwards nothing, so it knows of no other.
#[inline(always)]
pub fn may_report(reporter: &Tuple, quoted: &Tuple) -> bool {
    reporter.source == quoted.destination
}

/// Whether an error goes to who sent the packet that it quotes.
#[inline(always)]
pub fn is_addressed(error: &Tuple, quoted: &Tuple) -> bool {
    error.destination == quoted.source
}
