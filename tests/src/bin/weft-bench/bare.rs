//! The baseline of every packet: the lab's topology with nothing in it but the kernel's own routing.
//!
//! ```text
//!  client ─veth─ node1 ─veth─ near          same node
//!  client ─veth─ node1 ─veth─ bridge ─veth─ node2 ─veth─ far
//! ```
//!
//! Links, addresses, routes and permanent neighbours are those that Weft gives its pods; there is no
//! program, no packet filter and no connection tracking.

use crate::{
    load::Ends,
    namespace::Namespace,
    program::{self, said},
};
use anyhow::{Context, Result};
use std::{
    io::Write,
    net::Ipv4Addr,
    process::{Command, Stdio},
};
use weft_datapath::{
    kernel::{LinkSpec, Links},
    links::{RealLinks, prepare_node},
};

/// The same as a lab's (`cli/src/lab`).
const BRIDGE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
const NODES: [Ipv4Addr; 2] = [Ipv4Addr::new(172, 30, 0, 11), Ipv4Addr::new(172, 30, 0, 12)];
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 3);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 2);
/// Of pods, and of Ethernet.
pub(crate) const MTU: u32 = 1500;

/// Two nodes, a bridge and three pods.
pub(crate) struct Bare {
    client: Namespace,
    near: Namespace,
    far: Namespace,
    _others: [Namespace; 3],
}

impl Bare {
    /// Makes it.
    pub(crate) fn up() -> Result<Self> {
        let [bridge, first, second] =
            [Namespace::create()?, Namespace::create()?, Namespace::create()?];
        connect(&bridge, [&first, &second])?;
        let prefix = |pod: Ipv4Addr| Ipv4Addr::from(u32::from(pod) & 0xffff_ff00);
        node(&first, NODES[0], &[(prefix(FAR), 24, NODES[1])])?;
        node(&second, NODES[1], &[(prefix(CLIENT), 24, NODES[0])])?;
        Ok(Self {
            client: pod(&first, CLIENT)?,
            near: pod(&first, NEAR)?,
            far: pod(&second, FAR)?,
            _others: [bridge, first, second],
        })
    }

    /// The way to a pod of the same node.
    pub(crate) fn near(&self) -> Ends<'_> {
        Ends { client: &self.client, server: &self.near, address: NEAR }
    }

    /// The way to a pod of the other node.
    pub(crate) fn far(&self) -> Ends<'_> {
        Ends { client: &self.client, server: &self.far, address: FAR }
    }
}

fn connect(bridge: &Namespace, nodes: [&Namespace; 2]) -> Result<()> {
    let mut steps =
        format!("link add br0 type bridge\nlink set br0 up\naddr add {BRIDGE}/24 dev br0\n");
    for (number, node) in nodes.into_iter().enumerate() {
        let path = node.path().display().to_string();
        steps += &format!("link add v{number} type veth peer name eth0 netns {path}\n");
        steps += &format!("link set v{number} master br0 up\n");
    }
    bridge.inside(|| ip(&steps))
}

fn node(node: &Namespace, address: Ipv4Addr, routes: &[(Ipv4Addr, u8, Ipv4Addr)]) -> Result<()> {
    node.inside(|| {
        ip(&format!("addr add {address}/24 dev eth0\nlink set eth0 up\n"))?;
        prepare_node()?;
        Ok(RealLinks.set_routes(routes)?)
    })
}

fn pod(node: &Namespace, address: Ipv4Addr) -> Result<Namespace> {
    let namespace = Namespace::create()?;
    let spec = LinkSpec {
        netns: namespace.path(),
        interface: "eth0".to_owned(),
        host_interface: format!("pod{}", address.octets()[3]),
        address,
        mtu: MTU,
    };
    node.inside(|| {
        RealLinks.plug(&spec)?;
        Ok(RealLinks.open(&spec)?)
    })?;
    Ok(namespace)
}

/// Runs a batch of `ip` commands in the namespace of this thread.
fn ip(steps: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = program::piped(&mut command)?;
    child.stdin.take().context("speak to ip")?.write_all(steps.as_bytes())?;
    said("ip -batch", child.wait_with_output()?).map(drop)
}
