//! How long a pod waits for its network: the plugin's whole ADD, as a runtime calls it.
//!
//! The floor is what no plugin can do without: a process that starts and ends, and the netlink messages
//! that make the same link – pair, addresses, routes, permanent neighbours of both sides.

use super::{Measurement, Settings, Work, compare};
use crate::{
    bare::MTU,
    fabric::{Fabric, Pod},
    load::Exchange,
    namespace::Namespace,
    program::{self, said},
    rounds::Arm,
    row::{Check, Plan, Relation, Row, Target, Unit},
    stats::quantile,
};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    io::Write,
    net::Ipv4Addr,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use weft_abi::{GATEWAY_ADDR4, GATEWAY_MAC};
use weft_datapath::rtnl::{Network, Route, Side};

/// Its place in the table.
pub(crate) const MEASUREMENT: Measurement = Measurement {
    name: "cni",
    about: "CNI ADD against starting a process and bare netlink",
    plans: &[
        latency("cni-add-p50", "CNI ADD, p50", Some(Target::AtMost(3.0))),
        latency("cni-add-p99", "CNI ADD, p99", None),
    ],
    work: Work::InLab(measure),
};

const fn latency(name: &'static str, title: &'static str, target: Option<Target>) -> Plan {
    let (unit, relation) = (Unit::Milliseconds, Relation::Floor);
    Plan { name, title, unit, relation, baseline: "spawn + netlink", target }
}

fn measure(settings: &Settings, lab: &Fabric) -> Result<Vec<Row>> {
    let plugin = Plugin::of(lab)?;
    let floor = Floor::make()?;
    // Every single time, for the 99th percentile; arms tell the medians of their rounds.
    let (mut ours, mut least) = (Vec::new(), Vec::new());
    let mut arms = [
        Arm::new("spawn + netlink", || repeated(settings.adds, &mut least, || floor.once())),
        Arm::new("weft-cni", || repeated(settings.adds, &mut ours, || plugin.once())),
    ];
    let (figures, conditions) = compare(settings, "CNI ADD", &mut arms)?;
    drop(arms);
    let check = check(settings, lab, ours.len())?;
    let figure = |arm: usize| figures.get(arm).cloned().unwrap_or_default();
    let p99 = |all: &[f64]| quantile(all, 0.99).into_iter().collect::<Vec<_>>();
    let subjects = [figure(1), p99(&ours)];
    let baselines = [figure(0), p99(&least)];
    let rows = MEASUREMENT.plans.iter().zip(subjects.iter().zip(&baselines));
    Ok(rows.map(|(plan, (s, b))| plan.row(s, b, check.clone(), conditions)).collect())
}

/// The median of some, in milliseconds; each is noted.
fn repeated(
    times: usize,
    all: &mut Vec<f64>,
    mut once: impl FnMut() -> Result<Duration>,
) -> Result<f64> {
    let mut these = Vec::with_capacity(times);
    for _ in 0..times {
        these.push(once()?.as_secs_f64() * 1000.0);
    }
    all.extend(&these);
    quantile(&these, 0.5).context("nothing was measured")
}

/// A pod that was plugged last is reached as it should be.
fn check(settings: &Settings, lab: &Fabric, adds: usize) -> Result<Check> {
    let (plugged, near) = (lab.pod("plug")?, lab.pod("near")?);
    let address = plugged.namespace.inside(|| {
        let mut network = Network::here()?;
        Ok(network.addresses()?.into_iter().map(|(a, _)| a).find(|a| !a.is_loopback()))
    })?;
    let Some(address) = address else {
        return Ok(Check::failed("the pod that was plugged has no address"));
    };
    let plugged = Pod { address, ..plugged };
    Ok(match near.to(&plugged).exchange(Exchange::TcpRequests, settings.round) {
        Ok(_) => Check::passed(format!("{adds} times plugged; the last answers at {address}")),
        Err(error) => Check::failed(format!("the last pod does not answer: {error:#}")),
    })
}

