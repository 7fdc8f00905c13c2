//! The states of a connection: the table of its transitions, and what no sequence of packets does.

use proptest::prelude::*;
use weft_abi::conntrack::{Flow, SENT, SENT_ACK, SENT_FIN, SENT_RESET};
use weft_verdict::{
    connection::{ACK, FIN, RST, SYN, State, after, opens, state},
    sctp,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Opener,
    Target,
}

/// A flow after these packets.
fn flow_after(packets: &[(End, u8)]) -> Flow {
    packets.iter().fold(Flow::zeroed(), |flow, (end, control)| match end {
        End::Opener => Flow { opener_sent: after(flow.opener_sent, *control), ..flow },
        End::Target => Flow { target_sent: after(flow.target_sent, *control), ..flow },
    })
}

#[test]
fn transitions() {
    use End::{Opener, Target};
    use State::{Answered, Closed, Established, HalfClosed, Opening, Reset};
    // How a connection comes to be in each state, and where each packet of either end takes it.
    let open = [(Opener, SYN), (Target, SYN | ACK), (Opener, ACK)];
    let before: [(State, Vec<(End, u8)>); 6] = [
        (Opening, vec![(Opener, SYN)]),
        (Answered, vec![(Opener, SYN), (Target, SYN | ACK)]),
        (Established, open.to_vec()),
        (HalfClosed, [&open[..], &[(Opener, FIN | ACK)]].concat()),
        (Closed, [&open[..], &[(Opener, FIN | ACK), (Target, FIN | ACK)]].concat()),
        (Reset, [&open[..], &[(Target, RST)]].concat()),
    ];
    let packets = [SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK];
    #[rustfmt::skip]
    let table = [
        // From the opener:  SYN          SYN ACK      ACK          FIN ACK      RST    RST ACK
        (Opening, Opener, [Opening,     Opening,     Opening,     Opening,     Reset, Reset]),
        (Answered, Opener, [Answered,    Answered,    Established, HalfClosed,  Reset, Reset]),
        (Established, Opener, [Established, Established, Established, HalfClosed,  Reset, Reset]),
        (HalfClosed, Opener, [HalfClosed,  HalfClosed,  HalfClosed,  HalfClosed,  Reset, Reset]),
        (Closed, Opener, [Closed,      Closed,      Closed,      Closed,      Reset, Reset]),
        // The target's reset stands, whatever the opener still sends.
        (Reset, Opener, [Reset,       Reset,       Reset,       Reset,       Reset, Reset]),
        // From the target.
        (Opening, Target, [Answered,    Answered,    Answered,    Answered,    Reset, Reset]),
        (Answered, Target, [Answered,    Answered,    Answered,    Answered,    Reset, Reset]),
        (Established, Target, [Established, Established, Established, HalfClosed,  Reset, Reset]),
        (HalfClosed, Target, [HalfClosed,  HalfClosed,  HalfClosed,  Closed,      Reset, Reset]),
        (Closed, Target, [Closed,      Closed,      Closed,      Closed,      Reset, Reset]),
        // Who reset it and goes on did not.
        (Reset, Target, [Established, Established, Established, HalfClosed,  Reset, Reset]),
    ];
    for (from, end, to) in table {
        let (_, way) = before.iter().find(|(state, _)| *state == from).expect("every state");
        assert_eq!(state(&flow_after(way)), from);
        for (control, expected) in packets.into_iter().zip(to) {
            let flow = flow_after(&[&way[..], &[(end, control)]].concat());
            assert_eq!(state(&flow), expected, "{from:?}, {control:#x} from {end:?}");
        }
    }
}

#[test]
fn what_opens_a_connection() {
    for (control, expected) in [
        (SYN, true),
        // With a payload, an option, or a FIN behind it.
        (SYN | 8, true),
        (SYN | FIN, true),
        (SYN | ACK, false),
        (SYN | RST, false),
        (ACK, false),
        (RST, false),
        (0, false),
    ] {
        assert_eq!(opens(control), expected, "{control:#x}");
    }
}

#[test]
fn an_association_lives_as_a_connection_does() {
    use End::{Opener, Target};
    const DATA: u8 = 0;
    const SACK: u8 = 3;
    const COOKIE_ECHO: u8 = 10;
    const COOKIE_ACK: u8 = 11;
    let steps = [
        (Opener, sctp::INIT, State::Opening),
        (Target, sctp::INIT_ACK, State::Answered),
        (Opener, COOKIE_ECHO, State::Established),
        (Target, COOKIE_ACK, State::Established),
        (Opener, DATA, State::Established),
        (Target, SACK, State::Established),
        (Target, sctp::SHUTDOWN, State::HalfClosed),
        (Opener, SACK, State::HalfClosed),
        (Opener, sctp::SHUTDOWN_ACK, State::Closed),
        (Target, sctp::SHUTDOWN_COMPLETE, State::Closed),
    ];
    let mut packets = Vec::new();
    for (end, chunk, expected) in steps {
        packets.push((end, sctp::control(chunk)));
        assert_eq!(state(&flow_after(&packets)), expected, "chunk {chunk} from {end:?}");
        let aborted = [&packets[..], &[(end, sctp::control(sctp::ABORT))]].concat();
        assert_eq!(state(&flow_after(&aborted)), State::Reset, "after chunk {chunk}");
    }
    let opening: Vec<u8> = (0..=255).filter(|chunk| opens(sctp::control(*chunk))).collect();
    assert_eq!(opening, [sctp::INIT]);
}

proptest! {
    /// Against the words: a connection is open when the target spoke and the opener acknowledged, and so on.
    #[test]
    fn the_state_is_what_the_packets_say(
        packets in prop::collection::vec((any::<bool>(), any::<u8>()), 1..30),
    ) {
        let packets: Vec<(End, u8)> = packets
            .into_iter()
            .map(|(opener, control)| (if opener { End::Opener } else { End::Target }, control))
            .collect();
        let of = |end: End| packets.iter().filter(move |(by, _)| *by == end).map(|(_, c)| *c);
        let given_up = |end| of(end).next_back().is_some_and(|control| control & RST != 0);
        let done = |end| of(end).any(|control| control & FIN != 0);
        let heard = of(End::Opener).any(|c| c & ACK != 0 && c & (SYN | RST) == 0);
        let spoke = of(End::Target).next().is_some();
        let expected = match () {
            () if given_up(End::Opener) || given_up(End::Target) => State::Reset,
            () if done(End::Opener) && done(End::Target) => State::Closed,
            () if !spoke => State::Opening,
            () if !heard => State::Answered,
            () if done(End::Opener) || done(End::Target) => State::HalfClosed,
            () => State::Established,
        };
        let flow = flow_after(&packets);
        prop_assert_eq!(state(&flow), expected);
        // What is written of an end fits the bits that there are.
        let bits = SENT | SENT_FIN | SENT_RESET | SENT_ACK;
        prop_assert_eq!((flow.opener_sent | flow.target_sent) & !bits, 0);
    }
}
