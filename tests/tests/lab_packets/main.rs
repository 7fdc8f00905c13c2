//! What is no plain packet, in real labs: fragments, ICMP errors, what is too long for a device, what opens and ends
//! connections of TCP and SCTP.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

mod connections;
mod errors;
mod fragments;
mod mtu;

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};
use weft_tests::lab::Lab;

const PATIENCE: Duration = Duration::from_secs(20);
/// Much longer than a packet takes; what is denied does not come.
const SILENCE: Duration = Duration::from_millis(300);

/// `near` is on the node of `client`, `far` is not; both take some ports of each protocol. The client takes nothing.
fn pods() -> String {
    let pod = |name: &str, node: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: x, labels: {{app: {name}}}}},\n\
             spec: {{nodeName: {node}, containers: [{{name: c, image: i, ports: [\n\
             {{containerPort: 80}}, {{containerPort: 53, protocol: UDP}}, {{containerPort: 54, protocol: UDP}}]}}]}}}}\n---\n"
        )
    };
    let policies = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: some, namespace: x},\n\
                  spec: {podSelector: {matchExpressions: [{key: app, operator: In, values: [near, far]}]},\n\
                  policyTypes: [Ingress], ingress: [{ports: [{port: 80}, {port: 53, protocol: UDP},\n\
                  {port: 55, protocol: UDP}, {port: 132, protocol: SCTP}]}]}}\n---\n\
                  {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: none, namespace: x},\n\
                  spec: {podSelector: {matchLabels: {app: client}}, policyTypes: [Ingress]}}\n";
    [&pod("client", "node1"), &pod("near", "node1"), &pod("far", "node2"), policies].concat()
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
