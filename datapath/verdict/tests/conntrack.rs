//! The conntrack transition as a table.

use weft_abi::{
    address::{Addr4, NetPort},
    conntrack::{ANSWERED, DENIED, Flow, OPENER_FIN, OPENER_HIGH, RESET, TARGET_FIN},
};
use weft_verdict::conntrack::{
    Side, Step, TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, TUPLE_ZERO, Tuple, UDP, flags_after,
    from_opener, key, step,
};

fn tuple(protocol: u8, tcp_flags: u8) -> Tuple {
    Tuple {
        source: Addr4::new([10, 0, 0, 1]),
        destination: Addr4::new([10, 0, 1, 2]),
        source_port: NetPort::from_host(40_000),
        destination_port: NetPort::from_host(80),
        policy_port: NetPort::from_host(80),
        protocol,
        tcp_flags,
    }
}

fn reversed(t: Tuple) -> Tuple {
    Tuple {
        source: t.destination,
        destination: t.source,
        source_port: t.destination_port,
        destination_port: t.source_port,
        policy_port: t.source_port,
        ..t
    }
}

fn flow(epoch: u64, flags: u32) -> Flow {
    Flow { epoch, flags, ..Flow::zeroed() }
}

#[test]
fn both_directions_share_a_key_and_tell_their_sides() {
    let forth = tuple(TCP, 0);
    let (key_forth, side_forth) = key(&forth);
    let (key_back, side_back) = key(&reversed(forth));
    assert_eq!(key_forth, key_back);
    assert_eq!((side_forth, side_back), (Side::Low, Side::High));
    // Bytes 9 and 10 order as numbers of the network's order, whatever the host's.
    let lower = Tuple { source: Addr4::new([9, 255, 255, 255]), ..forth };
    assert_eq!(key(&lower).1, Side::Low);
    assert_ne!(key(&tuple(UDP, 0)).0, key_forth);
    assert_eq!(key(&TUPLE_ZERO).0.protocol, 0);
}

#[test]
fn the_opener_is_the_side_that_the_flow_names() {
    for (flags, side, expected) in [
        (0, Side::Low, true),
        (0, Side::High, false),
        (OPENER_HIGH, Side::Low, false),
        (OPENER_HIGH, Side::High, true),
    ] {
        assert_eq!(from_opener(&flow(1, flags), side), expected, "{flags} {side:?}");
    }
}

#[test]
fn steps() {
    let syn = tuple(TCP, TCP_SYN);
    let data = tuple(TCP, TCP_ACK);
    let syn_ack = tuple(TCP, TCP_SYN | TCP_ACK);
    let cases = [
        ("current", flow(7, 0), data, Step::Forward),
        ("current, refused", flow(7, DENIED), data, Step::Refuse),
        ("older", flow(6, 0), data, Step::Rejudge),
        ("newer than read, so not believed either", flow(8, 0), data, Step::Rejudge),
        ("older and refused gets another chance", flow(6, DENIED), data, Step::Rejudge),
        ("a retransmitted SYN", flow(7, 0), syn, Step::Forward),
        ("a SYN after the opener's FIN", flow(7, OPENER_FIN), syn, Step::Reopen),
        ("a SYN after the target's FIN", flow(7, TARGET_FIN), syn, Step::Reopen),
        ("a SYN after a reset, stale", flow(6, RESET), syn, Step::Reopen),
        ("a SYN-ACK opens nothing", flow(7, RESET), syn_ack, Step::Forward),
        ("UDP opens nothing again", flow(7, RESET), tuple(UDP, TCP_SYN), Step::Forward),
    ];
    for (name, flow, tuple, expected) in cases {
        assert_eq!(step(&flow, &tuple, 7), expected, "{name}");
    }
}

#[test]
fn flags_gather_what_packets_tell() {
    let before = flow(1, OPENER_HIGH);
    for (opener, tcp_flags, expected) in [
        (true, TCP_ACK, 0),
        (false, TCP_ACK, ANSWERED),
        (true, TCP_FIN, OPENER_FIN),
        (false, TCP_FIN, ANSWERED | TARGET_FIN),
        (true, TCP_RST, RESET),
    ] {
        let after = flags_after(&before, opener, &tuple(TCP, tcp_flags));
        assert_eq!(after, OPENER_HIGH | expected, "{opener} {tcp_flags}");
    }
    assert_eq!(flags_after(&before, true, &tuple(UDP, TCP_FIN)), OPENER_HIGH);
}
