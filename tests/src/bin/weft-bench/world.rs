//! A small node for programs that are run without a network: two local pods, one remote, a thousand rules, flows.

use crate::kernel::{Bed, UPLINK};
use anyhow::{Context, Result};
use std::{fs::File, os::fd::AsRawFd};
use weft_abi::{
    GATEWAY_MAC,
    address::{Addr, Addr4, NetPort},
    endpoint::{ENDPOINTS, Endpoint},
    ipcache::{ADDRESSES4, AddressEntry, LOCAL, REMOTE_POD},
    map::MapSpec,
    policy::{
        EGRESS, INGRESS, PRECEDENCE_NETWORK_POLICY, PREFIX_PORT, PREFIX_PROTOCOL, PolicyEntry,
        PolicyKey, PolicyPrefix,
    },
};
use weft_datapath::{
    RealKernel,
    kernel::{Maps, RawEntry},
    maps::RealMaps,
    rtnl::{Network, Side},
    run::{Ran, Runnable, Trial},
};

/// `TC_ACT_SHOT` and `TC_ACT_REDIRECT`, linux/pkt_cls.h.
pub(crate) const DROPPED: u32 = 2;
pub(crate) const REDIRECTED: u32 = 7;

/// The ports that policy allows, 8192-16383, are one entry: those that begin with these three bits.
pub(crate) const OPEN_PORT: u16 = 0x2000;
const OPEN_BITS: u32 = 3;
const TCP: u8 = 6;
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
const DATA: u8 = 0x18;

/// A pod of the world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Its address.
    pub(crate) address: [u8; 4],
    /// Where its packets come in: its host side, or the node's device.
    pub(crate) ifindex: u32,
    /// The program there.
    pub(crate) program: Program,
    /// Its hardware address, where it is local.
    pub(crate) mac: [u8; 6],
    identity: u32,
}

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// `from_pod`.
    FromPod,
    /// `from_net`.
    FromNet,
}

// Interfaces are numbered as `make_devices` makes them: after the loopback, of each pair the far side first.
pub(crate) const CLIENT: Place = Place {
    address: [10, 0, 1, 1],
    ifindex: 3,
    program: Program::FromPod,
    mac: [2, 0, 0, 0, 0, 1],
    identity: 1000,
};
pub(crate) const NEAR: Place = Place {
    address: [10, 0, 1, 2],
    ifindex: 2,
    program: Program::FromPod,
    mac: [2, 0, 0, 0, 0, 2],
    identity: 1001,
};
pub(crate) const FAR: Place = Place {
    address: [10, 0, 2, 2],
    ifindex: UPLINK,
    program: Program::FromNet,
    mac: [0; 6],
    identity: 1001,
};
const NODE: [u8; 4] = [172, 30, 0, 12];

/// A kernel with the world written into it.
pub(crate) struct World {
    from_pod: Runnable,
    from_net: Runnable,
    // The programs live as long as their descriptors; maps as long as the programs.
    _kernel: RealKernel,
}

/// Makes the interfaces that worlds of this thread's namespace speak of.
pub(crate) fn make_devices() -> Result<()> {
    let here = File::open("/proc/thread-self/ns/net").context("open this network namespace")?;
    let mut network = Network::here()?;
    for (near, far) in [("client", "near"), ("uplink", "network")] {
        let side = |name| Side { name, mac: GATEWAY_MAC, mtu: 1500 };
        network.make_pair(&side(near), &side(far), here.as_raw_fd())?;
    }
    for (name, index) in [("client", CLIENT.ifindex), ("near", NEAR.ifindex), ("uplink", UPLINK)] {
        let found = network.device(name)?.with_context(|| format!("find {name}"))?.index;
        anyhow::ensure!(found == index, "{name} is interface {found}, not {index}");
    }
    Ok(())
}

impl World {
    /// Loads programs over new maps and writes the world into them; `rules` match nobody's packets.
    pub(crate) fn make(name: &str, rules: usize) -> Result<Self> {
        let kernel = Bed::open(name)?;
        let maps = &kernel.maps;
        for pod in [CLIENT, NEAR] {
            write(maps, &ENDPOINTS, &pod.ifindex.to_ne_bytes(), &endpoint(pod).to_bytes())?;
            let known = AddressEntry {
                identity: pod.identity,
                flags: LOCAL,
                ifindex: pod.ifindex,
                ..AddressEntry::zeroed()
            };
            write(maps, &ADDRESSES4, &pod.address, &known.to_bytes())?;
        }
        let known = AddressEntry {
            identity: FAR.identity,
            flags: REMOTE_POD,
            node: Addr::from4(Addr4::new(NODE)),
            ..AddressEntry::zeroed()
        };
        write(maps, &ADDRESSES4, &FAR.address, &known.to_bytes())?;
        maps.class_replace(&[
            (CLIENT.identity, class(EGRESS, NEAR.identity, rules)),
            (NEAR.identity, class(INGRESS, CLIENT.identity, rules)),
        ])?;
        maps.bump_epoch()?;
        let program = |name| kernel.programs.runnable(name);
        Ok(Self { from_pod: program("from_pod")?, from_net: program("from_net")?, _kernel: kernel })
    }

