//! A lab's operators: one, or a group of them, and the etcd that they share.

use super::{
    certificates, interrupt, netns,
    process::{self, ProcessId},
    record::{Held, Lab, Operator},
    start::{self, GATEWAY, PATIENCE},
};
use crate::target::{Server, ask_any};
use anyhow::{Context, Result};
use std::{net::TcpStream, path::PathBuf, process::Command, time::Duration};
use weft_api::operator::{Answer, MemberChange, Request};

/// Where the first operator listens for agents; the next ones at the ports after it.
const OPERATOR_PORT: u16 = 4900;
/// Where the first operator listens for its peers.
const PEER_PORT: u16 = 4950;
/// Where the first operator's metrics are: the port that Cilium's have.
const METRICS_PORT: u16 = 9963;
/// Where the first member of etcd listens for clients; its peers are at the port after it.
const ETCD_PORT: u16 = 2379;

/// How the operators of a lab are called; the first one's files are older than the others' numbers.
pub(crate) fn plan(dir: &std::path::Path, count: u8) -> Vec<Operator> {
    let operator = |number: u8| {
        let file = if number == 1 { "operator".to_owned() } else { format!("operator{number}") };
        Operator {
            name: format!("operator{number}"),
            admin_socket: dir.join(format!("{file}.sock")),
            process: None,
        }
    };
    (1..=count).map(operator).collect()
}

/// The names in the certificates of processes: all of them may be operators, and each is one member.
pub(crate) fn names(operators: &[Operator]) -> Vec<(String, Vec<String>)> {
    let named = |(number, operator): (u16, &Operator)| {
        let member = format!("{number}.member.weft");
        (operator.file(), vec!["operator.weft".to_owned(), member])
    };
    (1..).zip(operators).map(named).collect()
}

/// Where agents find operators.
pub(crate) fn addresses(lab: &Lab) -> String {
    let at = |(port, _)| format!("{GATEWAY}:{port}");
    (OPERATOR_PORT..).zip(&lab.operators).map(at).collect::<Vec<_>>().join(",")
}

/// Those that can be asked.
pub(crate) fn servers(lab: &Lab) -> Vec<Server> {
    lab.operators.iter().map(|operator| Server::operator(lab, operator)).collect()
}

/// Starts the operators that are meant and do not run, all without a name; returns when they answer.
pub(crate) fn start(lab: &mut Held, only: Option<&str>) -> Result<()> {
    store(lab)?;
    for at in 0..lab.operators.len() {
        let Some(operator) = lab.operators.get(at) else { continue };
        if only.is_some_and(|name| name != operator.name)
            || operator.process.is_some_and(ProcessId::goes_on)
        {
            continue;
        }
        let (member, address) = (at as u64 + 1, peer_address(at)?);
        let joins = at > 0 && !state_dir(lab, operator).exists();
        if joins {
            change(lab, &MemberChange::Add { member, address })?;
        }
        run(lab, at)?;
        if joins {
            change(lab, &MemberChange::Promote { member })?;
        }
    }
    Ok(())
}

fn state_dir(lab: &Lab, operator: &Operator) -> PathBuf {
    lab.dir().join(operator.file())
}

fn port(first: u16, at: usize) -> Result<u16> {
    let at = u16::try_from(at).ok().and_then(|at| first.checked_add(at));
    at.context("count the lab's operators")
}

fn peer_address(at: usize) -> Result<String> {
    Ok(format!("{GATEWAY}:{}", port(PEER_PORT, at)?))
}

