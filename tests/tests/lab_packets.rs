//! What is no plain packet: fragments, as real pods send and put them together.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};
use weft_tests::lab::{Lab, is_root};

const PATIENCE: Duration = Duration::from_secs(20);
/// Much longer than a packet takes; what is denied does not come.
const SILENCE: Duration = Duration::from_millis(300);

/// `near` is on the node of `client`, `far` is not; both take datagrams to 53 and not to 54.
fn pods() -> String {
    let pod = |name: &str, node: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: x, labels: {{app: {name}}}}},\n\
             spec: {{nodeName: {node}, containers: [{{name: c, image: i, ports: [\n\
             {{containerPort: 53, protocol: UDP}}, {{containerPort: 54, protocol: UDP}}]}}]}}}}\n---\n"
        )
    };
    let policy = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: names, namespace: x},\n\
                  spec: {podSelector: {matchExpressions: [{key: app, operator: In, values: [near, far]}]},\n\
                  policyTypes: [Ingress], ingress: [{ports: [{port: 53, protocol: UDP}]}]}}\n";
    [&pod("client", "node1"), &pod("near", "node1"), &pod("far", "node2"), policy].concat()
}

fn address(lab: &Lab, pod: &str) -> Ipv4Addr {
    lab.pod(pod)["address"].as_str().unwrap().parse().unwrap()
}

/// A datagram of so many bytes that its server sends back.
fn datagram(number: u32, length: usize) -> Vec<u8> {
    let mut datagram = [&b"echo\n"[..], &number.to_le_bytes()].concat();
    datagram.resize(length, 0x5a);
    datagram
}

/// Whether this very datagram comes in time.
fn comes(socket: &UdpSocket, datagram: &[u8], patience: Duration) -> bool {
    let until = Instant::now() + patience;
    let mut answer = vec![0; 1 << 16];
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|l| !l.is_zero()) {
        socket.set_read_timeout(Some(left)).unwrap();
        match socket.recv(&mut answer) {
            Ok(length) if answer[..length] == *datagram => return true,
            _ => {}
        }
    }
    false
}

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
    let output = weft_tests::lab::weft(&["map", "dump", "fragments4", "--lab", &lab.name]);
    let text = String::from_utf8(output.stdout).unwrap();
    let latest = format!("UDP {client} -> {} latest", address(&lab, "x/far"));
    assert!(text.contains(&latest), "{text}");
}
