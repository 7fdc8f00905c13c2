//! What operators say to each other: greetings, answers to them, and messages.

use crate::bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use weft_api::{Call, Reply, operator};
use weft_operator::peers::message::{Say, Told};
use weft_raft::{Answer, Hello, PEER_VERSION, decode, encode};
use weft_types::codec;

/// The target: which of them, then its bytes.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    match bytes.up_to(2) {
        0 => greeting(bytes.0),
        1 => drop(greeted::<Answer>(bytes.0)),
        _ => message(bytes.0),
    }
}

/// Whom it names as the other side welcomes it, in a version that both speak.
fn greeting(bytes: &[u8]) {
    let Some(hello) = greeted::<Hello>(bytes) else { return };
    match hello.answer(&hello.cluster, hello.generation, hello.to) {
        Answer::Welcome(version) => {
            assert!((1..=PEER_VERSION.min(hello.version)).contains(&version), "{hello:?}");
        }
        Answer::Refused(_) => assert_eq!(hello.version, 0),
    }
}

/// What is said before a version is agreed on.
fn greeted<M: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<M> {
    let message: M = codec::decode(bytes).ok()?;
    let mut again = Vec::new();
    codec::encode_into(&message, &mut again).expect("what was read can be written");
    assert_eq!(codec::decode::<M>(&again).as_ref(), Ok(&message));
    Some(message)
}

fn message(bytes: &[u8]) {
    let Ok(say) = decode::<Say>(bytes) else { return };
    let again = encode(&say).expect("what was read can be written");
    assert_eq!(decode::<Say>(&again).as_ref(), Ok(&say));
    match say {
        Say::Ask { call, .. } => drop(serde_json::from_slice::<Call<operator::Request>>(&call)),
        Say::Answer { answer: Told::Reply(json), .. } => {
            drop(serde_json::from_slice::<Reply<operator::Answer>>(&json));
        }
        Say::Consensus(_) | Say::Agents(_) | Say::Answer { answer: Told::NotLeading, .. } => {}
    }
}
