//! Frames: length (u32), version (u16), a bincode message. Lengths are checked before anything is allocated.

use crate::VERSIONS;
use serde::{Serialize, de::DeserializeOwned};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use weft_types::codec;

/// Longest message, in bytes.
pub const FRAME_MAX: usize = 16 << 20;
/// Bytes before a message: length (u32), version (u16), big endian.
const HEADER: usize = 6;

/// Why a frame was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection failed or ended.
    #[error("the connection ended: {}", ended(.0))]
    Io(#[from] io::Error),
    /// Longer than [`FRAME_MAX`], or than is taken here.
    #[error("a frame of {0} bytes is longer than may be")]
    TooLong(usize),
    /// Of another version.
    #[error(
        "the peer speaks wire version {0}, this one {oldest} to {newest}: agents and operators may be a release apart, not more",
        oldest = VERSIONS.oldest, newest = VERSIONS.newest
    )]
    Version(u16),
    /// Not a message of this version.
    #[error("a frame is no message: {0}")]
    Malformed(String),
}

/// How it ended. TLS words the commonest end, that of the other process, at length.
fn ended(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the other side went away".to_owned(),
        _ => error.to_string(),
    }
}

/// The bytes of a message's frame. It carries the version that first had the message: as yet the oldest has all of them.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, FrameError> {
    encode_in(VERSIONS.oldest, message)
}

/// Those of a greeting, which offers a version, or of the answer to it, which says what was agreed on.
pub fn encode_in<M: Serialize>(version: u16, message: &M) -> Result<Vec<u8>, FrameError> {
    // Six bytes for the header, which is known when the body is.
    let mut frame = vec![0; HEADER];
    codec::encode_into(message, &mut frame).map_err(|e| FrameError::Malformed(e.to_string()))?;
    let length = frame.len() - HEADER;
    let Some(header) = frame.first_chunk_mut::<HEADER>().filter(|_| length <= FRAME_MAX) else {
        return Err(FrameError::TooLong(length));
    };
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let [e, f] = version.to_be_bytes();
    *header = [a, b, c, d, e, f];
    Ok(frame)
}

/// A message from the bytes after the header; all of them must be used.
pub fn decode<M: DeserializeOwned>(version: u16, body: &[u8]) -> Result<M, FrameError> {
    if !VERSIONS.knows(version) {
        return Err(FrameError::Version(version));
    }
    read(body)
}

fn read<M: DeserializeOwned>(body: &[u8]) -> Result<M, FrameError> {
    codec::decode(body).map_err(|error| FrameError::Malformed(error.to_string()))
}

/// Writes one message.
pub async fn send<M: Serialize>(
    to: &mut (impl AsyncWrite + Unpin),
    message: &M,
) -> Result<(), FrameError> {
    write(to, &encode(message)?).await
}

/// Writes a greeting, or the answer to one.
pub async fn send_in<M: Serialize>(
    to: &mut (impl AsyncWrite + Unpin),
    version: u16,
    message: &M,
) -> Result<(), FrameError> {
    write(to, &encode_in(version, message)?).await
}

async fn write(to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> Result<(), FrameError> {
    to.write_all(frame).await?;
    Ok(to.flush().await?)
}

/// Reads one message.
pub async fn receive<M: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<M, FrameError> {
    receive_within(from, FRAME_MAX).await
}

/// Reads one message of at most so many bytes.
pub async fn receive_within<M: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    longest: usize,
) -> Result<M, FrameError> {
    let (_, body) = frame(from, longest, |version| VERSIONS.knows(version)).await?;
    read(&body)
}

/// Reads a greeting of at most so many bytes, or the answer to one, and the version that its frame carries: any but those
/// that are too old, since a newer peer greets alike.
pub async fn receive_greeting<M: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    longest: usize,
) -> Result<(u16, M), FrameError> {
    let (version, body) = frame(from, longest, |version| version >= VERSIONS.oldest).await?;
    Ok((version, read(&body)?))
}

/// A frame's version and body, where such a version is taken.
async fn frame(
    from: &mut (impl AsyncRead + Unpin),
    longest: usize,
    is_taken: impl Fn(u16) -> bool,
) -> Result<(u16, Vec<u8>), FrameError> {
    let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
    let version = from.read_u16().await?;
    if !is_taken(version) {
        return Err(FrameError::Version(version));
    }
    if length > longest.min(FRAME_MAX) {
        return Err(FrameError::TooLong(length));
    }
    // Grown as bytes come, so that a length alone makes nobody allocate.
    let mut body = Vec::new();
    from.take(length as u64).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok((version, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ToAgent, ToOperator};
    use weft_types::Revision;

    #[test]
    fn the_bytes_of_a_frame_are_these() {
        let message = ToOperator::Acknowledge { revision: Revision::new(1, 2), trace: None };
        let frame = encode(&message).expect("short");
        let [e, f] = VERSIONS.oldest.to_be_bytes();
        assert_eq!(frame, [0, 0, 0, 11, e, f, 1, 253, 2, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(decode::<ToOperator>(VERSIONS.newest, &frame[6..]).expect("valid"), message);
    }

    #[test]
    fn an_end_is_told_in_words_of_ours() {
        let end = FrameError::Io(io::Error::new(io::ErrorKind::UnexpectedEof, "see https://x"));
        assert_eq!(end.to_string(), "the connection ended: the other side went away");
        let reset = FrameError::Io(io::Error::new(io::ErrorKind::ConnectionReset, "reset"));
        assert_eq!(reset.to_string(), "the connection ended: reset");
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for version in [0, 4, VERSIONS.newest + 1] {
            let refused = decode::<ToAgent>(version, &[]);
            assert!(matches!(refused, Err(FrameError::Version(said)) if said == version));
        }
        assert!(decode::<ToAgent>(VERSIONS.newest, &[]).is_err());
        assert!(decode::<ToAgent>(VERSIONS.newest, &[200, 1, 2]).is_err());
        let mut long = encode(&ToAgent::Ping).expect("short")[6..].to_vec();
        long.push(0);
        assert!(matches!(decode::<ToAgent>(VERSIONS.newest, &long), Err(FrameError::Malformed(_))));
    }
}
