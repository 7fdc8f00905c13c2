//! What is too long for the node's device: senders are told and adapt, and new pods get what there is.

use crate::{PATIENCE, address, comes, datagram, pods};
use nix::{
    libc,
    sys::socket::{setsockopt, sockopt::SetStruct},
};
use std::{
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    process::Command,
    time::{Duration, Instant},
};
use weft_tests::lab::{Lab, is_root};

const SMALL: &str = "1300";

/// Whether a socket's packets may be cut (`IP_MTU_DISCOVER`, ip(7)).
#[derive(Clone, Copy)]
struct MtuDiscover;
nix::setsockopt_impl!(
    MtuDiscover,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    libc::c_int,
    SetStruct<libc::c_int>
);

/// The MTU of the pod's device, as the pod sees it.
fn mtu(lab: &Lab, pod: &str) -> String {
    lab.inside(pod, || {
        let output = Command::new("ip").args(["-o", "link", "show", "eth0"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().skip_while(|word| *word != "mtu").nth(1).unwrap().to_owned()
    })
}

#[test]
fn root_who_sends_too_long_packets_is_told_and_new_pods_send_none() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("packetsmtu");
    lab.change("up", &pods());
    assert_eq!(mtu(&lab, "x/client"), "1500");
    let to = address(&lab, "x/far");
    let (datagrams, mut stream) = lab.inside("x/client", move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((to, 53)).unwrap();
        (socket, TcpStream::connect((to, 80)).unwrap())
    });
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"echo\n").unwrap();
    for node in ["node1", "node2"] {
        lab.on_node(node, || {
            let set = ["link", "set", "eth0", "mtu", SMALL];
            assert!(Command::new("ip").args(set).status().unwrap().success());
        });
    }
    // The first one is sent as a whole that must not be cut; the sender is told, and cuts the next.
    let sent = datagram(1, 1_400);
    let begun = Instant::now();
    let arrives = || {
        datagrams.send(&sent).ok();
        comes(&datagrams, &sent, Duration::from_millis(300))
    };
    while !arrives() {
        assert!(begun.elapsed() < PATIENCE, "a datagram of {} bytes", sent.len());
    }
    // A connection that was opened when there was more room.
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut writer = stream.try_clone().unwrap();
    let writes = std::thread::spawn({
        let bytes = bytes.clone();
        move || writer.write_all(&bytes).unwrap()
    });
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    writes.join().unwrap();
    assert!(back == bytes, "a stream of {} bytes", bytes.len());
    // The node's own stack refuses what must not be cut and is too long for the route, with headers of 28 bytes.
    let sends = lab.on_node("node1", move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        setsockopt(&socket, MtuDiscover, &libc::IP_PMTUDISC_DO).unwrap();
        socket.connect((to, 53)).unwrap();
        [1_272, 1_273, 1_400]
            .map(|length| socket.send(&vec![0; length]).map_err(|error| error.raw_os_error()))
    });
    let too_long = Err(Some(libc::EMSGSIZE));
    assert_eq!(sends, [Ok(1_272), too_long, too_long]);

    // An agent that is started now sees what there is; pods that are there are as they should be.
    lab.does(&["agent", "kill", "--node", "node1"]);
    lab.does(&["agent", "start", "--node", "node1"]);
    lab.change(
        "apply",
        "{apiVersion: v1, kind: Pod, metadata: {name: late, namespace: x},\n\
         spec: {nodeName: node1, containers: [{name: c, image: i}]}}\n",
    );
    assert_eq!((mtu(&lab, "x/late").as_str(), mtu(&lab, "x/client").as_str()), (SMALL, "1500"));
}
