//! Fragments, as real pods send and put them together.

use crate::{PATIENCE, SILENCE, address, comes, datagram, pods};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use std::{
    net::{SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
};
use weft_tests::lab::{Lab, is_root, weft};

#[test]
fn root_datagrams_larger_than_a_packet_arrive_whole_or_not_at_all() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("packetsfrag");
    lab.change("up", &pods());
    for (number, peer) in (0..).zip(["x/near", "x/far"]) {
        let to = address(&lab, peer);
        let (allowed, denied) = lab.inside("x/client", move || {
            let open = |port: u16| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.connect((to, port)).unwrap();
                socket
            };
            (open(53), open(54))
        });
        for length in [1_500, 4_000, 20_000] {
            let sent = datagram(number, length);
            denied.send(&sent).unwrap();
            allowed.send(&sent).unwrap();
            assert!(comes(&allowed, &sent, PATIENCE), "{peer}: {length} bytes");
            assert!(!comes(&denied, &sent, SILENCE), "{peer}: {length} bytes to a closed port");
        }
    }
}

/// A UDP datagram in pieces of `step` bytes, each an IPv4 packet, from its last to its first.
fn backwards(from: SocketAddrV4, to: SocketAddrV4, id: u16, payload: &[u8]) -> Vec<Vec<u8>> {
    const STEP: usize = 1_024;
    let length = u16::try_from(payload.len() + 8).unwrap();
    // A checksum of zero is none (RFC 768).
    let mut whole = [from.port(), to.port(), length, 0].map(u16::to_be_bytes).concat();
    whole.extend(payload);
    let count = whole.len().div_ceil(STEP);
    let piece = |(number, part): (usize, &[u8])| {
        let more = u16::from(number + 1 < count) << 13;
        let offset = u16::try_from(number * STEP / 8).unwrap() | more;
        let length = u16::try_from(20 + part.len()).unwrap();
        let mut packet = vec![0x45, 0];
        packet.extend([length, id, offset].map(u16::to_be_bytes).concat());
        // Time to live, UDP, and a checksum that the kernel writes.
        packet.extend([64, 17, 0, 0]);
        packet.extend(from.ip().octets().into_iter().chain(to.ip().octets()));
        packet.extend(part);
        packet
    };
    let mut pieces: Vec<_> = whole.chunks(STEP).enumerate().map(piece).collect();
    pieces.reverse();
    pieces
}

#[test]
fn root_fragments_that_come_backwards_are_put_together_once_their_flow_is_known() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("packetsback");
    lab.change("up", &pods());
    let client = address(&lab, "x/client");
    for peer in ["x/near", "x/far"] {
        let to = address(&lab, peer);
        let send = |port: u16, id: u16| {
            lab.inside("x/client", move || {
                let socket_ = UdpSocket::bind((client, 0)).unwrap();
                let from = SocketAddrV4::new(client, socket_.local_addr().unwrap().port());
                let to = SocketAddrV4::new(to, port);
                let sent = datagram(u32::from(id), 3_000);
                let raw = socket(
                    AddressFamily::Inet,
                    SockType::Raw,
                    SockFlag::empty(),
                    SockProtocol::Raw,
                )
                .unwrap();
                for piece in backwards(from, to, id, &sent) {
                    let length =
                        sendto(raw.as_raw_fd(), &piece, &SockaddrIn::from(to), MsgFlags::empty());
                    assert_eq!(length.unwrap(), piece.len());
                }
                (socket_, sent)
            })
        };
        // Of the first one only the first fragment passed; it says where the others belong.
        let (socket, sent) = send(53, 1);
        assert!(!comes(&socket, &sent, SILENCE), "{peer}: nothing was known of its flow");
        for id in 2..12 {
            let (socket, sent) = send(53, id);
            assert!(comes(&socket, &sent, PATIENCE), "{peer}: datagram {id}");
        }
        // Pieces that pass for another's are no datagram without a first fragment.
        let (socket, sent) = send(54, 12);
        assert!(!comes(&socket, &sent, SILENCE), "{peer}: a closed port");
    }
    let output = weft(&["map", "dump", "fragments4", "--lab", &lab.name]);
    let text = String::from_utf8(output.stdout).unwrap();
    let latest = format!("UDP {client} -> {} latest", address(&lab, "x/far"));
    assert!(text.contains(&latest), "{text}");
}