fn run(lab: &mut Held, at: usize) -> Result<()> {
    let (dir, underlay, cluster) = (lab.dir(), lab.underlay(), lab.name.clone());
    let (logs, labels) = (lab.log_flags.clone(), format!("--labels={}", lab.labels.join(" ")));
    let (settings, several) = (start::settings(lab), lab.operators.len() > 1);
    let etcd: Vec<String> = (0..lab.etcd.len()).map(etcd_client).collect::<Result<_>>()?;
    let Some(operator) = lab.operators.get_mut(at) else { return Ok(()) };
    let (file, socket) = (operator.file(), operator.admin_socket.clone());
    let mut command = Command::new(start::program("weft-operator")?);
    command
        .args(["--cluster", &cluster])
        .args(["--listen", &format!("{GATEWAY}:{}", port(OPERATOR_PORT, at)?)])
        .arg("--state-dir")
        .arg(dir.join(&file))
        .arg("--admin-socket")
        .arg(&socket)
        .args(["--metrics-listen", &format!("127.0.0.1:{}", port(METRICS_PORT, at)?)])
        .arg(labels)
        .args(logs)
        .envs(settings);
    if several {
        let member = (at + 1).to_string();
        command.args(["--member", &member, "--peer-listen", &peer_address(at)?]);
    }
    if at > 0 {
        command.arg("--join");
    }
    if !etcd.is_empty() {
        command.args(["--etcd", &etcd.join(",")]);
    }
    start::credentials(&mut command, &dir, &file);
    let process = start::observed(&underlay, command, &dir.join(format!("{file}.log")))?;
    operator.process = Some(process);
    lab.save()?;
    start::serving(&socket, process)
}

/// Has whoever leads change the group; again while it cannot yet, as when the new member has yet to get the log.
fn change(lab: &Lab, change: &MemberChange) -> Result<()> {
    let mut why = String::new();
    let changed = interrupt::poll(PATIENCE, || {
        match ask_any(&servers(lab), Duration::ZERO, |_| Request::Member(change.clone())) {
            Ok(Answer::Done) => return Ok(true),
            Ok(other) => anyhow::bail!("an operator answered {other:?}"),
            Err(error) => why = format!("{error:#}"),
        }
        Ok(false)
    })?;
    anyhow::ensure!(changed, "change the operators' group: {why}");
    Ok(())
}

fn etcd_client(at: usize) -> Result<String> {
    Ok(format!("http://{GATEWAY}:{}", port(ETCD_PORT, 2 * at)?))
}

fn etcd_peer(at: usize) -> Result<String> {
    Ok(format!("http://{GATEWAY}:{}", port(ETCD_PORT, 2 * at + 1)?))
}

/// Starts the members of etcd that do not run; returns when they answer.
fn store(lab: &mut Held) -> Result<()> {
    let (dir, underlay, count) = (lab.dir(), lab.underlay(), lab.etcd.len());
    let all = (0..count).map(|at| Ok(format!("etcd{}={}", at + 1, etcd_peer(at)?)));
    let all = all.collect::<Result<Vec<String>>>()?.join(",");
    for at in 0..count {
        if lab.etcd.get(at).copied().flatten().is_some_and(ProcessId::goes_on) {
            continue;
        }
        let (name, client, peer) = (format!("etcd{}", at + 1), etcd_client(at)?, etcd_peer(at)?);
        let mut command = Command::new("etcd");
        command
            .args(["--name", &name])
            .arg("--data-dir")
            .arg(dir.join(&name))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &all]);
        let process = process::start(&underlay, command, &dir.join(format!("{name}.log")))
            .context("start etcd (Debian's package is etcd-server)")?;
        if let Some(member) = lab.etcd.get_mut(at) {
            *member = Some(process);
        }
        lab.save()?;
    }
    for at in 0..count {
        let address = format!("{GATEWAY}:{}", port(ETCD_PORT, 2 * at)?);
        let answers = interrupt::poll(PATIENCE, || {
            let address = address.clone();
            netns::inside(&underlay, move || Ok(TcpStream::connect(&address).is_ok()))
        })?;
        anyhow::ensure!(answers, "wait for etcd{} at {address}: nothing listens there", at + 1);
    }
    Ok(())
}

/// The certificates of a lab's processes.
pub(crate) fn certificates(lab: &Lab) -> Result<()> {
    let mut processes = names(&lab.operators);
    let nodes = lab.nodes.iter();
    processes.extend(nodes.map(|n| (n.name.clone(), vec![format!("{}.node.weft", n.name)])));
    certificates::make(&lab.dir(), &lab.name, &processes)
}
