//! The baseline of every packet: the lab's topology with nothing in it but the kernel's own routing.
//!
//! ```text
//!  client ─veth─ node1 ─veth─ near          same node
//!  client ─veth─ node1 ─veth─ bridge ─veth─ node2 ─veth─ far
//! ```
//!
//! Links, addresses, routes and permanent neighbours are those that Weft gives its pods; there is no
//! program, no packet filter and no connection tracking. [`Bare::redirected`] has the least of programs.

use crate::{
    load::Ends,
    namespace::Namespace,
    program::{self, said},
    redirect::{self, Leave},
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
    rtnl::Network,
    run::Attached,
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
    nodes: [Namespace; 2],
    /// The host sides of client, near and far.
    links: [u32; 3],
    programs: Vec<Attached>,
    _bridge: Namespace,
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
        let (client, client_link) = pod(&first, CLIENT)?;
        let (near, near_link) = pod(&first, NEAR)?;
        let (far, far_link) = pod(&second, FAR)?;
        let (nodes, links) = ([first, second], [client_link, near_link, far_link]);
        Ok(Self { client, near, far, nodes, links, programs: vec![], _bridge: bridge })
    }

    /// The same with the least of programs instead of the nodes' routing ([`crate::redirect`]).
    pub(crate) fn redirected() -> Result<Self> {
        let mut bare = Self::up()?;
        let [client, near, far] = bare.links;
        let [first, second] = &bare.nodes;
        let to_client = (CLIENT, Leave::Pod(client));
        let mut programs = first.inside(|| {
            let device = uplink()?;
            let ways = [(NEAR, Leave::Pod(near)), (FAR, Leave::Device(device, NODES[1]))];
            Ok(vec![
                redirect::attach(client, &ways)?,
                redirect::attach(near, &[to_client])?,
                redirect::attach(device, &[to_client])?,
            ])
        })?;
        programs.extend(second.inside(|| {
            let device = uplink()?;
            Ok([
                redirect::attach(far, &[(CLIENT, Leave::Device(device, NODES[0]))])?,
                redirect::attach(device, &[(FAR, Leave::Pod(far))])?,
            ])
        })?);
        bare.programs = programs;
        Ok(bare)
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

/// Index of the node's device.
fn uplink() -> Result<u32> {
    Ok(Network::here()?.device("eth0")?.context("find the node's device")?.index)
}

/// A pod, and its link's host side.
fn pod(node: &Namespace, address: Ipv4Addr) -> Result<(Namespace, u32)> {
    let namespace = Namespace::create()?;
    let spec = LinkSpec {
        netns: namespace.path(),
        interface: "eth0".to_owned(),
        host_interface: format!("pod{}", address.octets()[3]),
        address,
        mtu: MTU,
        adopt: false,
    };
    let link = node.inside(|| {
        let link = RealLinks.plug(&spec)?;
        RealLinks.open(&spec)?;
        Ok(link.ifindex)
    })?;
    Ok((namespace, link))
}

/// Runs a batch of `ip` commands in the namespace of this thread.
fn ip(steps: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = program::piped(&mut command)?;
    child.stdin.take().context("speak to ip")?.write_all(steps.as_bytes())?;
    said("ip -batch", child.wait_with_output()?).map(drop)
}
