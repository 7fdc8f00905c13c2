//! ICMP errors: who sends from a pod is told what became of it, though the pod lets nobody in.

use crate::{PATIENCE, SILENCE, address, pods};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, setsockopt,
    socket, sockopt,
};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};
use weft_tests::lab::{Lab, is_root};

/// Nobody listens there, and policy lets datagrams to it pass.
const CLOSED: u16 = 55;
/// Nobody listens there, and policy lets nothing to it pass.
const DENIED: u16 = 56;

fn open(lab: &Lab, to: Ipv4Addr, port: u16, ttl: u32) -> UdpSocket {
    lab.inside("x/client", move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true).unwrap();
        socket.set_ttl(ttl).unwrap();
        socket.connect((to, port)).unwrap();
        socket
    })
}

/// Sends until the socket is told of an error, for so long.
fn told(socket: &UdpSocket, patience: Duration) -> Option<ErrorKind> {
    let until = Instant::now() + patience;
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    while Instant::now() < until {
        let done = socket.send(b"x").and_then(|_| socket.recv(&mut [0; 8]));
        match done {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Some(error.kind()),
            _ => {}
        }
    }
    None
}

#[test]
fn root_a_pod_is_told_of_closed_ports_and_of_ways_too_long() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("packetserr");
    lab.change("up", &pods());
    for peer in ["x/near", "x/far"] {
        let to = address(&lab, peer);
        let refused = told(&open(&lab, to, CLOSED, 64), PATIENCE);
        assert_eq!(refused, Some(ErrorKind::ConnectionRefused), "{peer}");
        assert_eq!(
            told(&open(&lab, to, DENIED, 64), SILENCE),
            None,
            "{peer}: a port that is denied"
        );
    }
    // Out of the cluster the node is the first hop, and its own stack says so.
    let outside = Ipv4Addr::new(172, 30, 0, 1);
    let far = told(&open(&lab, outside, CLOSED, 1), PATIENCE);
    assert_eq!(far, Some(ErrorKind::HostUnreachable));
    // Another node is nobody whom the client lets in.
    let refused = told(&open(&lab, Ipv4Addr::new(172, 30, 0, 12), CLOSED, 64), PATIENCE);
    assert_eq!(refused, Some(ErrorKind::ConnectionRefused));
}

/// "Port unreachable" about a datagram between two, as a header and the head of what did not arrive.
fn unreachable(from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    let mut error = vec![3, 3, 0, 0, 0, 0, 0, 0];
    error.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
    error.extend(from.ip().octets().into_iter().chain(to.ip().octets()));
    error.extend([from.port(), to.port(), 8, 0].map(u16::to_be_bytes).concat());
    let words = error.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    error[2..4].copy_from_slice(&checksum.to_be_bytes());
    error
}

fn dropped(lab: &Lab, reason: &str) -> u64 {
    let text = lab.on_node("node1", || {
        let mut stream = TcpStream::connect(("127.0.0.1", 9962)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let series = format!("weft_drop_count_total{{reason=\"{reason}\",direction=\"INGRESS\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or(0)
}

/// Anybody can write an error; it passes if the pod sent what it quotes, and only then.
#[test]
fn root_an_error_about_what_a_pod_did_not_send_is_dropped_and_counted() {
    const REASON: &str = "Unknown connection tracking state";
    if !is_root() {
        return;
    }
    let lab = Lab::named("packetsforged");
    lab.change("up", &pods());
    let (client, far) = (address(&lab, "x/client"), address(&lab, "x/far"));
    let talks = open(&lab, far, 53, 64);
    talks.set_read_timeout(Some(PATIENCE)).unwrap();
    talks.send(b"who\n").unwrap();
    talks.recv(&mut [0; 64]).unwrap();
    let port = talks.local_addr().unwrap().port();
    let says = |port: u16| {
        lab.on_node("node2", move || {
            let (raw, icmp) = (SockType::Raw, SockProtocol::Icmp);
            let socket = socket(AddressFamily::Inet, raw, SockFlag::empty(), icmp).unwrap();
            let error = unreachable(SocketAddrV4::new(client, port), SocketAddrV4::new(far, 53));
            let to = SockaddrIn::from(SocketAddrV4::new(client, 0));
            sendto(socket.as_raw_fd(), &error, &to, MsgFlags::empty()).unwrap();
        });
    };
    let before = dropped(&lab, REASON);
    // Of no flow: the pod has never sent from there.
    says(port ^ 1);
    let begun = Instant::now();
    while dropped(&lab, REASON) == before {
        assert!(begun.elapsed() < PATIENCE, "it was not counted");
    }
    talks.set_read_timeout(Some(SILENCE)).unwrap();
    assert_eq!(talks.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    // Of its own: whoever is on the way may say so.
    says(port);
    talks.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(talks.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(dropped(&lab, REASON), before + 1);
}
