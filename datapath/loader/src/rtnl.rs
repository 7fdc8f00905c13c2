//! Devices, addresses, routes and neighbours of one network namespace, as typed requests and rows.

use crate::netlink::{self, Request, Socket, attribute, find, half, text, word};
use std::{fs, io, net::Ipv4Addr, os::fd::RawFd};

/// `AF_INET` in a byte, as netlink wants it.
const INET: u8 = 2;
const _: () = assert!(libc::AF_INET == INET as i32);
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
/// `linux/if_link.h`, Linux 5.0 or later (`IFLA_IF_NETNSID` before).
const IFLA_TARGET_NETNSID: u16 = 46;
/// `linux/if.h`.
const IF_OPER_UP: u8 = 6;
/// `linux/rtnetlink.h`, Linux 5.5 or later.
const RTM_NEWLINKPROP: u16 = 108;
/// `linux/netlink.h`: the kernel asks for it where it reads strictly.
const NLA_F_NESTED: u16 = 1 << 15;
const DUMP: i32 = libc::NLM_F_DUMP;
const MAKE: i32 = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
/// Who made a route (`rtm_protocol`; `ip route` shows `proto 87`). The kernel keeps 0 to 4 for itself and leaves the others
/// to user space (`linux/rtnetlink.h`, `RTPROT_*`); no `RTPROT_*` there and no row of iproute2's `rt_protos` has 87, a `W`.
const PROTOCOL: u8 = 87;

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Other names that it has (`altname`).
    pub other_names: Vec<String>,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it is operational (`IF_OPER_UP`): up, with a carrier, and with a queue to send by.
    pub carries: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its hardware address, when it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// Index of its peer, in the peer's namespace.
    pub peer: Option<u32>,
    /// What this namespace calls the peer's, where that is another.
    pub peer_namespace: Option<i32>,
    /// Whether it is one side of a veth pair.
    pub veth: bool,
}

/// A route through a gateway, or to a device when it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to: address and length.
    pub prefix: (Ipv4Addr, u8),
    /// The gateway.
    pub via: Option<Ipv4Addr>,
    /// 0 lets the kernel find it by the gateway.
    pub device: u32,
}

/// One side of a new pair.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Its MTU in bytes.
    pub mtu: u32,
}

impl Side<'_> {
    fn attributes(&self) -> Vec<u8> {
        [
            attribute(libc::IFLA_IFNAME, &text(self.name)),
            attribute(libc::IFLA_ADDRESS, &self.mac),
            attribute(libc::IFLA_MTU, &self.mtu.to_ne_bytes()),
        ]
        .concat()
    }
}

/// A namespace's network, spoken to over one socket.
#[derive(Debug)]
pub struct Network(Socket);

impl Network {
    /// That of the calling thread.
    pub fn here() -> io::Result<Self> {
        Socket::open().map(Self)
    }

