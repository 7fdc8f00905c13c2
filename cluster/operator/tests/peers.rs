//! Bytes that operators of one release and of the next must agree on. Whoever changes them raises `PEER_VERSION`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use std::fmt::Write;
use weft_operator::{
    peers::message::{Say, Told},
    progress::{Row, Rows, SessionId},
};
use weft_raft::{Envelope, MemberId, PEER_VERSION, PeerMessage, decode, encode};
use weft_types::{NodeName, Revision};

fn samples() -> Vec<(&'static str, Say)> {
    let message = PeerMessage::ChunkTaken { index: 10, offset: 9 };
    let node = |name: &str| NodeName(name.to_owned());
    let here = Row {
        session: SessionId(7),
        left: None,
        held: Some(Revision::new(1, 9)),
        refused: Some((Revision::new(1, 10), "no room".to_owned())),
    };
    let away = Row { left: Some(Revision::new(1, 8)), held: None, refused: None, ..here.clone() };
    let rows = vec![(node("node1"), here), (node("node2"), away)];
    vec![
        ("consensus", Say::Consensus(Envelope { from: MemberId(1), to: MemberId(2), message })),
        ("agents", Say::Agents(Rows { all: true, rows })),
        ("no agents", Say::Agents(Rows::default())),
        ("ask", Say::Ask { number: 300, call: b"{}".to_vec() }),
        ("answer", Say::Answer { number: 300, answer: Told::Reply(b"{}".to_vec()) }),
        ("not leading", Say::Answer { number: 300, answer: Told::NotLeading }),
    ]
}

#[test]
fn the_bytes_of_what_operators_say_are_these() {
    let mut text = format!("version {PEER_VERSION}\n");
    for (name, say) in samples() {
        let bytes = encode(&say).unwrap();
        assert_eq!(decode::<Say>(&bytes).unwrap(), say, "{name}");
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        writeln!(text, "{name}: {hex}").unwrap();
    }
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(golden).unwrap(), "UPDATE=1 writes the new bytes");
}

#[test]
fn what_is_cut_off_is_an_error() {
    for (name, say) in samples() {
        let bytes = encode(&say).unwrap();
        for length in 0..bytes.len() {
            assert!(decode::<Say>(&bytes[..length]).is_err(), "{name} cut at {length}");
        }
    }
}
