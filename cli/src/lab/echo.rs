//! A ping: ICMP's echo request, and whether its answer came.

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use std::{
    io,
    net::{Ipv4Addr, UdpSocket as StdUdpSocket},
    os::fd::OwnedFd,
    process,
    time::Duration,
};
use tokio::{net::UdpSocket, time::sleep};

/// ICMP's type of an echo request (RFC 792).
pub(crate) const REQUEST: u8 = 8;
const REPLY: u8 = 0;

/// A socket of the caller's namespace that hears ICMP.
pub(crate) fn open() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)?)
}

/// The identifier of the pings of one attempt among those of this process, as `ping` makes it of its own number.
pub(crate) fn name(attempt: usize) -> u16 {
    let [.., a, b] = process::id().to_be_bytes();
    let [.., c, d] = attempt.to_be_bytes();
    u16::from_be_bytes([a, b]).wrapping_add(u16::from_be_bytes([c, d]))
}

/// Asks until the answer comes; whoever waits gives up. A raw socket is used as one for datagrams is.
pub(crate) async fn answered(
    socket: OwnedFd,
    to: Ipv4Addr,
    name: u16,
    again: Duration,
) -> io::Result<()> {
    let socket = UdpSocket::from_std(StdUdpSocket::from(socket))?;
    socket.connect((to, 0)).await?;
    let mut packet = [0; 512];
    loop {
        socket.send(&request(name)).await?;
        let asked_again = sleep(again);
        tokio::pin!(asked_again);
        loop {
            tokio::select! {
                received = socket.recv(&mut packet) => {
                    if is_reply(packet.get(..received?).unwrap_or_default(), name) {
                        return Ok(());
                    }
                }
                () = &mut asked_again => break,
            }
        }
    }
}

/// Type, code, checksum, identifier, sequence number; no data.
fn request(name: u16) -> [u8; 8] {
    const SEQUENCE: u16 = 1;
    let words = [u16::from_be_bytes([REQUEST, 0]), name, SEQUENCE];
    let sum: u32 = words.into_iter().map(u32::from).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let [.., s, t] = (!((folded & 0xffff) + (folded >> 16))).to_be_bytes();
    let ([n, m], [q, r]) = (name.to_be_bytes(), SEQUENCE.to_be_bytes());
    [REQUEST, 0, s, t, n, m, q, r]
}

/// Whether a packet, its IPv4 header in front, is the answer.
fn is_reply(packet: &[u8], name: u16) -> bool {
    let header = packet.first().map_or(0, |first| usize::from(first & 0xf) * 4);
    match packet.get(header..) {
        Some([REPLY, 0, _, _, n, m, ..]) => u16::from_be_bytes([*n, *m]) == name,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_reply, request};

    #[test]
    fn a_request_has_a_right_checksum() {
        for name in [0, 1, 0x1234, 0xf7fe, 0xf7ff, 0xffff] {
            let words = request(name).chunks(2).fold(0_u32, |sum, word| match word {
                [a, b] => sum + u32::from(u16::from_be_bytes([*a, *b])),
                _ => sum,
            });
            assert_eq!((words & 0xffff) + (words >> 16), 0xffff, "{name:x}");
        }
    }

    #[test]
    fn a_reply_is_of_its_own_request() {
        let packet = |kind, name: u16| {
            let [n, m] = name.to_be_bytes();
            [vec![0x45], vec![0; 19], vec![kind, 0, 0, 0, n, m, 0, 1]].concat()
        };
        assert!(is_reply(&packet(0, 700), 700));
        assert!(!is_reply(&packet(0, 701), 700), "another's");
        assert!(!is_reply(&packet(8, 700), 700), "a request");
        for short in [&[][..], &[0x45][..], &[0x4f; 24][..]] {
            assert!(!is_reply(short, 0));
        }
    }
}
