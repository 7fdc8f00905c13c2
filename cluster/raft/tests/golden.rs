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
    Answer, Body, Change, Chunk, Entry, Envelope, Group, Hello, Kind, Malformed, MemberId, Origin,
    PEER_VERSION, PeerMessage, RaftMessage, decode, encode,
};
use weft_types::codec;

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

fn hello() -> Hello {
    Hello {
        version: PEER_VERSION,
        cluster: "blue".to_owned(),
        generation: 2,
        from: MemberId(1),
        to: MemberId(2),
        address: "10.0.0.1:4901".to_owned(),
    }
}

fn bytes_of(message: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode_into(message, &mut bytes).unwrap();
    bytes
}

#[test]
fn the_bytes_of_messages_are_these() {
    let mut text = format!("version {PEER_VERSION}\n");
    let mut samples: Vec<(&str, Vec<u8>)> = samples()
        .into_iter()
        .map(|(name, message)| {
            let envelope = Envelope { from: MemberId(1), to: MemberId(2), message };
            let bytes = encode(&envelope).unwrap();
            assert_eq!(decode::<Envelope>(&bytes).unwrap(), envelope);
            (name, bytes)
        })
        .collect();
    samples.push(("hello", bytes_of(&hello())));
    samples.push(("welcome", bytes_of(&Answer::Welcome(1))));
    samples.push(("refused", bytes_of(&Answer::Refused("no".to_owned()))));
    for (name, bytes) in samples {
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
    let newer = PEER_VERSION + 1;
    assert_eq!(decode::<Envelope>(&[newer, 0]), Err(Malformed::Version(newer)));
    assert!(matches!(decode::<Envelope>(&[]), Err(Malformed::Unreadable(_))));
    for (_, message) in samples() {
        let envelope = Envelope { from: MemberId(1), to: MemberId(2), message };
        let bytes = encode(&envelope).unwrap();
        for length in 1..bytes.len() {
            assert!(decode::<Envelope>(&bytes[..length]).is_err(), "cut at {length}");
        }
    }
}

#[test]
fn the_lower_version_is_spoken_and_strangers_are_told_why_not() {
    let answer = |hello: &Hello| hello.answer("blue", 2, MemberId(2));
    for version in [2, 6, PEER_VERSION, 9] {
        let welcome = Answer::Welcome(PEER_VERSION.min(version));
        assert_eq!(answer(&Hello { version, ..hello() }), welcome);
    }
    let strangers = [
        (Hello { cluster: "red".to_owned(), ..hello() }, "cluster blue, not red"),
        (Hello { generation: 1, ..hello() }, "generation 2, not 1"),
        (Hello { to: MemberId(3), ..hello() }, "member 2, not 3"),
        (Hello { version: 1, ..hello() }, "version 1, this operator 2 to"),
    ];
    for (hello, why) in strangers {
        let Answer::Refused(said) = answer(&hello) else { panic!("{why}") };
        assert!(said.contains(why), "{said}");
    }
}
