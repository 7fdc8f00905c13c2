//! Bytes that peers of one release and of the next must agree on. Whoever changes them raises `PEER_VERSION`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use std::fmt::Write;
use weft_raft::{
    Body, Change, Chunk, Entry, Envelope, Group, Kind, Malformed, MemberId, Origin, PEER_VERSION,
    PeerMessage, RaftMessage, decode, encode,
};

fn samples() -> Vec<(&'static str, PeerMessage)> {
    let origin = Origin { member: MemberId(2), life: 7, sequence: 300 };
    let bodies = [
        Body::Noop,
        Body::Command(origin, b"command".to_vec()),
        Body::Change(origin, Change::AddLearner(MemberId(4), "10.0.0.4:4901".to_owned())),
        Body::Change(origin, Change::Promote(MemberId(4))),
        Body::Change(origin, Change::Remove(MemberId(1))),
    ];
    let entries = (11..).zip(bodies).map(|(index, body)| Entry { index, term: 3, body });
    let append = RaftMessage {
        kind: Kind::Append,
        term: 3,
        log_term: 2,
        index: 10,
        commit: 9,
        commit_term: 2,
        reject: false,
        reject_hint: 0,
        request_snapshot: 0,
        context: Vec::new(),
        entries: entries.collect(),
    };
    let refusal = RaftMessage {
        kind: Kind::AppendResponse,
        reject: true,
        reject_hint: 70_000,
        entries: Vec::new(),
        context: b"ctx".to_vec(),
        ..append.clone()
    };
    let group = Group::of_voters([(MemberId(1), "10.0.0.1:4901".to_owned())]);
    let bytes = b"state".to_vec();
    let chunk = Chunk { leader_term: 3, index: 10, term: 2, group, total: 9, offset: 4, bytes };
    let commands = vec![b"a".to_vec(), b"bc".to_vec()];
    vec![
        ("append", PeerMessage::Raft(append)),
        ("refusal", PeerMessage::Raft(refusal)),
        ("propose", PeerMessage::Propose { term: 3, life: 7, first: 300, commands }),
        ("chunk", PeerMessage::Chunk(chunk)),
        ("chunk taken", PeerMessage::ChunkTaken { index: 10, offset: 9 }),
    ]
}

#[test]
fn the_bytes_of_messages_are_these() {
    let mut text = format!("version {PEER_VERSION}\n");
    for (name, message) in samples() {
        let envelope = Envelope { from: MemberId(1), to: MemberId(2), message };
        let bytes = encode(&envelope).unwrap();
        assert_eq!(decode(&bytes).unwrap(), envelope);
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        writeln!(text, "{name}: {hex}").unwrap();
    }
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(golden).unwrap(), "UPDATE=1 writes the new bytes");
}

#[test]
fn what_is_no_message_is_an_error() {
    assert_eq!(decode(&[2, 0]), Err(Malformed::Version(2)));
    assert!(matches!(decode(&[]), Err(Malformed::Unreadable(_))));
    for (_, message) in samples() {
        let envelope = Envelope { from: MemberId(1), to: MemberId(2), message };
        let bytes = encode(&envelope).unwrap();
        for length in 1..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "cut at {length}");
        }
    }
}
