//! [`Links`] by netlink: the veth pair of each pod and the routes of the node.
//!
//! Calls act in the network namespace of the calling thread; a pod's side is dressed by a thread of
//! its own ([`crate::netns`]). Everything is found again by reading the kernel, nothing is remembered.

use crate::{
    glances::Glances,
    kernel::{HOST_SIDE, KernelError, Link, LinkSpec, Links},
    maps::failed,
    netns,
    rtnl::{Device, Network, Route, Side, silence_ipv6},
};
use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    net::Ipv4Addr,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::Path,
    thread,
    time::{Duration, Instant},
};
use weft_abi::{GATEWAY_ADDR4, GATEWAY_MAC};

/// How long a device may take until it sends. The kernel gathers what is not urgent over a second.
const CARRIES_WITHIN: Duration = Duration::from_secs(3);
/// Index of every network namespace's loopback (Linux: `LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

/// Links of the calling thread's network namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealLinks;

impl Links for RealLinks {
    fn plug(&self, spec: &LinkSpec) -> Result<Link, KernelError> {
        refuse_own(&spec.netns)?;
        if spec.adopt {
            return adopt(spec);
        }
        let mac = pod_mac(spec.address);
        // Mostly neither name is taken; who has it is looked for only then.
        let host = match make_pair(spec, mac) {
            Err(KernelError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {
                match paired(spec)? {
                    Some(host) => host,
                    None => make_pair(spec, mac)?,
                }
            }
            made => made?,
        };
        let action = || format!("set up {} of {}", spec.interface, spec.netns.display());
        netns::inside(&spec.netns, || dress_pod(spec).map_err(failed(action())))?;
        let action = || format!("set up {}", spec.host_interface);
        silence_ipv6(&spec.host_interface).map_err(failed(action()))?;
        Ok(Link { ifindex: host.index, mac, mtu: host.mtu })
    }

    fn open(&self, spec: &LinkSpec) -> Result<(), KernelError> {
        let action = || format!("open {}", spec.host_interface);
        let mut network = network()?;
        let host = network.device(&spec.host_interface).map_err(failed(action()))?;
        let no_link = || KernelError::Unusable(format!("{}: it is no pod's link", action()));
        let host = host.filter(is_host_side).ok_or_else(no_link)?;
        network.set_up(host.index).map_err(failed(action()))?;
        let route = Route { prefix: (spec.address, 32), via: None, device: host.index };
        network.add_route(route).map_err(failed(action()))?;
        // A link of ours has the hardware address that follows from the pod's: only another plugin's has to be asked.
        let theirs = if spec.adopt { network.peer(&host).map_err(failed(action()))? } else { None };
        let mac = theirs.and_then(|pod| pod.mac).unwrap_or_else(|| pod_mac(spec.address));
        network.add_neighbour(host.index, spec.address, mac).map_err(failed(action()))?;
        carries(|| network.device(&spec.host_interface)).map_err(failed(action()))?;
        let action = || format!("open {} in {}", spec.interface, spec.netns.display());
        carries(|| network.peer(&host)).map_err(failed(action()))
    }

    fn unplug(&self, host_interface: &str) -> Result<(), KernelError> {
        let action = || format!("remove {host_interface}");
        let mut network = network()?;
        let Some(device) = network.device(host_interface).map_err(failed(action()))? else {
            return Ok(());
        };
        if !is_host_side(&device) {
            return Err(KernelError::Unusable(format!("{}: it is no pod's link", action())));
        }
        match network.remove(device.index) {
            Err(error) if error.raw_os_error() != Some(libc::ENODEV) => {
                Err(failed(action())(error))
            }
            _ => Ok(()),
        }
    }

    fn inspect(&self, spec: &LinkSpec) -> Result<Vec<String>, KernelError> {
        let action = || format!("inspect {}", spec.host_interface);
        let Some(host) = network()?.device(&spec.host_interface).map_err(failed(action()))? else {
            return Ok(vec![format!("{} is not there", spec.host_interface)]);
        };
        let mut wrong = host_differences(spec, &host);
        wrong.extend(netns::inside(&spec.netns, || {
            pod_differences(spec, &host).map_err(failed(action()))
        })?);
        Ok(wrong)
    }

    fn joined(&self, spec: &LinkSpec) -> Result<Option<u32>, KernelError> {
        let action = || format!("look for {}", spec.host_interface);
        let host = network()?.device(&spec.host_interface).map_err(failed(action()))?;
        let Some(host) = host.filter(|_| spec.netns.exists()) else { return Ok(None) };
        let pod = netns::inside(&spec.netns, || {
            network()?.device(&spec.interface).map_err(failed(action()))
        })?;
        Ok(pod.filter(|pod| mates(&host, pod)).map(|_| host.index))
    }

    fn plugged(&self) -> Result<Vec<(String, u32)>, KernelError> {
        let devices = network()?.devices().map_err(failed("list interfaces".to_owned()))?;
        Ok(devices.into_iter().filter(is_host_side).map(|d| (name_here(&d), d.index)).collect())
    }

    fn device_of(&self, address: Ipv4Addr) -> Result<(u32, u32), KernelError> {
        let action = || format!("find the device of {address}");
        let mut network = network()?;
        let addresses = network.addresses().map_err(failed(action()))?;
        let devices = network.devices().map_err(failed(action()))?;
        addresses
            .iter()
            .filter(|(other, _)| *other == address)
            .find_map(|(_, index)| devices.iter().find(|device| device.index == *index))
            .map(|device| (device.index, device.mtu))
            .ok_or_else(|| {
                KernelError::Unusable(format!(
                    "no device has the address {address}: is it this node's?"
                ))
            })
    }

    fn set_routes(&self, routes: &[(Ipv4Addr, u8, Ipv4Addr)]) -> Result<(), KernelError> {
        let mut network = network()?;
        let ours = network.routes().map_err(failed("list routes".to_owned()))?;
        let present: Vec<Route> = ours.into_iter().filter(|route| route.via.is_some()).collect();
        for &route in &present {
            let (prefix, length) = route.prefix;
            if !routes.iter().any(|(p, l, _)| (*p, *l) == (prefix, length)) {
                let action = format!("remove the route to {prefix}/{length}");
                network.remove_route(route).map_err(failed(action))?;
            }
        }
        // One that cannot be made keeps none of the others away.
        let mut done = Ok(());
        for &(prefix, length, via) in routes {
            let wanted = Route { prefix: (prefix, length), via: Some(via), device: 0 };
            if !present.iter().any(|p| p.prefix == wanted.prefix && p.via == wanted.via) {
                let action = format!("route {prefix}/{length} via {via}");
                done = done.and(network.add_route(wanted).map_err(failed(action)));
            }
        }
        done
    }
}

/// Lets the node's own stack forward between pods and the network.
pub fn prepare_node() -> Result<(), KernelError> {
    let file = "/proc/sys/net/ipv4/ip_forward";
    fs::write(file, "1").map_err(failed(format!("write {file}")))
}

fn network() -> Result<Network, KernelError> {
    Network::here().map_err(failed("open a netlink socket".to_owned()))
}

/// The pod's hardware address follows from its address, so that a link made again is the same link.
fn pod_mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x57, a, b, c, d]
}

