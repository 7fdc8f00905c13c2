//! Frames between agent and operator, and what an agent's cores make of what they say.

use crate::bytes::Bytes;
use futures_util::FutureExt;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use weft_core::{ipcache::Ipcache, policy::Engine};
use weft_types::{Delta, NodeName};
use weft_wire::{
    ToAgent, ToOperator, VERSIONS,
    frame::{decode, encode, receive_within},
};

/// What an operator takes of one frame, say.
const LONGEST: usize = 1 << 16;

/// The target: frames of either direction, whole or their bodies alone.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    match bytes.up_to(3) {
        0 => told(framed(bytes.0)),
        1 => drop(framed::<ToOperator>(bytes.0)),
        2 => told(decode(VERSIONS.newest, bytes.0).into_iter().collect()),
        _ => decode::<ToOperator>(VERSIONS.newest, bytes.0).iter().for_each(is_the_same_again),
    }
}

/// A connection that says these bytes and ends.
fn framed<M: Serialize + DeserializeOwned + PartialEq + Debug>(mut bytes: &[u8]) -> Vec<M> {
    let mut messages = Vec::new();
    while let Ok(message) = receive_within::<M>(&mut bytes, LONGEST).now_or_never().unwrap() {
        is_the_same_again(&message);
        messages.push(message);
    }
    messages
}

fn is_the_same_again<M: Serialize + DeserializeOwned + PartialEq + Debug>(message: &M) {
    let frame = encode(message).expect("what came in a frame goes into one");
    let again: M = decode(VERSIONS.oldest, &frame[6..]).expect("what is written is read");
    assert_eq!(*message, again);
}

/// Policy and addresses of an agent that is told all this.
fn told(messages: Vec<ToAgent>) {
    let (mut engine, mut ipcache) = (Engine::default(), Ipcache::new(NodeName("node1".to_owned())));
    for message in messages {
        let ToAgent::Deltas { deltas, .. } = message else { continue };
        deltas.into_iter().for_each(|delta| take(&mut engine, &mut ipcache, delta));
        engine.commit();
        ipcache.set_prefixes(engine.prefixes().clone());
        ipcache.commit();
        ipcache.routes();
    }
}

fn take(engine: &mut Engine, ipcache: &mut Ipcache, delta: Delta) {
    match delta {
        Delta::IdentityUpsert(identity, labels) => {
            engine.upsert_identity(identity, labels);
            engine.hold(identity);
        }
        Delta::IdentityDelete(identity) => {
            engine.release(identity);
            engine.delete_identity(identity);
        }
        Delta::NodeUpsert(node) => ipcache.upsert_node(node),
        Delta::NodeDelete(node) => ipcache.delete_node(&node),
        Delta::EndpointUpsert(pod) => {
            engine.upsert_pod(pod.address, pod.identity);
            ipcache.upsert_pod(pod);
        }
        Delta::EndpointDelete(address) => {
            engine.delete_pod(address);
            ipcache.delete_pod(address);
        }
        Delta::PolicyUpsert(policy) => engine.upsert_policy(policy),
        Delta::PolicyDelete(id) => engine.delete_policy(&id),
        Delta::WorkloadUpsert(_) | Delta::WorkloadDelete(_) => {}
    }
}
