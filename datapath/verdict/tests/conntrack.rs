//! The conntrack transition as a table.

use weft_abi::{
    address::{Addr4, NetPort},
    conntrack::{
        DENIED, ECHO_PORT, Flow, OPENER_HIGH, PATH_HOST, PATH_LOCAL, PATH_REMOTE, PATH_STACK, Path,
        SENT, SENT_ACK, SENT_FIN, SENT_RESET,
    },
};
use weft_verdict::{
    connection::{ACK, FIN, RST, SYN},
    conntrack::{
        ICMP, SCTP, Side, Step, TCP, TUPLE_ZERO, Tuple, UDP, begins_something,
        belongs_among_answered, from_opener, key, opens, sender_is_behind, sender_is_elsewhere,
        sent, step,
    },
};

fn tuple(protocol: u8, control: u8) -> Tuple {
    Tuple {
        source: Addr4::new([10, 0, 0, 1]),
        destination: Addr4::new([10, 0, 1, 2]),
        source_port: NetPort::from_host(40_000),
        destination_port: NetPort::from_host(80),
        policy_port: NetPort::from_host(80),
        protocol,
        control,
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

fn flow(epoch: u64, flags: u8) -> Flow {
    Flow { epoch, flags, ..Flow::zeroed() }
}

fn ended(epoch: u64, opener_sent: u8, target_sent: u8) -> Flow {
    Flow { epoch, opener_sent, target_sent, ..Flow::zeroed() }
}

/// An echo of the first host, as the parser reads it.
fn echo(kind: u8, id: u16) -> Tuple {
    let (id, asked) = (NetPort::from_host(id), NetPort::from_host(ECHO_PORT));
    let (source_port, destination_port) = if kind == 8 { (id, asked) } else { (asked, id) };
    let policy_port = NetPort::from_host(u16::from(kind));
    Tuple { source_port, destination_port, policy_port, ..tuple(ICMP, 0) }
}

/// The same packet from the other host.
fn from_the_other(t: Tuple) -> Tuple {
    Tuple { source: t.destination, destination: t.source, ..t }
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
fn two_who_ask_each_other_under_one_identifier_have_a_flow_each() {
    let (ask, reply) = (echo(8, 77), from_the_other(echo(0, 77)));
    assert_eq!(key(&ask).0, key(&reply).0, "a reply is of the flow of its request");
    assert_ne!(key(&ask).1, key(&reply).1);
    assert_ne!(key(&ask).0, key(&from_the_other(echo(8, 77))).0, "the other's own request is not");
    assert_ne!(key(&ask).0, key(&echo(8, 78)).0);
}

#[test]
fn steps() {
    let syn = tuple(TCP, SYN);
    let data = tuple(TCP, ACK);
    let syn_ack = tuple(TCP, SYN | ACK);
    let cases = [
        ("current", flow(7, 0), data, true, Step::Forward),
        ("current, an answer", flow(7, 0), syn_ack, false, Step::Forward),
        ("current, refused", flow(7, DENIED), data, true, Step::Refuse),
        ("older", flow(6, 0), data, true, Step::Rejudge),
        ("newer than read, so not believed either", flow(8, 0), data, true, Step::Rejudge),
        ("older and refused gets another chance", flow(6, DENIED), data, true, Step::Rejudge),
        ("a retransmitted SYN", flow(7, 0), syn, true, Step::Forward),
        ("a SYN after the opener's FIN", ended(7, SENT_FIN, 0), syn, true, Step::Reopen),
        ("a SYN after the target's FIN", ended(7, 0, SENT_FIN), syn, true, Step::Reopen),
        ("a SYN after a reset, stale", ended(6, SENT_RESET, 0), syn, true, Step::Reopen),
        ("a SYN from who was called answers nothing", flow(7, 0), syn, false, Step::Reopen),
        ("a SYN-ACK opens nothing", ended(7, SENT_RESET, 0), syn_ack, true, Step::Forward),
        (
            "an INIT after the association's end",
            ended(7, SENT_FIN, SENT_FIN),
            tuple(SCTP, SYN),
            true,
            Step::Reopen,
        ),
        ("an INIT from who was called", flow(7, 0), tuple(SCTP, SYN), false, Step::Reopen),
        ("UDP is never closing", ended(7, SENT, SENT), tuple(UDP, SYN), true, Step::Forward),
        ("an echo request goes on with its flow", flow(7, 0), echo(8, 1), true, Step::Forward),
        ("an echo reply too", flow(7, 0), echo(0, 1), false, Step::Forward),
        ("an echo request answers nothing", flow(7, 0), echo(8, 1), false, Step::Reopen),
    ];
    for (name, flow, tuple, from_opener, expected) in cases {
        assert_eq!(step(&flow, &tuple, from_opener, 7), expected, "{name}");
    }
}

#[test]
fn only_connections_have_packets_that_open_nothing() {
    for control in [SYN, SYN | ACK, ACK, RST, 0] {
        for protocol in [TCP, SCTP] {
            assert_eq!(opens(&tuple(protocol, control)), control == SYN, "{control:#x}");
            assert_eq!(begins_something(&tuple(protocol, control)), control != RST);
        }
        // Where the bits mean nothing, they are not looked at.
        assert!(opens(&tuple(UDP, control)) && begins_something(&tuple(UDP, control)));
    }
}

#[test]
fn what_a_packet_tells_of_its_sender() {
    for (before, control, expected) in [
        (0, SYN, SENT),
        (SENT, ACK, SENT | SENT_ACK),
        (SENT, FIN | ACK, SENT | SENT_FIN | SENT_ACK),
        (SENT | SENT_ACK, RST | ACK, SENT | SENT_ACK | SENT_RESET),
        (SENT | SENT_FIN | SENT_RESET, ACK, SENT | SENT_FIN | SENT_ACK),
    ] {
        for protocol in [TCP, SCTP] {
            assert_eq!(sent(before, &tuple(protocol, control)), expected, "{before} {control:#x}");
        }
        assert_eq!(sent(before, &tuple(UDP, control)), before | SENT);
    }
}

#[test]
fn a_connection_is_among_the_answered_while_it_is_open_both_ways() {
    let acked = SENT | SENT_ACK;
    for (opener, target, connection, datagrams) in [
        (SENT, 0, false, false),
        (SENT, SENT, false, true),
        (acked, SENT, true, true),
        (acked, SENT | SENT_FIN, true, true),
        (acked | SENT_FIN, SENT | SENT_FIN, false, true),
        (SENT, SENT | SENT_RESET, false, true),
        (acked | SENT_RESET, SENT, false, true),
    ] {
        let flow = ended(1, opener, target);
        for (protocol, expected) in [(TCP, connection), (SCTP, connection), (UDP, datagrams)] {
            let belongs = belongs_among_answered(protocol, &flow);
            assert_eq!(belongs, expected, "{protocol}: {opener} {target}");
        }
    }
}

#[test]
fn nobody_elsewhere_has_an_address_of_this_node() {
    for (kind, expected) in
        [(PATH_STACK, true), (PATH_REMOTE, true), (PATH_LOCAL, false), (PATH_HOST, false)]
    {
        let mut flow = flow(1, 0);
        flow.reply.kind = kind;
        flow.forward.kind = PATH_LOCAL;
        assert_eq!(sender_is_elsewhere(&flow, true), expected, "{kind}");
        assert!(!sender_is_elsewhere(&flow, false));
    }
}

#[test]
fn a_flow_tells_which_pod_sends_its_packets() {
    let mut flow = flow(1, 0);
    flow.reply = Path::local(71, [2; 6]);
    flow.forward = Path { to: 2, ..Path::remote(Addr4::zeroed()) };
    // The opener is behind 71; who is called is no pod of this node, whatever interface leads there.
    assert!(sender_is_behind(&flow, true, 71));
    assert!(!sender_is_behind(&flow, true, 72));
    assert!(!sender_is_behind(&flow, false, 71) && !sender_is_behind(&flow, false, 2));
}
