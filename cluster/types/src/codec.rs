//! The one binary encoding of these types: bincode 2, little endian, variable-length integers.
//!
//! Whoever writes bytes that live longer than a process puts a version before them.

use bincode::{
    config::{Configuration, Limit, LittleEndian, Varint, standard},
    error::DecodeError,
    serde::{decode_from_slice, encode_into_std_write},
};
use serde::{Serialize, de::DeserializeOwned};

/// Bytes that are no value of the type, or a value that has no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub String);

/// Adds a value's bytes to others.
pub fn encode_into(value: &impl Serialize, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
    encode_into_std_write(value, bytes, standard())
        .map(drop)
        .map_err(|error| CodecError(error.to_string()))
}

/// How many bytes that adds.
pub fn encoded_size(value: &impl Serialize) -> Result<usize, CodecError> {
    encode_into_std_write(value, &mut std::io::sink(), standard())
        .map_err(|error| CodecError(error.to_string()))
}

/// A value from its bytes; all of them must be used. What it allocates is at most some times their
/// number, whatever lengths they claim.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let decoded = match bytes.len() {
        ..0x400 => limited::<T, 0x2000>(bytes),
        0x400..0x1_0000 => limited::<T, 0x8_0000>(bytes),
        0x1_0000..0x10_0000 => limited::<T, 0x80_0000>(bytes),
        0x10_0000..0x100_0000 => limited::<T, 0x800_0000>(bytes),
        _ => limited::<T, 0x2_0000_0000>(bytes),
    };
    match decoded {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Ok((_, used)) => Err(CodecError(format!("{} bytes are left over", bytes.len() - used))),
        Err(error) => Err(CodecError(error.to_string())),
    }
}

/// bincode counts a number with its full width, up to 8 times of what it takes: `N` allows for that.
fn limited<T: DeserializeOwned, const N: usize>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    let config: Configuration<LittleEndian, Varint, Limit<N>> = standard().with_limit::<N>();
    decode_from_slice(bytes, config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_alone_allocates_nothing() {
        // A string that claims 2^62 bytes, one that claims a megabyte, in a few bytes.
        for claim in [1_u64 << 62, 1 << 20] {
            let mut bytes = vec![253];
            bytes.extend(claim.to_le_bytes());
            bytes.extend([b'a'; 16]);
            assert!(decode::<String>(&bytes).is_err());
            assert!(decode::<Vec<String>>(&bytes).is_err());
            assert!(decode::<Vec<u64>>(&bytes).is_err());
        }
    }

    #[test]
    fn what_fills_its_bytes_is_within_the_limit() {
        for count in [1_usize, 100, 1000, 60_000, 1_000_000, 3_000_000] {
            // Numbers are counted with 8 bytes and take one.
            let numbers = vec![1_u64; count];
            let mut bytes = Vec::new();
            encode_into(&numbers, &mut bytes).expect("has bytes");
            assert_eq!(decode::<Vec<u64>>(&bytes).as_deref(), Ok(&numbers[..]));
        }
    }
}
