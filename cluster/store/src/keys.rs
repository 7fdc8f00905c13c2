//! The keys of every store – `cluster`, `fence`, `given`, `identity/00000256`, `object/pod/shop/cart-0` – and the fence's value.

use crate::{
    Fence, StoreError,
    table::{decode, encode},
    unreadable,
};
use weft_types::{Identity, codec, object::ObjectKey};

/// The cluster's name.
pub(crate) const CLUSTER: &str = "cluster";
/// Who may write.
pub(crate) const FENCE: &str = "fence";
/// The number that was given last when some were forgotten.
pub(crate) const GIVEN: &str = "given";
/// Before the number of an identity.
pub(crate) const IDENTITIES: &str = "identity/";
/// Before the key of an object.
pub(crate) const OBJECTS: &str = "object/";

/// Version of a fence with a round; one of round 0 is written as before there were any.
const WITH_ROUND: u8 = 2;

/// Of eight digits, so that their order is that of the numbers.
pub(crate) fn identity_key(number: Identity) -> String {
    format!("{IDENTITIES}{:08}", number.0)
}

pub(crate) fn object_key(key: &ObjectKey) -> String {
    format!("{OBJECTS}{key}")
}

/// The same fence is the same bytes: they are what is compared.
pub(crate) fn encode_fence(fence: Fence) -> Result<Vec<u8>, StoreError> {
    let Fence { generation, term, round } = fence;
    if round == 0 {
        return encode(FENCE, &(generation, term));
    }
    let mut bytes = encode(FENCE, &(generation, term, round))?;
    bytes.iter_mut().take(1).for_each(|version| *version = WITH_ROUND);
    Ok(bytes)
}

pub(crate) fn decode_fence(value: &[u8]) -> Result<Fence, StoreError> {
    let (generation, term, round) = match value.split_first() {
        Some((&WITH_ROUND, body)) => {
            codec::decode(body).map_err(|error| unreadable(FENCE, error.to_string()))?
        }
        _ => {
            let (generation, term): (u16, u64) = decode(FENCE, value)?;
            (generation, term, 0)
        }
    };
    Ok(Fence { generation, term, round })
}
