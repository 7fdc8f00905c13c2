//! What the log holds: entries and snapshots of the state. A version byte comes first.

use crate::{ClusterState, CommandV1, Stamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{net::Ipv4Addr, sync::Arc};
use weft_types::{
    Identity, LabelFilter, LabelSet, NamespacedName, NodeName, Object, TraceContext, codec,
};

/// Version of entries, and of snapshots without patterns of labels.
const VERSION: u8 = 1;
/// Version of snapshots with them.
const VERSION_WITH_LABELS: u8 = 2;

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
    /// With their places, in the order of their numbers.
    identities: Vec<(Identity, LabelSet, u64)>,
    places: u64,
    retiring: Vec<Identity>,
    given: Option<Identity>,
    plugged: Vec<(Ipv4Addr, Option<NamespacedName>, NodeName, Identity)>,
    heard: Vec<(NodeName, Stamp)>,
}

#[derive(Serialize, Deserialize)]
struct SnapshotV2 {
    labels: Vec<String>,
    rest: SnapshotV1,
}

/// The bytes of an entry.
pub fn encode_entry(entry: &EntryV1) -> Result<Vec<u8>, Unreadable> {
    encode("a log entry", VERSION, entry)
}

/// An entry from its bytes.
pub fn decode_entry(bytes: &[u8]) -> Result<EntryV1, Unreadable> {
    let (_, body) = versioned("a log entry", VERSION, bytes)?;
    decode("a log entry", body)
}

const SNAPSHOT: &str = "a snapshot of the state";

impl ClusterState {
    /// The bytes of the whole state.
    pub fn encode(&self) -> Result<Vec<u8>, Unreadable> {
        let known = self.references.iter().filter_map(|(number, known)| {
            Some((number, known.labels.as_deref()?.clone(), known.place))
        });
        let plugged = self.plugged.iter();
        let rest = SnapshotV1 {
            cluster: self.cluster.clone(),
            objects: self.objects().collect(),
            identities: known.collect(),
            places: self.references.places(),
            retiring: self.references.retiring().iter().copied().collect(),
            given: self.given,
            plugged: plugged
                .map(|(a, p)| (*a, p.pod.clone(), p.node.clone(), p.identity))
                .collect(),
            heard: self.heard.iter().map(|(node, stamp)| (node.clone(), *stamp)).collect(),
        };
        match self.labels.added() {
            // As every release has read it.
            [] => encode(SNAPSHOT, VERSION, &rest),
            labels => {
                encode(SNAPSHOT, VERSION_WITH_LABELS, &SnapshotV2 { labels: labels.to_vec(), rest })
            }
        }
    }

    /// The state from its bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (version, body) = versioned(SNAPSHOT, VERSION_WITH_LABELS, bytes)?;
        let SnapshotV2 { labels, rest: snapshot } = match version {
            VERSION => SnapshotV2 { labels: Vec::new(), rest: decode(SNAPSHOT, body)? },
            _ => decode(SNAPSHOT, body)?,
        };
        let mut state = Self::new(snapshot.cluster);
        state.labels = LabelFilter::parse(&labels)
            .map_err(|error| Unreadable { what: SNAPSHOT, problem: error.to_string() })?;
        let known = snapshot.identities.into_iter().map(|(n, l, place)| (n, Arc::new(l), place));
        let known: Vec<_> = known.collect();
        state.identities = known.iter().map(|(n, l, _)| (Arc::clone(l), *n)).collect();
        state.references.restore(snapshot.places, known);
        state.desire(&snapshot.objects, &[], &[]);
        for (address, pod, node, identity) in snapshot.plugged {
            state.plug(&node, pod.as_ref(), address, identity);
        }
        for number in snapshot.retiring {
            state.references.retire(number);
        }
        (state.given, state.heard) = (snapshot.given, snapshot.heard.into_iter().collect());
        Ok(state)
    }
}

fn encode(what: &'static str, version: u8, value: &impl Serialize) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = vec![version];
    codec::encode_into(value, &mut bytes)
        .map_err(|error| Unreadable { what, problem: error.to_string() })?;
    Ok(bytes)
}

/// The version of some bytes, from 1 to the newest that is known, and what follows it.
fn versioned<'a>(
    what: &'static str,
    newest: u8,
    bytes: &'a [u8],
) -> Result<(u8, &'a [u8]), Unreadable> {
    let unreadable = |problem: String| Unreadable { what, problem };
    match bytes.split_first() {
        Some((version, body)) if (1..=newest).contains(version) => Ok((*version, body)),
        Some((version, _)) => Err(unreadable(format!(
            "it is of version {version}, this program knows {newest}: use a newer program"
        ))),
        None => Err(unreadable("it is empty".to_owned())),
    }
}

fn decode<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, Unreadable> {
    codec::decode(body).map_err(|error| Unreadable { what, problem: error.to_string() })
}
