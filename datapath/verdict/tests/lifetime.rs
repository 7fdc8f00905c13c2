//! Lifetimes as a table.

use weft_abi::conntrack::{DENIED, Flow, SENT, SENT_ACK, SENT_FIN, SENT_RESET};
use weft_verdict::{
    conntrack::{ICMP, SCTP, TCP, UDP},
    lifetime::{
        ANY, CLOSED, SCTP_ESTABLISHED, TCP_ESTABLISHED, TCP_HALF_CLOSED, TCP_OPENING, UDP_ANSWERED,
        is_expired, lifetime,
    },
};

fn flow(opener_sent: u8, target_sent: u8) -> Flow {
    Flow { opener_sent, target_sent, last_seen: 1_000, ..Flow::zeroed() }
}

#[test]
fn lifetimes() {
    let acked = SENT | SENT_ACK;
    let fin = acked | SENT_FIN;
    let cases = [
        ("a SYN nobody answered", TCP, flow(SENT, 0), TCP_OPENING),
        ("an answer nobody heard", TCP, flow(SENT, SENT), TCP_OPENING),
        ("established", TCP, flow(acked, SENT), TCP_ESTABLISHED),
        ("half closed by the opener", TCP, flow(fin, acked), TCP_HALF_CLOSED),
        ("half closed by who was called", TCP, flow(acked, fin), TCP_HALF_CLOSED),
        ("closed", TCP, flow(fin, fin), CLOSED),
        ("reset by who was called", TCP, flow(SENT, SENT | SENT_RESET), CLOSED),
        ("reset by the opener", TCP, flow(SENT | SENT_RESET, 0), CLOSED),
        ("a datagram", UDP, flow(SENT, 0), ANY),
        ("datagrams both ways", UDP, flow(SENT, SENT), UDP_ANSWERED),
        ("an association", SCTP, flow(acked, SENT), SCTP_ESTABLISHED),
        ("an association that shuts down", SCTP, flow(acked, fin), SCTP_ESTABLISHED),
        ("an association that was shut down", SCTP, flow(fin, fin), CLOSED),
        ("an association that was aborted", SCTP, flow(acked, SENT | SENT_RESET), CLOSED),
        ("an INIT nobody answered", SCTP, flow(SENT, 0), ANY),
        ("an INIT ACK nobody heard", SCTP, flow(SENT, SENT), ANY),
        ("an echo", ICMP, flow(SENT, SENT), ANY),
    ];
    for (name, protocol, flow, expected) in cases {
        assert_eq!(lifetime(protocol, &flow), expected, "{name}");
        let refused = Flow { flags: DENIED, ..flow };
        assert_eq!(lifetime(protocol, &refused), expected, "{name}, refused");
        assert!(!is_expired(protocol, &flow, 1_000 + expected), "{name}: its last second");
        assert!(is_expired(protocol, &flow, 1_001 + expected), "{name}: after it");
    }
}

#[test]
fn a_packet_after_the_clock_was_read_is_no_eternity() {
    assert!(!is_expired(UDP, &flow(SENT, 0), 999));
}