    /// Runs a packet of this place through its program.
    pub(crate) fn run(&self, from: Place, packet: &[u8], repeat: u32) -> Result<Ran> {
        let program = match from.program {
            Program::FromPod => &self.from_pod,
            Program::FromNet => &self.from_net,
        };
        Ok(program.run(Trial { packet, ifindex: from.ifindex, repeat })?)
    }

    /// Opens a connection with its three packets.
    pub(crate) fn connect(&self, from: Place, to: Place, ports: [u16; 2]) -> Result<()> {
        let [source, destination] = ports;
        for (from, to, ports, flags) in [
            (from, to, ports, SYN),
            (to, from, [destination, source], SYN_ACK),
            (from, to, ports, ACK),
        ] {
            let ran = self.run(from, &packet(from, to, ports, flags), 1)?;
            anyhow::ensure!(
                ran.action == REDIRECTED,
                "connect {source} to {destination}: a program returned {}",
                ran.action
            );
        }
        Ok(())
    }
}

fn endpoint(pod: Place) -> Endpoint {
    Endpoint {
        ifindex: pod.ifindex,
        id: pod.ifindex,
        identity: pod.identity,
        class: pod.identity,
        addr4: Addr4::new(pod.address),
        mac: pod.mac,
        ..Endpoint::zeroed()
    }
}

fn write(maps: &RealMaps, map: &MapSpec, key: &[u8], value: &[u8]) -> Result<()> {
    let entry = RawEntry { key: key.to_vec(), value: value.to_vec() };
    Ok(maps.update(map, &[entry])?)
}

/// The open ports for one peer, and single ports for peers that do not exist.
fn class(direction: u8, peer: u32, rules: usize) -> Vec<(PolicyPrefix, PolicyEntry)> {
    let rule = |identity: u32, port: u16, length: u32, rule: u32| {
        let key = PolicyKey { identity, direction, protocol: TCP, port: NetPort::from_host(port) };
        let entry =
            PolicyEntry { precedence: PRECEDENCE_NETWORK_POLICY, rule, ..PolicyEntry::zeroed() };
        (PolicyPrefix { length, key }, entry)
    };
    let others = (0..rules)
        .zip(0_u32..)
        .zip((0..=u16::MAX).cycle())
        .map(|((_, n), port)| rule(5000 + n, 30_000_u16.wrapping_add(port), PREFIX_PORT, 2 + n));
    others.chain([rule(peer, OPEN_PORT, PREFIX_PROTOCOL + OPEN_BITS, 1)]).collect()
}

/// The first packet of a connection.
pub(crate) fn opening(from: Place, to: Place, ports: [u16; 2]) -> Vec<u8> {
    packet(from, to, ports, SYN)
}

/// The first packet back.
pub(crate) fn answer(from: Place, to: Place, ports: [u16; 2]) -> Vec<u8> {
    packet(from, to, ports, SYN_ACK)
}

/// A packet of a connection that was opened.
pub(crate) fn data(from: Place, to: Place, ports: [u16; 2]) -> Vec<u8> {
    packet(from, to, ports, DATA)
}

/// Ethernet, IPv4 with its checksum and the most time to live, TCP without options, one byte.
fn packet(from: Place, to: Place, [source, destination]: [u16; 2], flags: u8) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 41, 0, 0, 0x40, 0, 255, TCP, 0, 0];
    ip.extend(from.address.iter().chain(&to.address));
    let sum = checksum(&ip).to_be_bytes();
    ip.iter_mut().skip(10).zip(sum).for_each(|(to, from)| *to = from);
    let mut packet = [&GATEWAY_MAC[..], &from.mac, &[8, 0], &ip].concat();
    packet.extend(source.to_be_bytes().into_iter().chain(destination.to_be_bytes()));
    packet.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0, b'w']);
    // The least that a frame has.
    packet.resize(64, 0);
    packet
}

/// The Internet checksum (RFC 1071).
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        _ => pair.first().map_or(0, |high| u32::from(*high) << 8),
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = ((folded & 0xffff) + (folded >> 16)).to_be_bytes();
    !u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_its_checksum_sums_to_zero() {
        let packet = data(CLIENT, NEAR, [1024, OPEN_PORT]);
        assert_eq!(checksum(&packet[14..34]), 0);
        assert_eq!(packet.len(), 64);
        assert_eq!(&packet[34..38], [4, 0, 0x20, 0]);
    }

    #[test]
    fn the_open_ports_are_what_is_said() {
        let rules = class(EGRESS, 7, 2);
        let (prefix, _) = rules.last().unwrap();
        let open = u32::from(prefix.key.port.to_host());
        let size = 1 << (16 - (prefix.length - PREFIX_PROTOCOL));
        assert_eq!((open, open + size - 1), (8192, 16383));
    }
}