/// Waits until a device sends. The kernel gives it a queue some time after its peer was set up, on a thread of its own
/// (`linkwatch`), and says so by its operational state; what is sent before is lost, without a trace.
fn carries(mut device: impl FnMut() -> io::Result<Option<Device>>) -> io::Result<()> {
    let until = Instant::now() + CARRIES_WITHIN;
    let mut glances = Glances::new();
    loop {
        match device()? {
            Some(found) if found.carries => return Ok(()),
            Some(_) if Instant::now() < until => thread::sleep(glances.pause()),
            Some(found) => {
                let problem = format!("{} is set up and does not become operational", found.name);
                return Err(io::Error::new(ErrorKind::TimedOut, problem));
            }
            None => return Err(io::Error::from_raw_os_error(libc::ENODEV)),
        }
    }
}

/// A pod's side in the node's own namespace would take the node's traffic for the pod's.
fn refuse_own(netns: &Path) -> Result<(), KernelError> {
    let id = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino()));
    let open = format!("open the network namespace {}", netns.display());
    let theirs = id(netns).map_err(failed(open))?;
    if id(Path::new("/proc/thread-self/ns/net")).is_ok_and(|ours| ours == theirs) {
        return Err(KernelError::Unusable(format!(
            "plug {}: it is the node's own network namespace, not a pod's",
            netns.display()
        )));
    }
    Ok(())
}

