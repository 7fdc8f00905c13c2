//! Netlink, as little of it as is needed: a blocking socket, requests and attributes.
//!
//! Blocking, because calls come from the `loader` arbiter and each takes microseconds; hand-laid,
//! because a pod's link is a dozen messages and its start waits for every one.

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use std::{
    io::{Error, ErrorKind, Result},
    os::fd::{AsRawFd, OwnedFd},
};

const HEADER: usize = 16;
/// More than the kernel puts into one datagram.
const BUFFER: usize = 1 << 16;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// A request that is being written.
#[derive(Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// A request of this kind that wants an answer; `flags` are what it has beside that.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "flags have 16 bits, and are integers in libc"
    )]
    pub(crate) fn new(kind: u16, flags: i32, body: &[u8]) -> Self {
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        Self { bytes }
    }

    /// Adds an attribute.
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.bytes.extend(attribute(kind, value));
        self
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        // One that does not fit is refused by the kernel.
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX).to_ne_bytes();
        self.bytes.splice(0..4, length);
        self.bytes.splice(8..12, sequence.to_ne_bytes());
        self.bytes
    }
}

/// An attribute's bytes, padded; nest by giving it attributes as its value.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len() + 8);
    // One that does not fit is refused by the kernel.
    bytes.extend(u16::try_from(value.len() + 4).unwrap_or(u16::MAX).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An attribute whose value is a text that ends with a zero byte.
pub(crate) fn text(value: &str) -> Vec<u8> {
    [value.as_bytes(), &[0]].concat()
}

/// The attributes in `bytes`; what is cut off is left out.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(half(bytes, 0)?);
        let kind = half(bytes, 2)? & NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of an attribute.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// A 16-bit number of host order.
pub(crate) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A 32-bit number of host order.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A `NETLINK_ROUTE` socket of the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens one.
    pub(crate) fn open() -> Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Sends a request and returns the bodies of its replies, when the kernel said it is done.
    pub(crate) fn ask(&mut self, request: Request) -> Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        send(self.fd.as_raw_fd(), &request.finish(self.sequence), MsgFlags::empty())?;
        let mut replies = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let datagram = buffer.get(..length).unwrap_or_default();
            if read_datagram(datagram, self.sequence, &mut replies)? {
                return Ok(replies);
            }
        }
    }
}

/// Takes the replies to one request out of a datagram; whether the last was among them.
fn read_datagram(mut rest: &[u8], sequence: u32, replies: &mut Vec<Vec<u8>>) -> Result<bool> {
    while let (Some(length), Some(kind), Some(number)) =
        (word(rest, 0), half(rest, 4), word(rest, 8))
    {
        let length = length as usize;
        let body = rest
            .get(HEADER..length)
            .ok_or_else(|| Error::new(ErrorKind::InvalidData, "a netlink message is cut off"))?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        if number != sequence {
            continue;
        }
        match i32::from(kind) {
            libc::NLMSG_ERROR | libc::NLMSG_DONE => return ended(body),
            _ => replies.push(body.to_vec()),
        }
    }
    Ok(false)
}

fn ended(body: &[u8]) -> Result<bool> {
    match word(body, 0).unwrap_or_default() as i32 {
        0 => Ok(true),
        code => Err(Error::from_raw_os_error(code.wrapping_neg())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_nested_attribute_is_found_again() {
        let inner = [attribute(1, b"veth\0"), attribute(2, &[9])].concat();
        let outer = [attribute(3, &[1, 2, 3]), attribute(18, &inner)].concat();
        let found = find(&outer, 18).and_then(|nested| find(nested, 2));
        assert_eq!(found, Some([9].as_slice()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_fail(bytes: Vec<u8>) {
            let _ = attributes(&bytes).count();
            let _ = read_datagram(&bytes, 1, &mut Vec::new());
        }
    }
}
