//! What becomes of ICMP errors, as a table, and beside the packets of the same flow.

use proptest::prelude::*;
use weft_abi::{
    address::{Addr4, NetPort},
    conntrack::{DENIED, ECHO_PORT, Flow, OPENER_HIGH, SENT, SENT_FIN, SENT_RESET},
};
use weft_verdict::{
    connection::ACK,
    conntrack::{ICMP, Step, TCP, TUPLE_ZERO, Tuple, UDP, step},
    related::{Report, is_addressed, is_error, may_report, report},
};

#[test]
fn errors_by_type() {
    let errors: Vec<u8> = (0..=255).filter(|kind| is_error(*kind)).collect();
    // Not the replies, not the deprecated source quench (4), not the redirect (5).
    assert_eq!(errors, [3, 11, 12]);
}

fn quoted(protocol: u8) -> Tuple {
    Tuple { protocol, ..TUPLE_ZERO }
}

#[test]
fn reports() {
    let flow = |epoch, flags| Flow { epoch, flags, ..Flow::zeroed() };
    let over = Flow { opener_sent: SENT_RESET, ..flow(7, 0) };
    let (id, asked) = (NetPort::from_host(5), NetPort::from_host(ECHO_PORT));
    let echo = Tuple {
        source_port: id,
        destination_port: asked,
        policy_port: NetPort::from_host(8),
        ..quoted(ICMP)
    };
    for (name, flow, quoted, from_opener, expected) in [
        ("about the opener's packet", flow(7, 0), quoted(UDP), true, Report::Forward),
        ("about an answer", flow(7, 0), quoted(UDP), false, Report::Forward),
        ("about a connection that is over", over, quoted(TCP), true, Report::Forward),
        ("about what was refused", flow(7, DENIED), quoted(UDP), true, Report::Refuse),
        ("about a flow of another epoch", flow(6, 0), quoted(UDP), true, Report::Rejudge),
        ("refused in another epoch", flow(6, DENIED), quoted(UDP), true, Report::Rejudge),
        ("about an echo request", flow(7, 0), echo, true, Report::Forward),
        ("about one that the flow is not of", flow(7, 0), echo, false, Report::Unrelated),
    ] {
        assert_eq!(report(&flow, &quoted, from_opener, 7), expected, "{name}");
    }
}

#[test]
fn who_may_report_and_to_whom() {
    let [a, b, c] = [1, 2, 3].map(|n| Addr4::new([10, 0, 0, n]));
    let between = |source, destination| Tuple { source, destination, ..TUPLE_ZERO };
    let packet = between(a, b);
    assert!(may_report(&between(b, a), &packet), "who was called");
    assert!(!may_report(&between(c, a), &packet), "a stranger");
    assert!(!may_report(&between(a, a), &packet), "the sender itself");
    assert!(is_addressed(&between(c, a), &packet), "a router tells the sender");
    assert!(!is_addressed(&between(b, c), &packet), "not somebody else");
}

proptest! {
    /// An error passes, is refused or is judged again exactly as the next packet of the flow would be.
    #[test]
    fn an_error_fares_as_its_flow_does(
        epoch in 6_u64..9,
        flags in prop::sample::select(vec![0, DENIED, OPENER_HIGH, OPENER_HIGH | DENIED]),
        sent: (u8, u8),
        protocol in prop::sample::select(vec![TCP, UDP, 132]),
        from_opener: bool,
    ) {
        let bits = SENT | SENT_FIN | SENT_RESET;
        let flow = Flow {
            epoch,
            flags,
            opener_sent: sent.0 & bits,
            target_sent: sent.1 & bits,
            ..Flow::zeroed()
        };
        let next = Tuple { control: ACK, ..quoted(protocol) };
        let expected = match step(&flow, &next, from_opener, 7) {
            Step::Forward => Report::Forward,
            Step::Refuse => Report::Refuse,
            Step::Rejudge => Report::Rejudge,
            Step::Reopen => Report::Unrelated,
        };
        prop_assert_eq!(report(&flow, &quoted(protocol), from_opener, 7), expected);
    }
}