fn is_host_side(device: &Device) -> bool {
    device.veth && device.mac == Some(GATEWAY_MAC)
}

/// The host side, if the pair is whole; what a crash or an older sandbox left under its name is removed.
fn paired(spec: &LinkSpec) -> Result<Option<Device>, KernelError> {
    let action = || format!("look for {}", spec.host_interface);
    let mut here = network()?;
    let host = here.device(&spec.host_interface).map_err(failed(action()))?;
    let pod = netns::inside(&spec.netns, || {
        network()?.device(&spec.interface).map_err(failed(action()))
    })?;
    match (host, pod) {
        (Some(host), Some(pod)) if mates(&host, &pod) => Ok(Some(host)),
        (_, Some(_)) => Err(KernelError::Unusable(format!(
            "{} has another interface {}: remove it, or name another",
            spec.netns.display(),
            spec.interface
        ))),
        (Some(host), None) if is_host_side(&host) => {
            here.remove(host.index).map_err(failed(action()))?;
            Ok(None)
        }
        (Some(_), None) => Err(KernelError::Unusable(format!(
            "{} is another interface: remove it",
            spec.host_interface
        ))),
        (None, None) => Ok(None),
    }
}

/// The name that a host side was given here: its own, or beside that of who made it.
fn name_here(host: &Device) -> String {
    let all = std::iter::once(&host.name).chain(&host.other_names);
    all.into_iter().find(|name| name.starts_with(HOST_SIDE)).unwrap_or(&host.name).clone()
}

/// Takes over a link that another CNI plugin made. The pod's side stays as it is; the host's becomes one like those that are
/// made here, found by the name of those beside its own.
fn adopt(spec: &LinkSpec) -> Result<Link, KernelError> {
    let action = || format!("take over {} of {}", spec.interface, spec.netns.display());
    let unusable = |why: &str| KernelError::Unusable(format!("{}: {why}", action()));
    let (pod, has_address) = netns::inside(&spec.netns, || {
        let mut network = network()?;
        let pod = network.device(&spec.interface).map_err(failed(action()))?;
        let addresses = network.addresses().map_err(failed(action()))?;
        let has = |pod: &Device| addresses.contains(&(spec.address, pod.index));
        let has_address = pod.as_ref().is_some_and(has);
        Ok((pod, has_address))
    })?;
    let pod = pod.ok_or_else(|| unusable("it is not there"))?;
    if !has_address {
        return Err(unusable(&format!("it has not the address {}", spec.address)));
    }
    let mut network = network()?;
    let other = pod.peer.filter(|_| pod.veth);
    let host = other.map(|index| network.device_at(index).map_err(failed(action()))).transpose()?;
    let no_pair = "it is no side of a veth pair whose other side is on this node";
    let host = host.flatten().filter(|host| host.veth).ok_or_else(|| unusable(no_pair))?;
    // A number alone may be that of another namespace's device.
    let back = network.peer(&host).map_err(failed(action()))?;
    if back.is_none_or(|back| (back.index, back.mac) != (pod.index, pod.mac)) {
        return Err(unusable(no_pair));
    }
    let mac = pod.mac.ok_or_else(|| unusable("it has no hardware address"))?;
    // What an older sandbox left under this name goes; a device is ours by its hardware address before it is by its name.
    let before = network.device(&spec.host_interface).map_err(failed(action()))?;
    if let Some(before) = before.filter(|before| before.index != host.index && is_host_side(before))
    {
        network.remove(before.index).map_err(failed(action()))?;
    }
    network.set_mac(host.index, GATEWAY_MAC).map_err(failed(action()))?;
    network.add_name(&host, &spec.host_interface).map_err(failed(action()))?;
    // The gateway's of the pod: what the node sends from it would come from an address of a pod that is nobody's.
    for (address, _) in addresses_of(&mut network, host.index).map_err(failed(action()))? {
        network.remove_address(host.index, address).map_err(failed(action()))?;
    }
    silence_ipv6(&host.name).map_err(failed(action()))?;
    Ok(Link { ifindex: host.index, mac, mtu: host.mtu })
}

