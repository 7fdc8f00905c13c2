//! Frames: length (u32), version (u16), a bincode message. Lengths are checked before anything is allocated.

use crate::WIRE_VERSION;
use bincode::config::{Configuration, standard};
use serde::{Serialize, de::DeserializeOwned};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest message, in bytes.
pub const FRAME_MAX: usize = 16 << 20;
const CONFIG: Configuration = standard();

/// Why a frame was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection failed or ended.
    #[error("the connection ended: {0}")]
    Io(#[from] io::Error),
    /// Longer than [`FRAME_MAX`].
    #[error("a frame of {0} bytes is longer than {FRAME_MAX}")]
    TooLong(usize),
    /// Of another version.
    #[error("the peer speaks wire version {0}, this one {WIRE_VERSION}")]
    Version(u16),
    /// Not a message of this version.
    #[error("a frame is no message: {0}")]
    Malformed(String),
}

/// The bytes of a message's frame.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, FrameError> {
    let body = bincode::serde::encode_to_vec(message, CONFIG)
        .map_err(|error| FrameError::Malformed(error.to_string()))?;
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    if body.len() > FRAME_MAX {
        return Err(FrameError::TooLong(body.len()));
    }
    let mut frame = Vec::with_capacity(body.len() + 6);
    frame.extend(length.to_be_bytes());
    frame.extend(WIRE_VERSION.to_be_bytes());
    frame.extend(body);
    Ok(frame)
}

/// A message from the bytes after the header; all of them must be used.
pub fn decode<M: DeserializeOwned>(version: u16, body: &[u8]) -> Result<M, FrameError> {
    if version != WIRE_VERSION {
        return Err(FrameError::Version(version));
    }
    match bincode::serde::decode_from_slice(body, CONFIG.with_limit::<FRAME_MAX>()) {
        Ok((message, used)) if used == body.len() => Ok(message),
        Ok(_) => Err(FrameError::Malformed("bytes are left over".to_owned())),
        Err(error) => Err(FrameError::Malformed(error.to_string())),
    }
}

/// Writes one message.
pub async fn send<M: Serialize>(
    to: &mut (impl AsyncWrite + Unpin),
    message: &M,
) -> Result<(), FrameError> {
    to.write_all(&encode(message)?).await?;
    Ok(to.flush().await?)
}

/// Reads one message.
pub async fn receive<M: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<M, FrameError> {
    let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
    let version = from.read_u16().await?;
    if length > FRAME_MAX {
        return Err(FrameError::TooLong(length));
    }
    // Grown as bytes come, so that a length alone makes nobody allocate.
    let mut body = Vec::new();
    from.take(length as u64).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    decode(version, &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ToAgent, ToOperator};
    use weft_types::Revision;

    #[test]
    fn the_bytes_of_a_frame_are_these() {
        let message = ToOperator::Acknowledge { revision: Revision::new(1, 2) };
        let frame = encode(&message).expect("short");
        assert_eq!(frame, [0, 0, 0, 10, 0, 1, 1, 253, 2, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(decode::<ToOperator>(1, &frame[6..]).expect("valid"), message);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        assert!(matches!(decode::<ToAgent>(2, &[]), Err(FrameError::Version(2))));
        assert!(decode::<ToAgent>(1, &[]).is_err());
        assert!(decode::<ToAgent>(1, &[200, 1, 2]).is_err());
        let mut long = encode(&ToAgent::Ping).expect("short")[6..].to_vec();
        long.push(0);
        assert!(decode::<ToAgent>(1, &long).is_err());
    }
}
