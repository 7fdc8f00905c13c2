//! What the log holds: entries and snapshots of the state. A version byte comes first.

use crate::{ClusterState, CommandV1, Stamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{net::Ipv4Addr, ops::RangeInclusive, sync::Arc};
use weft_types::{
    Identity, LabelFilter, LabelSet, NamespacedName, NodeName, Object, TraceContext, codec,
};

/// Version of entries.
const ENTRY: u8 = 2;
/// Version of snapshots without patterns of labels.
const SNAPSHOT: u8 = 3;
/// Version of snapshots with them.
const SNAPSHOT_WITH_LABELS: u8 = 4;

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
struct SnapshotV3 {
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
struct SnapshotV4 {
    labels: Vec<String>,
    rest: SnapshotV3,
}

const AN_ENTRY: &str = "a log entry";
const A_SNAPSHOT: &str = "a snapshot of the state";

/// The bytes of an entry.
pub fn encode_entry(entry: &EntryV1) -> Result<Vec<u8>, Unreadable> {
    encode(AN_ENTRY, ENTRY, entry)
}

/// An entry from its bytes.
pub fn decode_entry(bytes: &[u8]) -> Result<EntryV1, Unreadable> {
    let (_, body) = versioned(AN_ENTRY, ENTRY..=ENTRY, bytes)?;
    decode(AN_ENTRY, body)
}

impl ClusterState {
    /// The bytes of the whole state.
    pub fn encode(&self) -> Result<Vec<u8>, Unreadable> {
        let known = self.references.iter().filter_map(|(number, known)| {
            Some((number, known.labels.as_deref()?.clone(), known.place))
        });
        let plugged = self.plugged.iter();
        let rest = SnapshotV3 {
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
            [] => encode(A_SNAPSHOT, SNAPSHOT, &rest),
            labels => {
                let snapshot = SnapshotV4 { labels: labels.to_vec(), rest };
                encode(A_SNAPSHOT, SNAPSHOT_WITH_LABELS, &snapshot)
            }
        }
    }

    /// The state from its bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (version, body) = versioned(A_SNAPSHOT, SNAPSHOT..=SNAPSHOT_WITH_LABELS, bytes)?;
        let SnapshotV4 { labels, rest: snapshot } = match version {
            SNAPSHOT => SnapshotV4 { labels: Vec::new(), rest: decode(A_SNAPSHOT, body)? },
            _ => decode(A_SNAPSHOT, body)?,
        };
        let mut state = Self::new(snapshot.cluster);
        state.labels = LabelFilter::parse(&labels)
            .map_err(|error| Unreadable { what: A_SNAPSHOT, problem: error.to_string() })?;
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

/// The version of some bytes, one of those that are known, and what follows it.
fn versioned<'a>(
    what: &'static str,
    known: RangeInclusive<u8>,
    bytes: &'a [u8],
) -> Result<(u8, &'a [u8]), Unreadable> {
    let unreadable = |problem: String| Unreadable { what, problem };
    match bytes.split_first() {
        Some((version, body)) if known.contains(version) => Ok((*version, body)),
        Some((version, _)) => {
            let (newest, program) =
                (known.end(), if version > known.end() { "a newer" } else { "the older" });
            Err(unreadable(format!(
                "it is of version {version}, this program knows {newest}: use {program} program"
            )))
        }
        None => Err(unreadable("it is empty".to_owned())),
    }
}

fn decode<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, Unreadable> {
    codec::decode(body).map_err(|error| Unreadable { what, problem: error.to_string() })
}