    /// Makes a pair, one side here, the other in the namespace of the descriptor, both down.
    pub fn make_pair(
        &mut self,
        near: &Side<'_>,
        far: &Side<'_>,
        namespace: RawFd,
    ) -> io::Result<()> {
        let peer = [
            ifinfo(0, 0, 0),
            far.attributes(),
            attribute(libc::IFLA_NET_NS_FD, &namespace.to_ne_bytes()),
        ]
        .concat();
        let info = [
            attribute(IFLA_INFO_KIND, b"veth"),
            attribute(IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &peer)),
        ]
        .concat();
        let body = [ifinfo(0, 0, 0), near.attributes()].concat();
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.ask(Request::new(libc::RTM_NEWLINK, flags, &body).with(libc::IFLA_LINKINFO, &info))
    }

    /// Gives a device another hardware address.
    pub fn set_mac(&mut self, index: u32, mac: [u8; 6]) -> io::Result<()> {
        let request = Request::new(libc::RTM_NEWLINK, 0, &ifinfo(index, 0, 0));
        self.ask(request.with(libc::IFLA_ADDRESS, &mac))
    }

    /// Gives a device one more name; one that it has already is no error.
    pub fn add_name(&mut self, device: &Device, name: &str) -> io::Result<()> {
        if device.other_names.iter().any(|other| other == name) {
            return Ok(());
        }
        let names = attribute(libc::IFLA_ALT_IFNAME, &text(name));
        let request = Request::new(RTM_NEWLINKPROP, 0, &ifinfo(device.index, 0, 0));
        self.ask(request.with(libc::IFLA_PROP_LIST | NLA_F_NESTED, &names))
    }

    /// Sets a device up.
    pub fn set_up(&mut self, index: u32) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        self.ask(Request::new(libc::RTM_NEWLINK, 0, &ifinfo(index, up, up)))
    }

    /// Removes a device.
    pub fn remove(&mut self, index: u32) -> io::Result<()> {
        self.ask(Request::new(libc::RTM_DELLINK, 0, &ifinfo(index, 0, 0)))
    }

    /// Every device.
    pub fn devices(&mut self) -> io::Result<Vec<Device>> {
        let rows = self.0.ask(Request::new(libc::RTM_GETLINK, DUMP, &ifinfo(0, 0, 0)))?;
        Ok(rows.iter().filter_map(|row| read_device(row)).collect())
    }

    /// The device of a number.
    pub fn device_at(&mut self, index: u32) -> io::Result<Option<Device>> {
        self.find_device(Request::new(libc::RTM_GETLINK, 0, &ifinfo(index, 0, 0)))
    }

    /// The device of a name, be it one of its other names.
    pub fn device(&mut self, name: &str) -> io::Result<Option<Device>> {
        let request = Request::new(libc::RTM_GETLINK, 0, &ifinfo(0, 0, 0));
        self.find_device(request.with(libc::IFLA_IFNAME, &text(name)))
    }

    /// The other side of a pair, whatever namespace it is in.
    pub fn peer(&mut self, device: &Device) -> io::Result<Option<Device>> {
        let Some(peer) = device.peer else { return Ok(None) };
        let mut request = Request::new(libc::RTM_GETLINK, 0, &ifinfo(peer, 0, 0));
        if let Some(namespace) = device.peer_namespace {
            request = request.with(IFLA_TARGET_NETNSID, &namespace.to_ne_bytes());
        }
        self.find_device(request)
    }

    fn find_device(&mut self, request: Request) -> io::Result<Option<Device>> {
        match self.0.ask(request) {
            Ok(rows) => Ok(rows.first().and_then(|row| read_device(row))),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives a device an address that no other device is reached by (`/32`).
    pub fn add_address(&mut self, device: u32, address: Ipv4Addr) -> io::Result<()> {
        let body = [[INET, 32, 0, 0], device.to_ne_bytes()].concat();
        let request = Request::new(libc::RTM_NEWADDR, MAKE, &body)
            .with(libc::IFA_LOCAL, &address.octets())
            .with(libc::IFA_ADDRESS, &address.octets());
        self.ask(request)
    }

    /// Takes an address from a device, and with it the routes that prefer it as their source.
    pub fn remove_address(&mut self, device: u32, address: Ipv4Addr) -> io::Result<()> {
        let body = [[INET, 32, 0, 0], device.to_ne_bytes()].concat();
        let request = Request::new(libc::RTM_DELADDR, 0, &body);
        self.ask(request.with(libc::IFA_LOCAL, &address.octets()))
    }

    /// Every IPv4 address with its device.
    pub fn addresses(&mut self) -> io::Result<Vec<(Ipv4Addr, u32)>> {
        let rows =
            self.0.ask(Request::new(libc::RTM_GETADDR, DUMP, &[INET, 0, 0, 0, 0, 0, 0, 0]))?;
        let read = |row: &Vec<u8>| {
            let attributes = row.get(8..)?;
            Some((address(find(attributes, libc::IFA_LOCAL)?)?, word(row, 4)?))
        };
        Ok(rows.iter().filter_map(read).collect())
    }

    /// Adds a route, or replaces ours to the same prefix. One that others made is never touched: where theirs
    /// leads to the same place it will do, and else this is an error.
    pub fn add_route(&mut self, route: Route) -> io::Result<()> {
        let make = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        match self.ask(route_request(libc::RTM_NEWROUTE, make, route)) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            done => return done,
        }
        let (ours, theirs): (Vec<_>, Vec<_>) =
            self.main_table()?.into_iter().partition(|(_, ours)| *ours);
        if ours.iter().any(|(present, _)| present.prefix == route.prefix) {
            return self.ask(route_request(libc::RTM_NEWROUTE, MAKE, route));
        }
        let same = |present: &Route| {
            let device = route.device == 0 || present.device == route.device;
            present.prefix == route.prefix && present.via == route.via && device
        };
        if theirs.iter().any(|(present, _)| same(present)) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "another program made a route to the same prefix; remove it, or have that program leave \
             the prefix alone",
        ))
    }

    /// Removes a route that we made.
    pub fn remove_route(&mut self, route: Route) -> io::Result<()> {
        // The kernel takes the protocol for a condition: a route of others does not match.
        match self.ask(route_request(libc::RTM_DELROUTE, 0, route)) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            done => done,
        }
    }

    /// The routes of the main table that we made.
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        let ours = self.main_table()?.into_iter().filter(|(_, ours)| *ours);
        Ok(ours.map(|(route, _)| route).collect())
    }

    /// Every route of the main table, and whether we made it.
    fn main_table(&mut self) -> io::Result<Vec<(Route, bool)>> {
        let mut body = [0; 12];
        if let Some(family) = body.first_mut() {
            *family = INET;
        }
        let rows = self.0.ask(Request::new(libc::RTM_GETROUTE, DUMP, &body))?;
        Ok(rows.iter().filter_map(|row| read_route(row)).collect())
    }

    /// Writes a permanent neighbour, so that nobody asks for it.
    pub fn add_neighbour(
        &mut self,
        device: u32,
        address: Ipv4Addr,
        mac: [u8; 6],
    ) -> io::Result<()> {
        let mut body = vec![INET, 0, 0, 0];
        body.extend(device.to_ne_bytes());
        body.extend(libc::NUD_PERMANENT.to_ne_bytes());
        body.extend([0, 0]);
        let request = Request::new(libc::RTM_NEWNEIGH, MAKE, &body)
            .with(libc::NDA_DST, &address.octets())
            .with(libc::NDA_LLADDR, &mac);
        self.ask(request)
    }

    /// The permanent neighbours of a device.
    pub fn neighbours(&mut self, device: u32) -> io::Result<Vec<(Ipv4Addr, [u8; 6])>> {
        let body = [INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let rows = self.0.ask(Request::new(libc::RTM_GETNEIGH, DUMP, &body))?;
        let read = |row: &Vec<u8>| {
            let ours = word(row, 4)? == device && half(row, 8)? & libc::NUD_PERMANENT != 0;
            let attributes = row.get(12..)?;
            let mac = find(attributes, libc::NDA_LLADDR)?.try_into().ok()?;
            ours.then_some((address(find(attributes, libc::NDA_DST)?)?, mac))
        };
        Ok(rows.iter().filter_map(read).collect())
    }

    fn ask(&mut self, request: Request) -> io::Result<()> {
        self.0.ask(request).map(drop)
    }
}

