//! How long a flow is remembered after its last packet, by protocol and state.

use crate::{
    connection::{State, state},
    conntrack::{SCTP, TCP, UDP},
};
use weft_abi::conntrack::{Flow, SENT};

/// Seconds of a TCP connection that is open both ways: Cilium's `bpf-ct-timeout-regular-tcp`.
pub const TCP_ESTABLISHED: u32 = 8_000;
/// Seconds of a TCP connection that nobody answered, or whose answer nobody heard: Cilium's `bpf-ct-timeout-regular-tcp-syn`.
pub const TCP_OPENING: u32 = 60;
/// Seconds of a TCP connection that one end closed: OpenBSD's `tcp.closing` (pf.conf(5)). The other may still send.
pub const TCP_HALF_CLOSED: u32 = 900;
/// Seconds of a connection that both ends closed or one gave up: Cilium's `bpf-ct-timeout-regular-tcp-fin`.
pub const CLOSED: u32 = 10;
/// Seconds of an SCTP association that is open: Linux's `nf_conntrack_sctp_timeout_established`,
/// seven of its heartbeats.
pub const SCTP_ESTABLISHED: u32 = 210;
/// Seconds of a UDP exchange that was answered: Linux's `nf_conntrack_udp_timeout_stream`.
pub const UDP_ANSWERED: u32 = 120;
/// Seconds of everything else: Cilium's `bpf-ct-timeout-regular-any`.
pub const ANY: u32 = 60;

/// Seconds after its last packet that a flow of this protocol is remembered. A refused flow lives as
/// long as it would have: while it is remembered, the other end's packets cannot open it in reverse.
pub fn lifetime(protocol: u8, flow: &Flow) -> u32 {
    match (protocol, state(flow)) {
        (TCP | SCTP, State::Closed | State::Reset) => CLOSED,
        (TCP, State::Opening | State::Answered) => TCP_OPENING,
        (TCP, State::Established) => TCP_ESTABLISHED,
        (TCP, State::HalfClosed) => TCP_HALF_CLOSED,
        (SCTP, State::Established | State::HalfClosed) => SCTP_ESTABLISHED,
        (UDP, _) if flow.target_sent & SENT != 0 => UDP_ANSWERED,
        _ => ANY,
    }
}

/// Whether the flow may be forgotten at `now`, in seconds of the clock that stamps flows.
pub fn is_expired(protocol: u8, flow: &Flow, now: u32) -> bool {
    // A packet that came after `now` was read makes the difference negative: not expired.
    let idle = now.wrapping_sub(flow.last_seen) as i32;
    idle > lifetime(protocol, flow) as i32
}
