//! A policy reaches what is open already: once `policy wait` has returned, the next packet obeys it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};
use weft_tests::lab::{Lab, is_root, weft_reads};

const PATIENCE: Duration = Duration::from_secs(20);
/// A packet that passes is back within microseconds; on a busy machine this is a long time all the same.
const SILENCE: Duration = Duration::from_millis(60);
const FLIPS: u32 = 8;

/// `near` is on the node of `client`, `far` is not.
fn pods() -> String {
    let pod = |name: &str, node: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: x, labels: {{app: {name}}}}}\n\
             spec: {{nodeName: {node}, containers: [{{name: c, image: i, \
             ports: [{{containerPort: 80}}, {{containerPort: 53, protocol: UDP}}]}}]}}\n---\n"
        )
    };
    [pod("client", "node1"), pod("near", "node1"), pod("far", "node2")].concat()
}

fn policy(app: &str, direction: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: none, namespace: x}}\n\
         spec: {{podSelector: {{matchLabels: {{app: {app}}}}}, policyTypes: [{direction}]}}\n"
    )
}

fn change(lab: &Lab, verb: &str, text: &str) {
    lab.change(verb, text);
    weft_reads(&["policy", "wait", "--lab", &lab.name], "");
}

/// Sends a datagram of its own; whether that very one comes back in time.
fn comes_back(socket: &UdpSocket, number: u32, patience: Duration) -> bool {
    let datagram = [&b"echo\n"[..], &number.to_le_bytes()].concat();
    let until = Instant::now() + patience;
    let mut answer = [0; 64];
    // An ICMP error about an earlier one may be told here.
    while let Err(error) = socket.send(&datagram) {
        assert!(Instant::now() < until, "{error}");
    }
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        socket.set_read_timeout(Some(left)).unwrap();
        match socket.recv(&mut answer) {
            Ok(length) if answer[..length] == datagram => return true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(_) => return false,
        }
    }
}

#[test]
fn root_no_packet_passes_after_the_wait() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("revoke");
    lab.change("up", &pods());
    let mut number = 0;
    let mut next = || {
        number += 1;
        number
    };
    for (peer, policy) in [
        ("near", policy("client", "Egress")),
        ("near", policy("near", "Ingress")),
        ("far", policy("client", "Egress")),
        ("far", policy("far", "Ingress")),
    ] {
        let address = lab.pod(&format!("x/{peer}"))["address"].as_str().unwrap().to_owned();
        let to = address.clone();
        let datagrams = lab.inside("x/client", move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((to, 53)).unwrap();
            socket
        });
        let mut stream = lab.inside("x/client", move || TcpStream::connect((address, 80)).unwrap());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"echo\n").unwrap();
        assert!(comes_back(&datagrams, next(), PATIENCE), "{peer}: before");
        let mut answer = [0; 4];
        for flip in 0..FLIPS {
            change(&lab, "apply", &policy);
            assert!(!comes_back(&datagrams, next(), SILENCE), "{peer}, {flip}: {policy}");
            // What is sent while it is denied waits in the kernel, and goes when it may.
            stream.write_all(b"late").unwrap();
            stream.set_read_timeout(Some(SILENCE)).unwrap();
            let early = stream.read(&mut answer);
            assert!(early.is_err(), "{peer}, {flip}: {early:?} of a connection, {policy}");
            change(&lab, "delete", &policy);
            assert!(comes_back(&datagrams, next(), PATIENCE), "{peer}, {flip}: after {policy}");
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"late", "{peer}, {flip}");
        }
    }
}

/// Thousands of packets a second, so that some are on their way at every step of a change.
#[test]
fn root_no_packet_of_a_flood_passes_after_the_wait() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("flood");
    lab.change("up", &pods());
    for (peer, policy) in [("near", policy("near", "Ingress")), ("far", policy("client", "Egress"))]
    {
        let to = lab.pod(&format!("x/{peer}"))["address"].as_str().unwrap().to_owned();
        let socket = lab.inside("x/client", move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((to, 53)).unwrap();
            socket
        });
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let (numbers, done) = (AtomicU32::new(0), AtomicBool::new(false));
        let mut denied = Vec::new();
        let back = thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    let number = numbers.fetch_add(1, SeqCst);
                    // One that the kernel does not take is one that does not come back.
                    let _ = socket.send(&[&b"echo\n"[..], &number.to_le_bytes()].concat());
                    thread::sleep(Duration::from_micros(50));
                }
            });
            let receiver = scope.spawn(|| {
                let (mut back, mut datagram) = (Vec::new(), [0; 64]);
                loop {
                    match socket.recv(&mut datagram) {
                        Ok(_) => back.push(u32::from_le_bytes(datagram[5..9].try_into().unwrap())),
                        Err(_) if done.load(SeqCst) => return back,
                        Err(_) => {}
                    }
                }
            });
            for _ in 0..FLIPS {
                change(&lab, "apply", &policy);
                // Every number from here on is sent after the wait.
                let first = numbers.load(SeqCst);
                thread::sleep(SILENCE);
                denied.push(first..numbers.load(SeqCst));
                change(&lab, "delete", &policy);
                thread::sleep(SILENCE);
            }
            done.store(true, SeqCst);
            receiver.join().unwrap()
        });
        let sent: usize = denied.iter().map(|range| range.len()).sum();
        let passed: Vec<&u32> =
            back.iter().filter(|n| denied.iter().any(|range| range.contains(n))).collect();
        assert_eq!(passed, Vec::<&u32>::new(), "{peer}: of {sent} that were sent while denied");
        assert!(sent > 100 && back.len() > 100, "{peer}: {sent} denied, {} back", back.len());
    }
}