fn addresses_of(network: &mut Network, device: u32) -> io::Result<Vec<(Ipv4Addr, u32)>> {
    let mut addresses = network.addresses()?;
    addresses.retain(|(_, index)| *index == device);
    Ok(addresses)
}

fn mates(host: &Device, pod: &Device) -> bool {
    is_host_side(host) && host.peer == Some(pod.index) && pod.peer == Some(host.index)
}

fn make_pair(spec: &LinkSpec, mac: [u8; 6]) -> Result<Device, KernelError> {
    let action = || format!("make {} for {}", spec.host_interface, spec.netns.display());
    let namespace = File::open(&spec.netns).map_err(failed(action()))?;
    let mut network = network()?;
    let near = Side { name: &spec.host_interface, mac: GATEWAY_MAC, mtu: spec.mtu };
    let far = Side { name: &spec.interface, mac, mtu: spec.mtu };
    network.make_pair(&near, &far, namespace.as_raw_fd()).map_err(failed(action()))?;
    let made = network.device(&spec.host_interface).map_err(failed(action()))?;
    made.ok_or_else(|| KernelError::Unusable(format!("{}: it is gone again", action())))
}

fn gateway() -> Ipv4Addr {
    Ipv4Addr::from(GATEWAY_ADDR4)
}

/// The gateway first: the default route is refused until it can be reached.
fn pod_routes(device: u32) -> [Route; 2] {
    [
        Route { prefix: (gateway(), 32), via: None, device },
        Route { prefix: (Ipv4Addr::UNSPECIFIED, 0), via: Some(gateway()), device },
    ]
}

/// Everything inside the pod. Runs in its namespace; each step may be done already.
fn dress_pod(spec: &LinkSpec) -> io::Result<()> {
    let mut network = Network::here()?;
    let missing = || io::Error::from_raw_os_error(libc::ENODEV);
    network.set_up(LOOPBACK)?;
    let pod = network.device(&spec.interface)?.ok_or_else(missing)?;
    silence_ipv6(&spec.interface)?;
    network.add_address(pod.index, spec.address)?;
    network.set_up(pod.index)?;
    for route in pod_routes(pod.index) {
        network.add_route(route)?;
    }
    network.add_neighbour(pod.index, gateway(), GATEWAY_MAC)
}

fn host_differences(spec: &LinkSpec, host: &Device) -> Vec<String> {
    let name = &spec.host_interface;
    let mut wrong = Vec::new();
    if !is_host_side(host) {
        wrong.push(format!("{name} is not the host side of a pod's link"));
    }
    wrong
}

fn pod_differences(spec: &LinkSpec, host: &Device) -> io::Result<Vec<String>> {
    let name = &spec.interface;
    let mut network = Network::here()?;
    let Some(pod) = network.device(name)? else {
        return Ok(vec![format!("{name} is not in the pod")]);
    };
    let routes = network.routes()?;
    let neighbours = network.neighbours(pod.index)?;
    // Routes, neighbours and hardware address of one that was taken over are the concern of who made it.
    let is_mac = spec.adopt || pod.mac == Some(pod_mac(spec.address));
    let checks = [
        (mates(host, &pod), format!("{name} is not the peer of {}", spec.host_interface)),
        (pod.up, format!("{name} is down")),
        // Of the device's at the time when the pod was plugged; a plugin after ours may have made
        // it smaller.
        (
            pod.mtu <= host.mtu,
            format!("{name} has MTU {}, more than its peer's {}", pod.mtu, host.mtu),
        ),
        (is_mac, format!("{name} has another hardware address")),
        (
            network.addresses()?.contains(&(spec.address, pod.index)),
            format!("{name} has not the address {}", spec.address),
        ),
        (
            spec.adopt || pod_routes(pod.index).iter().all(|route| routes.contains(route)),
            format!("{name} has not the routes to and through {}", gateway()),
        ),
        (
            spec.adopt || neighbours.contains(&(gateway(), GATEWAY_MAC)),
            format!("{name} does not know the gateway's hardware address"),
        ),
    ];
    Ok(checks.into_iter().filter(|(right, _)| !right).map(|(_, words)| words).collect())
}