/// `weft-cni` for one pod of the lab.
struct Plugin {
    program: PathBuf,
    pod: Pod,
    config: String,
}

impl Plugin {
    fn of(lab: &Fabric) -> Result<Self> {
        let config = json!({
            "cniVersion": "1.1.0", "name": "weft", "type": "weft-cni", "socket": lab.socket(),
        });
        let program = program::ours("weft-cni")?;
        Ok(Self { program, pod: lab.pod("plug")?, config: config.to_string() })
    }

    /// Unplugs, then plugs and says how long that took.
    fn once(&self) -> Result<Duration> {
        self.call("DEL")?;
        let begun = Instant::now();
        let answer = self.call("ADD")?;
        let took = begun.elapsed();
        let result: Value = serde_json::from_str(&answer).context("understand weft-cni")?;
        let address = result.pointer("/ips/0/address").and_then(Value::as_str);
        address.with_context(|| format!("weft-cni ADD gave no address: {answer}"))?;
        Ok(took)
    }

    fn call(&self, verb: &str) -> Result<String> {
        let mut command = Command::new(&self.program);
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &self.pod.netns)
            .env("CNI_NETNS", format!("/run/netns/{}", self.pod.netns))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/")
            .env("CNI_ARGS", "K8S_POD_NAMESPACE=bench;K8S_POD_NAME=plug");
        run(&mut command, &self.config)
    }
}

/// Runs a program to its end, as runtimes do: configuration in, result out.
fn run(command: &mut Command, input: &str) -> Result<String> {
    let mut child = program::piped(command.stdin(Stdio::piped()))?;
    if let Some(mut pipe) = child.stdin.take() {
        // Who needs no configuration may have ended already.
        let _ = pipe.write_all(input.as_bytes());
    }
    let name = command.get_program().to_string_lossy().into_owned();
    said(&name, child.wait_with_output()?)
}

/// A node's namespace and a pod's.
struct Floor {
    node: Namespace,
    pod: Namespace,
}

const HOST_SIDE: &str = "floor";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

impl Floor {
    fn make() -> Result<Self> {
        Ok(Self { node: Namespace::create()?, pod: Namespace::create()? })
    }

    /// The least that plugging takes; the link is removed afterwards.
    fn once(&self) -> Result<Duration> {
        self.node.inside(|| {
            let begun = Instant::now();
            run(&mut Command::new("true"), "")?;
            let mut network = self.plug()?;
            let took = begun.elapsed();
            let host = network.device(HOST_SIDE)?.context("find the pair")?;
            network.remove(host.index)?;
            Ok(took)
        })
    }

    fn plug(&self) -> Result<Network> {
        let mut network = Network::here()?;
        let near = Side { name: HOST_SIDE, mac: GATEWAY_MAC, mtu: MTU };
        let far = Side { name: "eth0", mac: MAC, mtu: MTU };
        network.make_pair(&near, &far, self.pod.descriptor())?;
        let host = network.device(HOST_SIDE)?.context("find the pair")?.index;
        self.pod.enter()?;
        dress(&mut Network::here()?)?;
        self.node.enter()?;
        network.set_up(host)?;
        network.add_route(Route { prefix: (ADDRESS, 32), via: None, device: host })?;
        network.add_neighbour(host, ADDRESS, MAC)?;
        Ok(network)
    }
}

/// The pod's side.
fn dress(network: &mut Network) -> Result<()> {
    let gateway = Ipv4Addr::from(GATEWAY_ADDR4);
    let device = network.device("eth0")?.context("find the pod's side")?.index;
    network.add_address(device, ADDRESS)?;
    network.set_up(device)?;
    network.add_route(Route { prefix: (gateway, 32), via: None, device })?;
    let default = (Ipv4Addr::UNSPECIFIED, 0);
    network.add_route(Route { prefix: default, via: Some(gateway), device })?;
    Ok(network.add_neighbour(device, gateway, GATEWAY_MAC)?)
}
