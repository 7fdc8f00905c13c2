//! Frames: their bytes, and bytes that are none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, fmt::Debug};
use weft_types::{
    Delta, Identity, LabelSet, NamespacedName, Node, NodeName, PodEndpoint, Policy, Revision,
    Selector, Source, Workload,
    policy::{IpBlock, Isolation, Peer, Peers, PolicyId, PolicyKind, Port, Ports, Protocol, Rule},
};
use weft_wire::{
    ToAgent, ToOperator, VERSIONS,
    frame::{
        FRAME_MAX, FrameError, decode, encode, encode_in, receive, receive_greeting, receive_within,
    },
};

fn endpoint() -> PodEndpoint {
    PodEndpoint {
        name: NamespacedName::new("shop", "web-0"),
        address: [10, 244, 1, 7].into(),
        identity: Identity(256),
        node: NodeName("node1".to_owned()),
    }
}

fn policy() -> Policy {
    let peers = Peers::Only(vec![
        Peer::Pods(Selector::default()),
        Peer::Block(IpBlock {
            cidr: "10.0.0.0/8".parse().unwrap(),
            except: vec!["10.1.0.0/16".parse().unwrap()],
        }),
    ]);
    let ports = Ports::Only(vec![
        Port::Protocol(Protocol::Sctp),
        Port::Range { protocol: Protocol::Tcp, first: 80, last: 443 },
        Port::Named { protocol: Protocol::Udp, name: "dns".to_owned() },
    ]);
    Policy {
        id: PolicyId { kind: PolicyKind::NetworkPolicy, name: NamespacedName::new("shop", "web") },
        subject: Selector::default(),
        ingress: Isolation::Isolated(vec![
            Rule { peers, ports },
            Rule { peers: Peers::Anyone, ports: Ports::All },
        ]),
        egress: Isolation::Open,
    }
}

fn deltas() -> Vec<Delta> {
    let mut labels = LabelSet::new();
    labels.insert(Source::K8s, "app", "web");
    labels.insert(Source::Gen, "ports", "http=TCP/80");
    let node = Node {
        name: NodeName("node1".to_owned()),
        address: [172, 30, 0, 11].into(),
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
    };
    let workload =
        Workload { name: endpoint().name, node: node.name.clone(), identity: Identity(256) };
    vec![
        Delta::IdentityUpsert(Identity(256), labels),
        Delta::IdentityDelete(Identity(257)),
        Delta::NodeDelete(node.name.clone()),
        Delta::NodeUpsert(node),
        Delta::WorkloadDelete(workload.name.clone()),
        Delta::WorkloadUpsert(workload),
        Delta::EndpointUpsert(endpoint()),
        Delta::EndpointDelete([10, 244, 1, 7].into()),
        Delta::PolicyDelete(policy().id),
        Delta::PolicyUpsert(policy()),
    ]
}

fn to_operator() -> Vec<(&'static str, ToOperator)> {
    let node = NodeName("node1".to_owned());
    let revision = Revision::new(1, 2);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok();
    vec![
        (
            "hello",
            ToOperator::Hello {
                node: node.clone(),
                session: 7,
                held: None,
                from: None,
                identities: vec![],
                asked: vec![],
            },
        ),
        (
            "hello-held",
            ToOperator::Hello {
                node,
                session: 300,
                held: Some(revision),
                from: Some(revision),
                identities: vec![Identity(256), Identity(70_000)],
                asked: vec![[10, 244, 1, 9].into()],
            },
        ),
        ("acknowledge", ToOperator::Acknowledge { revision, trace }),
        ("acknowledge-again", ToOperator::Acknowledge { revision, trace: None }),
        ("endpoint-plugged", ToOperator::EndpointPlugged { endpoint: endpoint(), trace }),
        (
            "endpoint-unplugged",
            ToOperator::EndpointUnplugged { address: endpoint().address, trace },
        ),
        (
            "endpoints-are",
            ToOperator::EndpointsAre { endpoints: vec![([10, 244, 1, 7].into(), Identity(256))] },
        ),
        ("pong", ToOperator::Pong),
        ("who", ToOperator::Who { addresses: vec![[10, 244, 1, 9].into()] }),
        ("behind", ToOperator::Behind { revision, reason: "why".to_owned() }),
    ]
}

fn to_agent() -> Vec<(String, ToAgent)> {
    let revision = Revision::new(1, 2);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok();
    let mut all = vec![
        ("welcome".to_owned(), ToAgent::Welcome { cluster: "blue".to_owned(), revision }),
        ("refused".to_owned(), ToAgent::Refused { reason: "why".to_owned() }),
        ("snapshot-begin".to_owned(), ToAgent::SnapshotBegin),
        ("snapshot-end".to_owned(), ToAgent::SnapshotEnd { revision }),
        ("ping".to_owned(), ToAgent::Ping),
        ("stale".to_owned(), ToAgent::Stale { session: 300 }),
        ("deltas".to_owned(), ToAgent::Deltas { revision, deltas: vec![], trace }),
        (
            "spread".to_owned(),
            ToAgent::Spread {
                address: endpoint().address,
                behind: vec![NodeName("node2".to_owned())],
            },
        ),
    ];
    all.extend(deltas().into_iter().enumerate().map(|(number, delta)| {
        let message = ToAgent::Deltas { revision, deltas: vec![delta], trace: None };
        (format!("delta-{number}"), message)
    }));
    all
}

fn line<M>(name: &str, message: &M) -> String
where
    M: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let frame = encode(message).unwrap();
    assert_eq!(&decode::<M>(VERSIONS.oldest, &frame[6..]).unwrap(), message);
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name} {hex}\n")
}

