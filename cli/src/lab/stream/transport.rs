//! The bytes of a stream: which one belongs where, and how they go over a connection or as datagrams.

use super::super::answer::ECHO;
use std::{
    collections::BTreeSet,
    io,
    net::{SocketAddr, TcpStream as StdTcpStream, UdpSocket as StdUdpSocket},
    os::fd::OwnedFd,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream, UdpSocket},
};
use weft_types::policy::Protocol;

/// Bytes of a datagram that count: its number and the pattern.
const DATAGRAM: usize = 512;

/// What is sent at a place of the stream, so that a byte in the wrong place is noticed.
fn pattern(at: u64) -> u8 {
    let word = (at / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    word.into_iter().nth((at % 8) as usize).unwrap_or_default()
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// This many bytes that were sent.
    Bytes(u64),
    /// Something else.
    Wrong,
    /// The connection was reset.
    Reset,
    /// The other side sends no more.
    Closed,
}

/// An open stream.
pub(super) enum Transport {
    Connection { stream: TcpStream, sent: u64, back: u64 },
    Datagrams { socket: UdpSocket, sent: u64, missing: BTreeSet<u64> },
}

impl Transport {
    /// Opens one with a socket that is in the right namespace.
    pub(super) async fn open(
        socket: OwnedFd,
        protocol: Protocol,
        to: SocketAddr,
    ) -> io::Result<Self> {
        if protocol == Protocol::Udp {
            let socket = UdpSocket::from_std(StdUdpSocket::from(socket))?;
            socket.connect(to).await?;
            return Ok(Self::Datagrams { socket, sent: 0, missing: BTreeSet::new() });
        }
        let mut stream = TcpSocket::from_std_stream(StdTcpStream::from(socket)).connect(to).await?;
        stream.set_nodelay(true)?;
        stream.write_all(ECHO).await?;
        Ok(Self::Connection { stream, sent: 0, back: 0 })
    }

    /// Sends up to this many bytes, as many as can be sent now.
    pub(super) fn send(&mut self, due: u64) -> io::Result<u64> {
        match self {
            Self::Connection { stream, sent, .. } => {
                let end = *sent + due.min(1 << 20);
                let part: Vec<u8> = (*sent..end).map(pattern).collect();
                if part.is_empty() {
                    return Ok(0);
                }
                let written = match stream.try_write(&part) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                    written => written? as u64,
                };
                *sent += written;
                Ok(written)
            }
            Self::Datagrams { socket, sent, missing } => {
                let mut bytes = 0;
                while bytes + DATAGRAM as u64 <= due {
                    match socket.try_send(&datagram(*sent)) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        // An ICMP error about an earlier one: that one is lost, which is told anyhow.
                        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                        sent => sent?,
                    };
                    missing.insert(*sent);
                    *sent += 1;
                    bytes += DATAGRAM as u64;
                }
                Ok(bytes)
            }
        }
    }

    /// Says that no more is sent.
    pub(super) async fn finish(&mut self) {
        if let Self::Connection { stream, .. } = self {
            // One that is broken says so when it is read.
            let _ = stream.shutdown().await;
        }
    }

    /// Waits for what comes back.
    pub(super) async fn receive(&mut self) -> Event {
        let mut buffer = [0; 16 * 1024];
        match self {
            Self::Connection { stream, back, .. } => {
                let length = loop {
                    if stream.readable().await.is_err() {
                        return Event::Reset;
                    }
                    match stream.try_read(&mut buffer) {
                        Ok(0) => return Event::Closed,
                        Ok(length) => break length,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(_) => return Event::Reset,
                    }
                };
                let right =
                    (*back..).zip(buffer.iter().take(length)).all(|(at, b)| pattern(at) == *b);
                *back += length as u64;
                if right { Event::Bytes(length as u64) } else { Event::Wrong }
            }
            Self::Datagrams { socket, missing, .. } => loop {
                // An ICMP error about one that is lost.
                let Ok(length) = socket.recv(&mut buffer).await else { continue };
                let Some((number, right)) = number_of(buffer.get(..length).unwrap_or_default())
                else {
                    return Event::Wrong;
                };
                if !right {
                    return Event::Wrong;
                }
                // One that came twice is back already.
                if missing.remove(&number) {
                    return Event::Bytes(DATAGRAM as u64);
                }
            },
        }
    }
}

fn datagram(number: u64) -> Vec<u8> {
    let mut datagram = [ECHO, &number.to_le_bytes()].concat();
    let begin = number * DATAGRAM as u64;
    datagram.extend((begin..begin + DATAGRAM as u64 - 8).map(pattern));
    datagram
}

/// Which datagram this is, and whether it is as it was.
fn number_of(datagram: &[u8]) -> Option<(u64, bool)> {
    let rest = datagram.strip_prefix(ECHO)?;
    let number = u64::from_le_bytes(rest.first_chunk::<8>().copied()?);
    Some((number, datagram == self::datagram(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_in_the_wrong_place_is_noticed() {
        let part: Vec<u8> = (0..4096).map(pattern).collect();
        for shift in 1..64 {
            let same = part.iter().skip(shift).zip(&part).filter(|(a, b)| a == b).count();
            assert!(same < 200, "shifted by {shift}: {same}");
        }
    }

    #[test]
    fn datagrams_say_their_number() {
        let one = datagram(77);
        assert_eq!(number_of(&one), Some((77, true)));
        let mut broken = one.clone();
        broken[100] ^= 1;
        assert_eq!(number_of(&broken), Some((77, false)));
        assert_eq!(number_of(b"echo\n123"), None);
        assert_eq!(number_of(b"shop/cart-0"), None);
    }
}
