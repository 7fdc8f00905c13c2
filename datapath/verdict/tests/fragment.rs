//! Fragments as a table, and in any order.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use proptest::prelude::*;
use std::collections::HashMap;
use weft_abi::{
    address::{Addr4, NetPort},
    fragment::{FragmentKey4, Fragmented},
};
use weft_verdict::{
    conntrack::{ICMP, TCP, TUPLE_ZERO, Tuple, UDP},
    fragment::{LIFETIME, Piece, datagram, find, first, is_over, latest, piece},
};

#[test]
fn pieces() {
    const MORE: u16 = 0x2000;
    const DO_NOT: u16 = 0x4000;
    for (name, word, protocol, expected) in [
        ("whole", 0, UDP, Piece::Whole),
        ("whole, not to be fragmented", DO_NOT, TCP, Piece::Whole),
        ("first", MORE, UDP, Piece::First),
        ("first, though it must not be one", MORE | DO_NOT, UDP, Piece::First),
        ("in the middle", MORE | 185, UDP, Piece::Later),
        ("last", 185, TCP, Piece::Later),
        ("farthest", 0x1fff, ICMP, Piece::Later),
        ("over TCP's flags", 1, TCP, Piece::Overlapping),
        ("over TCP's flags, with more", MORE | 1, TCP, Piece::Overlapping),
        ("behind TCP's flags", 2, TCP, Piece::Later),
        ("UDP's header ends before it", 1, UDP, Piece::Later),
    ] {
        assert_eq!(piece(word, protocol), expected, "{name}");
    }
}

#[test]
fn a_first_fragment_is_remembered_for_its_time() {
    let known = first(&TUPLE_ZERO, [0; 2], 1_000);
    assert!(!is_over(&known, 1_000 + LIFETIME));
    assert!(is_over(&known, 1_001 + LIFETIME));
    assert!(!is_over(&known, 999), "it came after the clock was read");
    // The clock's word goes around after 136 years of running.
    assert!(!is_over(&first(&TUPLE_ZERO, [0; 2], u32::MAX), 3));
}

/// A fragment: who, to whom, protocol, which datagram, whose ports, first or not, and after how many seconds.
type Drawn = (u8, u8, bool, u8, u8, bool, u8);

fn tuple((source, destination, tcp, _, port, ..): Drawn) -> Tuple {
    let port = NetPort::from_host(u16::from(port));
    Tuple {
        source: Addr4::new([10, 0, 0, source % 2]),
        destination: Addr4::new([10, 0, 1, destination % 2]),
        source_port: port,
        destination_port: port,
        policy_port: port,
        protocol: if tcp { TCP } else { UDP },
        control: 0,
    }
}

proptest! {
    /// Against a list of everything that came, searched from its end.
    #[test]
    fn a_fragment_is_of_its_first_else_of_the_latest_between_its_ends(
        drawn in prop::collection::vec(any::<Drawn>(), 1..80),
    ) {
        let mut table: HashMap<FragmentKey4, Fragmented> = HashMap::new();
        let mut seen: Vec<(Tuple, u16, u32)> = Vec::new();
        let mut now = 5;
        for draw in drawn {
            now += u32::from(draw.6 % 16);
            let (tuple, id, is_first) = (tuple(draw), u16::from(draw.3 % 3), draw.5);
            if is_first {
                let said = first(&tuple, [0; 2], now);
                table.insert(datagram(&tuple, id), said);
                table.insert(latest(&tuple), said);
                seen.push((tuple, id, now));
                continue;
            }
            let ends = |t: &Tuple| (t.source, t.destination, t.protocol);
            let between = || {
                let fresh = |at: &u32| now - at <= LIFETIME;
                seen.iter().rev().filter(move |(t, _, at)| ends(t) == ends(&tuple) && fresh(at))
            };
            // Its own identification's latest first fragment, unless that is too long ago.
            let own = between().find(|(_, other, _)| *other == id);
            let expected = own.or_else(|| between().next()).map(|(t, ..)| t.destination_port);
            let found = find(&tuple, id, now, |key| table.get(key).copied());
            prop_assert_eq!(found.map(|f| f.destination_port), expected);
        }
    }
}