/// Keeps a device of the calling thread's namespace free of IPv6, which would announce itself unasked.
pub(crate) fn silence_ipv6(device: &str) -> io::Result<()> {
    match fs::write(format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6"), "1") {
        // A kernel without IPv6 has nothing to silence.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn ifinfo(index: u32, flags: u32, change: u32) -> Vec<u8> {
    [[0; 4], index.to_ne_bytes(), flags.to_ne_bytes(), change.to_ne_bytes()].concat()
}

fn read_device(row: &[u8]) -> Option<Device> {
    let attributes = row.get(16..)?;
    let name = find(attributes, libc::IFLA_IFNAME)?;
    let in_words = |name: &[u8]| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
    let other_names = find(attributes, libc::IFLA_PROP_LIST).into_iter().flat_map(|list| {
        netlink::attributes(list).filter(|(kind, _)| *kind == libc::IFLA_ALT_IFNAME)
    });
    let kind = find(attributes, libc::IFLA_LINKINFO).and_then(|i| find(i, IFLA_INFO_KIND));
    Some(Device {
        index: word(row, 4)?,
        name: in_words(name),
        other_names: other_names.map(|(_, name)| in_words(name)).collect(),
        up: word(row, 8)? & libc::IFF_UP as u32 != 0,
        carries: find(attributes, libc::IFLA_OPERSTATE) == Some(&[IF_OPER_UP]),
        mtu: word(find(attributes, libc::IFLA_MTU)?, 0)?,
        mac: find(attributes, libc::IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()),
        peer: find(attributes, libc::IFLA_LINK).and_then(|link| word(link, 0)),
        peer_namespace: find(attributes, libc::IFLA_LINK_NETNSID)
            .and_then(|id| Some(i32::from_ne_bytes(id.try_into().ok()?))),
        veth: kind.is_some_and(|kind| kind.starts_with(b"veth")),
    })
}

fn route_request(kind: u16, flags: i32, route: Route) -> Request {
    let (prefix, length) = route.prefix;
    let scope = if route.via.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
    let body =
        [INET, length, 0, 0, libc::RT_TABLE_MAIN, PROTOCOL, scope, libc::RTN_UNICAST, 0, 0, 0, 0];
    let mut request = Request::new(kind, flags, &body);
    if length > 0 {
        request = request.with(libc::RTA_DST, &prefix.octets());
    }
    if let Some(via) = route.via {
        request = request.with(libc::RTA_GATEWAY, &via.octets());
    }
    if route.device != 0 {
        request = request.with(libc::RTA_OIF, &route.device.to_ne_bytes());
    }
    request
}

/// A route of the main table, and whether we made it. One that leads nowhere (a blackhole) has no device.
fn read_route(row: &[u8]) -> Option<(Route, bool)> {
    let ours = *row.get(5)? == PROTOCOL;
    let attributes = row.get(12..)?;
    let prefix = match find(attributes, libc::RTA_DST) {
        Some(bytes) => address(bytes)?,
        None => Ipv4Addr::UNSPECIFIED,
    };
    let route = Route {
        prefix: (prefix, *row.get(1)?),
        via: find(attributes, libc::RTA_GATEWAY).and_then(address),
        device: find(attributes, libc::RTA_OIF).and_then(|bytes| word(bytes, 0)).unwrap_or(0),
    };
    (*row.get(4)? == libc::RT_TABLE_MAIN).then_some((route, ours))
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}