/// Another release speaks with this one: `golden.txt` changes only with a version.
#[test]
fn the_bytes_of_every_message_are_these() {
    let mut text = String::new();
    to_operator().iter().for_each(|(name, message)| text += &line(name, message));
    to_agent().iter().for_each(|(name, message)| text += &line(name, message));
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(golden).unwrap(), "UPDATE=1 writes the new bytes");
}

fn read<M: DeserializeOwned>(bytes: &[u8], longest: usize) -> Result<M, FrameError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { receive_within(&mut &*bytes, longest).await })
}

#[test]
fn lengths_are_checked_before_anything_is_read() {
    let header = |length: usize, version: u16| {
        let mut bytes = u32::try_from(length).unwrap().to_be_bytes().to_vec();
        bytes.extend(version.to_be_bytes());
        bytes
    };
    let refused = read::<ToAgent>(&header(FRAME_MAX + 1, VERSIONS.oldest), usize::MAX);
    assert!(matches!(refused, Err(FrameError::TooLong(_))), "{refused:?}");
    let refused = read::<ToOperator>(&header(1001, VERSIONS.oldest), 1000);
    assert!(matches!(refused, Err(FrameError::TooLong(1001))), "{refused:?}");
    let refused = read::<ToAgent>(&header(usize::MAX >> 32, 9), usize::MAX);
    assert!(matches!(refused, Err(FrameError::Version(9))), "{refused:?}");
    // What does not come is not waited for with memory in hand.
    let refused = read::<ToAgent>(&header(FRAME_MAX, VERSIONS.oldest), usize::MAX);
    assert!(matches!(refused, Err(FrameError::Io(_))), "{refused:?}");
}

#[test]
fn a_greeting_is_read_whatever_newer_version_it_offers() {
    let (_, hello) = to_operator().remove(0);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for version in [VERSIONS.oldest, VERSIONS.newest, VERSIONS.newest + 1, u16::MAX] {
        let frame = encode_in(version, &hello).unwrap();
        let (offered, heard): (u16, ToOperator) =
            runtime.block_on(receive_greeting(&mut frame.as_slice(), 100)).unwrap();
        assert_eq!((offered, heard), (version, hello.clone()));
    }
    let old = encode_in(VERSIONS.oldest - 1, &hello).unwrap();
    let refused = runtime.block_on(receive_greeting::<ToOperator>(&mut old.as_slice(), 100));
    assert!(matches!(refused, Err(FrameError::Version(_))), "{refused:?}");
}

#[test]
fn a_message_that_is_too_long_is_not_sent() {
    let deltas = (0..20).map(|number| {
        let mut labels = LabelSet::new();
        labels.insert(Source::K8s, "app", "x".repeat(1 << 20));
        Delta::IdentityUpsert(Identity(number), labels)
    });
    let message =
        ToAgent::Deltas { revision: Revision::ZERO, deltas: deltas.collect(), trace: None };
    assert!(matches!(encode(&message), Err(FrameError::TooLong(_))));
}

/// Frames that are nearly right: one of ours, with some bytes changed, cut or added.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let frames: Vec<Vec<u8>> = to_operator()
        .iter()
        .map(|(_, message)| encode(message).unwrap())
        .chain(to_agent().iter().map(|(_, message)| encode(message).unwrap()))
        .collect();
    let change = (any::<proptest::sample::Index>(), any::<u8>());
    let changes = proptest::collection::vec(change, 0..4);
    (proptest::sample::select(frames), changes, prop_oneof![Just(0_usize), 0..40_usize]).prop_map(
        |(mut frame, changes, cut)| {
            for (at, byte) in changes {
                let at = 6 + at.index(frame.len() - 5);
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                }
            }
            frame.truncate(frame.len().saturating_sub(cut));
            frame
        },
    )
}

proptest! {
    /// No bytes make a decoder panic, or allocate what they do not fill.
    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes: Vec<u8>) {
        drop(decode::<ToAgent>(VERSIONS.oldest, &bytes));
        drop(decode::<ToOperator>(VERSIONS.oldest, &bytes));
        drop(read::<ToAgent>(&bytes, FRAME_MAX));
        drop(read::<ToOperator>(&bytes, 1000));
    }

    #[test]
    fn nearly_right_bytes_are_a_message_or_an_error(frame in nearly()) {
        let body = frame.get(6..).unwrap_or_default();
        // What is understood is what would be said so.
        if let Ok(message) = decode::<ToAgent>(VERSIONS.oldest, body) {
            let again = encode(&message).unwrap();
            assert_eq!(decode::<ToAgent>(VERSIONS.oldest, &again[6..]).unwrap(), message);
        }
        if let Ok(message) = decode::<ToOperator>(VERSIONS.oldest, body) {
            let again = encode(&message).unwrap();
            assert_eq!(decode::<ToOperator>(VERSIONS.oldest, &again[6..]).unwrap(), message);
        }
    }
}

#[test]
fn frames_follow_each_other() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let messages = to_agent();
    let bytes: Vec<u8> = messages.iter().flat_map(|(_, m)| encode(m).unwrap()).collect();
    runtime.block_on(async {
        let mut from = &*bytes;
        for (name, message) in &messages {
            assert_eq!(&receive::<ToAgent>(&mut from).await.unwrap(), message, "{name}");
        }
        assert!(matches!(receive::<ToAgent>(&mut from).await, Err(FrameError::Io(_))));
    });
    assert_eq!(messages.iter().map(|(name, _)| (name, ())).collect::<BTreeMap<_, _>>().len(), 18);
}
