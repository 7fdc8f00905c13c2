//! Connections by their state, and what opens them: TCP, and SCTP where the kernel has it.

use crate::{PATIENCE, SILENCE, address, pods};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, bind, connect, recv,
    sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};
use weft_tests::lab::{Lab, is_root, weft};

/// A closed connection is remembered for 10 s, and goes with the next sweep, of which there is one every 10 s. Twice that.
const FORGOTTEN: Duration = Duration::from_secs(40);

/// What the node says of the flow from a port, in either table.
fn states(lab: &Lab, from: &str) -> Vec<String> {
    let mut states = Vec::new();
    for table in ["flows4", "pending4"] {
        let output = weft(&["map", "dump", table, "--lab", &lab.name, "--node", "node1"]);
        let text = String::from_utf8(output.stdout).unwrap();
        states.extend(text.lines().filter(|line| line.contains(from)).map(|line| {
            let words = line.split_whitespace().skip_while(|word| *word != "allowed");
            words.skip(1).take_while(|word| *word != "epoch").collect::<String>()
        }));
    }
    states
}

#[track_caller]
fn becomes(lab: &Lab, from: &str, state: &str) {
    let begun = Instant::now();
    while states(lab, from) != [state] {
        assert!(begun.elapsed() < PATIENCE, "{from} is {:?}, not {state}", states(lab, from));
    }
}

#[test]
fn root_a_connection_is_known_by_its_state() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("packetstcp");
    lab.change("up", &pods());
    let to = address(&lab, "x/far");
    let open = lab.inside("x/client", move || TcpStream::connect((to, 80)).unwrap());
    let mut over = Vec::new();
    for peer in ["x/near", "x/far"] {
        let to = address(&lab, peer);
        let mut stream = lab.inside("x/client", move || TcpStream::connect((to, 80)).unwrap());
        let from = format!("{} ->", stream.local_addr().unwrap());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        becomes(&lab, &from, "established");
        stream.write_all(b"echo\n").unwrap();
        // The server ends its half when it has sent back what it got.
        stream.write_all(b"bytes").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        becomes(&lab, &from, "closed");
        over.push(from);
    }
    let closed = Instant::now();
    // Nobody answers where nothing may arrive: not even the opening is remembered among the open.
    let outside = Ipv4Addr::new(172, 30, 9, 9);
    let silent = lab.inside("x/client", move || {
        let flags = SockFlag::SOCK_NONBLOCK;
        let tcp = SockProtocol::Tcp;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, tcp).unwrap();
        let to = SockaddrIn::from(SocketAddrV4::new(outside, 80));
        connect(socket.as_raw_fd(), &to).unwrap_err();
        socket
    });
    becomes(&lab, "-> 172.30.9.9:80", "opening");
    drop(silent);
    // What is over goes by itself; one that is open stays, though nobody speaks.
    while over.iter().any(|from| !states(&lab, from).is_empty()) {
        assert!(closed.elapsed() < FORGOTTEN, "{over:?} are remembered");
        std::thread::sleep(Duration::from_millis(500));
    }
    becomes(&lab, &format!("{} ->", open.local_addr().unwrap()), "established");
}

/// A raw socket of the calling thread's namespace.
fn raw() -> OwnedFd {
    let sctp = SockProtocol::Sctp;
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), sctp).unwrap();
    let patience = TimeVal::milliseconds(i64::try_from(SILENCE.as_millis()).unwrap());
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience).unwrap();
    socket
}

/// An INIT between two ports; what judges it does not read on.
fn init(from: u16, to: u16) -> Vec<u8> {
    let mut packet = [from, to].map(u16::to_be_bytes).concat();
    packet.extend([0; 8]);
    packet.extend([1, 0, 0, 20]);
    packet.resize(12 + 20, 0);
    packet
}

/// Whether an INIT to this port comes before long.
fn hears(socket: &OwnedFd, port: u16, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    let mut packet = [0; 128];
    while Instant::now() < until {
        match recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            // Behind the IPv4 header.
            Ok(length) if length >= 24 && packet[22..24] == port.to_be_bytes() => return true,
            _ => {}
        }
    }
    false
}

/// SCTP's packets, with or without a kernel that speaks it: sent and heard raw.
#[test]
fn root_sctp_is_judged_by_its_ports() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("packetssctp");
    lab.change("up", &pods());
    let from = lab.inside("x/client", raw);
    for peer in ["x/near", "x/far"] {
        let to = address(&lab, peer);
        let heard = lab.inside(peer, raw);
        let send = |port: u16| {
            let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
            sendto(from.as_raw_fd(), &init(7_000, port), &to, MsgFlags::empty()).unwrap();
        };
        send(133);
        send(132);
        assert!(hears(&heard, 132, PATIENCE), "{peer}");
        assert!(!hears(&heard, 133, SILENCE), "{peer}: a port that is denied");
    }
    becomes(&lab, &format!("{}:132", address(&lab, "x/far")), "opening");
}

#[test]
fn root_an_association_of_the_kernels_own_is_opened_and_ended() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("packetsassoc");
    lab.change("up", &pods());
    lab.change(
        "apply",
        "{apiVersion: v1, kind: Pod, metadata: {name: server, namespace: x},\n\
         spec: {nodeName: node2, containers: [{name: c, image: i,\n\
         ports: [{containerPort: 132, protocol: SCTP}, {containerPort: 132}]}]}}\n",
    );
    assert_eq!(lab.reaches("x/client", "x/server", "TCP", 132), Some(true), "with SCTP or without");
    let (stream, sctp) = (SockType::Stream, SockProtocol::Sctp);
    if socket(AddressFamily::Inet, stream, SockFlag::empty(), sctp).is_err() {
        assert_eq!(lab.reaches("x/client", "x/server", "SCTP", 132), None, "no row can be tried");
        let test = "root_an_association_of_the_kernels_own_is_opened_and_ended";
        let why = "this kernel has no SCTP (CONFIG_IP_SCTP); only its packets were tried";
        let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
        return;
    }
    assert_eq!(lab.reaches("x/client", "x/server", "SCTP", 132), Some(true));
    // From a port of its own, so that its entry is none of those.
    let (client, server) = (address(&lab, "x/client"), address(&lab, "x/server"));
    let association = lab.inside("x/client", move || {
        let socket = socket(AddressFamily::Inet, stream, SockFlag::empty(), sctp).unwrap();
        let (from, to) = (SocketAddrV4::new(client, 7_000), SocketAddrV4::new(server, 132));
        bind(socket.as_raw_fd(), &SockaddrIn::from(from)).unwrap();
        connect(socket.as_raw_fd(), &SockaddrIn::from(to)).unwrap();
        socket
    });
    let from = format!("SCTP {client}:7000 ->");
    becomes(&lab, &from, "established");
    drop(association);
    becomes(&lab, &from, "closed");
}
