//! What the log holds: entries and snapshots of the state. A version byte comes first.

use crate::{ClusterState, CommandV1, Stamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};
use weft_types::{
    Fence, Identity, LabelFilter, LabelSet, NamespacedName, Node, NodeName, Object, Policy,
    TraceContext, codec,
    object::{Namespace, Pod},
    packed,
};

/// Newest version of entries and of snapshots that this program knows; operators tell each other theirs. A group is of the
/// version that it was founded in, and of a newer one when every member knows that ([`CommandV1::Raise`]): until then nothing
/// is written that a member of the release before could not read.
pub const VERSION: u8 = 7;
/// The first version that has [`CommandV1::FilterLabels`]; snapshots of both are alike.
pub const FILTERS: u8 = 7;
/// What members know that say nothing newer of themselves.
pub const OLDEST: u8 = 6;
/// The one before, which ends where the fence begins.
const WITHOUT_FENCE: u8 = 5;

/// A command, with what caused it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryV1 {
    /// The trace of the call that it came from.
    pub trace: Option<TraceContext>,
    /// The change.
    pub command: CommandV1,
    /// What the store's fence was when it had the change; none of what is not in the store.
    pub fence: Option<Fence>,
}

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be read: {problem}")]
pub struct Unreadable {
    /// An entry, a snapshot.
    pub what: &'static str,
    /// What is wrong with it.
    pub problem: String,
    /// Whether nothing is, and another release wrote it.
    pub other_release: bool,
}

/// Everything that the state cannot make of the rest.
#[derive(Deserialize)]
struct Snapshot {
    cluster: String,
    labels: Vec<String>,
    objects: Vec<Object>,
    #[serde(with = "packed")]
    identities: Vec<(Identity, LabelSet)>,
    /// In the order of their numbers.
    places: Vec<u64>,
    given_so_far: u64,
    retiring: Vec<Identity>,
    given: Option<Identity>,
    plugged: Vec<(Ipv4Addr, Option<NamespacedName>, NodeName, Identity)>,
    heard: Vec<(NodeName, Stamp)>,
    fence: Option<Fence>,
}

/// A [`Snapshot`] to write: whoever has much of it does nothing else meanwhile, so nothing is copied.
#[derive(Serialize)]
struct Written<'a> {
    cluster: &'a str,
    labels: &'a [String],
    objects: Vec<WrittenObject<'a>>,
    #[serde(serialize_with = "packed::serialize")]
    identities: Vec<(Identity, &'a LabelSet)>,
    places: Vec<u64>,
    given_so_far: u64,
    retiring: &'a BTreeSet<Identity>,
    given: Option<Identity>,
    plugged: Vec<(&'a Ipv4Addr, &'a Option<NamespacedName>, &'a NodeName, Identity)>,
    heard: Vec<(&'a NodeName, &'a Stamp)>,
    fence: Option<Fence>,
}

/// An [`Object`] to write.
#[derive(Serialize)]
enum WrittenObject<'a> {
    Namespace(&'a Namespace),
    Node(&'a Node),
    Pod(&'a Pod),
    Policy(&'a Policy),
}

impl CommandV1 {
    /// The first version that has it.
    pub const fn since(&self) -> u8 {
        match self {
            Self::Raise(version) => *version,
            Self::FilterLabels { .. } => FILTERS,
            Self::Desire { .. } | Self::Said(..) | Self::Retire(_) | Self::Free { .. } => OLDEST,
        }
    }
}

/// The bytes of an entry, of the first version that has its command.
pub fn encode_entry(entry: &EntryV1) -> Result<Vec<u8>, Unreadable> {
    encode(entry.command.since(), "a log entry", entry)
}

/// An entry from its bytes.
pub fn decode_entry(bytes: &[u8]) -> Result<EntryV1, Unreadable> {
    decode("a log entry", bytes).map(|(_, entry)| entry)
}

const SNAPSHOT: &str = "a snapshot of the state";

impl ClusterState {
    /// The bytes of the whole state, of the group's version.
    pub fn encode(&self) -> Result<Vec<u8>, Unreadable> {
        let namespaces = self.namespaces.values().map(WrittenObject::Namespace);
        let objects = namespaces
            .chain(self.nodes.values().map(WrittenObject::Node))
            .chain(self.pods.values().map(WrittenObject::Pod))
            .chain(self.policies.values().map(WrittenObject::Policy));
        let known = self
            .references
            .iter()
            .filter_map(|(number, known)| Some(((number, known.labels.as_deref()?), known.place)));
        let (identities, places) = known.unzip();
        let plugged = self.plugged.iter();
        let written = Written {
            cluster: &self.cluster,
            labels: self.labels.added(),
            objects: objects.collect(),
            identities,
            places,
            given_so_far: self.references.places(),
            retiring: self.references.retiring(),
            given: self.given,
            plugged: plugged.map(|(a, p)| (a, &p.pod, &p.node, p.identity)).collect(),
            heard: self.heard.iter().collect(),
            fence: self.fence,
        };
        encode(self.version, SNAPSHOT, &written)
    }

    /// The state from its bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (version, snapshot): (u8, Snapshot) = decode(SNAPSHOT, bytes)?;
        let unreadable =
            |problem: String| Unreadable { what: SNAPSHOT, problem, other_release: false };
        let (numbers, places) = (snapshot.identities.len(), snapshot.places.len());
        if numbers != places {
            return Err(unreadable(format!("it has {numbers} numbers and {places} places")));
        }
        let mut state = Self::of_version(snapshot.cluster, version.max(OLDEST));
        state.labels =
            LabelFilter::parse(&snapshot.labels).map_err(|error| unreadable(error.to_string()))?;
        let known = snapshot.identities.into_iter().zip(snapshot.places);
        let known: Vec<_> = known.map(|((n, l), place)| (n, Arc::new(l), place)).collect();
        state.identities = known.iter().map(|(n, l, _)| (Arc::clone(l), *n)).collect();
        state.references.restore(snapshot.given_so_far, known);
        state.desire(&snapshot.objects, &[], &[]);
        for (address, pod, node, identity) in snapshot.plugged {
            state.plug(&node, pod.as_ref(), address, identity);
        }
        for number in snapshot.retiring {
            state.references.retire(number);
        }
        (state.given, state.heard) = (snapshot.given, snapshot.heard.into_iter().collect());
        state.fence = snapshot.fence;
        Ok(state)
    }
}

fn encode(version: u8, what: &'static str, value: &impl Serialize) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = vec![version];
    codec::encode_into(value, &mut bytes).map_err(|error| Unreadable {
        what,
        problem: error.to_string(),
        other_release: false,
    })?;
    Ok(bytes)
}

/// It, and the version of its bytes.
fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<(u8, T), Unreadable> {
    let unreadable = |problem: String| Unreadable { what, problem, other_release: false };
    let (version, body) =
        bytes.split_first().ok_or_else(|| unreadable("it is empty".to_owned()))?;
    let read = match *version {
        OLDEST..=VERSION => codec::decode(body),
        WITHOUT_FENCE => codec::decode(&[body, &[0]].concat()),
        version => {
            let program = if version > VERSION { "a newer" } else { "the older" };
            let problem = format!(
                "it is of version {version}, this program knows {VERSION}: use {program} program"
            );
            return Err(Unreadable { what, problem, other_release: true });
        }
    };
    read.map(|value| (*version, value)).map_err(|error| unreadable(error.to_string()))
}
