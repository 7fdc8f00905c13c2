//! What the log holds: entries and snapshots of the state. A version byte comes first.

use crate::{ClusterState, CommandV1, Plugged};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::net::Ipv4Addr;
use weft_types::{Identity, LabelSet, NamespacedName, NodeName, Object, TraceContext, codec};

/// Version of entries and snapshots here.
const VERSION: u8 = 1;

/// A command, with what caused it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryV1 {
    /// The trace of the call that it came from.
    pub trace: Option<TraceContext>,
    /// The change.
    pub command: CommandV1,
}

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be read: {problem}")]
pub struct Unreadable {
    /// An entry, a snapshot.
    pub what: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// Everything that the state cannot make of the rest.
#[derive(Serialize, Deserialize)]
struct SnapshotV1 {
    cluster: String,
    objects: Vec<Object>,
    identities: Vec<(Identity, LabelSet)>,
    plugged: Vec<(Ipv4Addr, NamespacedName, NodeName)>,
}

/// The bytes of an entry.
pub fn encode_entry(entry: &EntryV1) -> Result<Vec<u8>, Unreadable> {
    encode("a log entry", entry)
}

/// An entry from its bytes.
pub fn decode_entry(bytes: &[u8]) -> Result<EntryV1, Unreadable> {
    decode("a log entry", bytes)
}

impl ClusterState {
    /// The bytes of the whole state.
    pub fn encode(&self) -> Result<Vec<u8>, Unreadable> {
        let plugged = self.plugged.iter();
        encode(
            "a snapshot of the state",
            &SnapshotV1 {
                cluster: self.cluster.clone(),
                objects: self.objects().collect(),
                identities: self.identities.iter().map(|(l, n)| (*n, l.clone())).collect(),
                plugged: plugged.map(|(a, p)| (*a, p.pod.clone(), p.node.clone())).collect(),
            },
        )
    }

    /// The state from its bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let snapshot: SnapshotV1 = decode("a snapshot of the state", bytes)?;
        let mut state = Self::new(snapshot.cluster);
        state.desire(&snapshot.objects, &[], &snapshot.identities);
        for (address, pod, node) in snapshot.plugged {
            let said = Plugged { pod: pod.clone(), node };
            state.plugged.insert(address, said);
            state.addresses.entry(pod).or_default().insert(address);
            state.publish_endpoint(address);
        }
        Ok(state)
    }
}

fn encode(what: &'static str, value: &impl Serialize) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = vec![VERSION];
    codec::encode_into(value, &mut bytes)
        .map_err(|error| Unreadable { what, problem: error.to_string() })?;
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Unreadable> {
    let unreadable = |problem: String| Unreadable { what, problem };
    match bytes.split_first() {
        Some((&VERSION, body)) => {
            codec::decode(body).map_err(|error| unreadable(error.to_string()))
        }
        Some((version, _)) => Err(unreadable(format!(
            "it is of version {version}, this program knows {VERSION}: use a newer program"
        ))),
        None => Err(unreadable("it is empty".to_owned())),
    }
}
