//! The keys of stores – `cluster`, `fence`, `given`, `identity/00000256`, `identities/0000000001`, `object/pod/shop/cart-0` –
//! and the values that are compared.

use crate::{
    Cluster, Fence, StoreError,
    table::{decode, encode, encode_as, unreadable_version},
    unreadable,
};
use weft_types::{Identity, codec, object::ObjectKey};

/// The cluster's name.
pub(crate) const CLUSTER: &str = "cluster";
/// Who may write.
pub(crate) const FENCE: &str = "fence";
/// The number that was given last when some were forgotten.
pub(crate) const GIVEN: &str = "given";
/// Before the number of an identity, in a file.
pub(crate) const IDENTITIES: &str = "identity/";
/// Before the number of a record of identities, in etcd.
pub(crate) const RECORDS: &str = "identities/";
/// Before the key of an object.
pub(crate) const OBJECTS: &str = "object/";

/// Version of a fence with a round; one of round 0 is written as before there were any.
const WITH_ROUND: u8 = 2;
/// Version of a fence with writes, likewise.
const WITH_WRITES: u8 = 3;
/// Version of a cluster whose identities share records; with version 1 each had a key of its own.
const WITH_RECORDS: u8 = 2;

/// Of eight digits, so that their order is that of the numbers.
pub(crate) fn identity_key(number: Identity) -> String {
    format!("{IDENTITIES}{:08}", number.0)
}

/// In the order of their numbers.
pub(crate) fn record_key(record: u64) -> String {
    format!("{RECORDS}{record:010}")
}

/// A cluster's value where identities share records.
pub(crate) fn encode_layout(cluster: &Cluster) -> Result<Vec<u8>, StoreError> {
    encode_as(WITH_RECORDS, CLUSTER, cluster)
}

pub(crate) fn decode_layout(value: &[u8]) -> Result<Cluster, StoreError> {
    match value.split_first() {
        Some((&WITH_RECORDS, body)) => {
            codec::decode(body).map_err(|error| unreadable(CLUSTER, error.to_string()))
        }
        _ => Err(unreadable_version(CLUSTER, WITH_RECORDS, value)),
    }
}

pub(crate) fn object_key(key: &ObjectKey) -> String {
    format!("{OBJECTS}{key}")
}

/// The same fence is the same bytes: they are what is compared.
pub(crate) fn encode_fence(fence: Fence) -> Result<Vec<u8>, StoreError> {
    let Fence { generation, term, round, writes } = fence;
    match (round, writes) {
        (0, 0) => encode(FENCE, &(generation, term)),
        (_, 0) => encode_as(WITH_ROUND, FENCE, &(generation, term, round)),
        _ => encode_as(WITH_WRITES, FENCE, &(generation, term, round, writes)),
    }
}

pub(crate) fn decode_fence(value: &[u8]) -> Result<Fence, StoreError> {
    let bad = |error: codec::CodecError| unreadable(FENCE, error.to_string());
    let (generation, term, round, writes) = match value.split_first() {
        Some((&WITH_WRITES, body)) => codec::decode(body).map_err(bad)?,
        Some((&WITH_ROUND, body)) => {
            let (generation, term, round) = codec::decode(body).map_err(bad)?;
            (generation, term, round, 0)
        }
        _ => {
            let (generation, term) = decode(FENCE, value)?;
            (generation, term, 0, 0)
        }
    };
    Ok(Fence { generation, term, round, writes })
}
