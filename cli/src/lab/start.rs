//! Starting a lab's processes: `up` starts all of them, other commands those that ended.

use super::{
    certificates, contain, group, interrupt,
    process::{self, ProcessId},
    record::{Held, Lab},
    serve,
};
use crate::output::note;
use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use weft_process::otlp;

/// The underlay's gateway; operators listen there. Labs do not share namespaces, so all may use it.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// Where metrics are served in a node's namespace: the port that Cilium's have.
const AGENT_METRICS: &str = "127.0.0.1:9962";
/// How variables begin that agents and operators read.
const SETTINGS: [&str; 2] = ["WEFT_AGENT_", "WEFT_OPERATOR_"];
/// How long a process may take until it serves: one that ended is not waited for, and a slow machine's kernel takes some
/// ten seconds to verify an agent's programs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A program of ours, beside this one.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(path.exists(), "{} is not there: run `make build`", path.display());
    Ok(path)
}

/// What this environment says to agents and operators.
pub(crate) fn said() -> BTreeMap<String, String> {
    let ours = |name: &String| SETTINGS.iter().any(|prefix| name.starts_with(prefix));
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).filter(|(name, _)| ours(name)).collect()
}

/// What was said when the lab came up goes on, unless this environment says otherwise.
pub(crate) fn settings(lab: &Lab) -> BTreeMap<String, String> {
    let mut settings = lab.settings.clone();
    settings.extend(said());
    settings
}

/// Starts the agents of these nodes, those that do not run; returns when all of them answer.
pub(crate) fn agents(lab: &mut Held, nodes: &[String]) -> Result<()> {
    let (dir, logs, settings) = (lab.dir(), lab.log_flags.clone(), settings(lab));
    let operators = group::addresses(lab);
    for node in lab.nodes.iter_mut().filter(|node| nodes.contains(&node.name)) {
        if node.process.is_some_and(ProcessId::goes_on) {
            continue;
        }
        let folder = dir.join(&node.name);
        let mut command = Command::new(program("weft-agent")?);
        command
            .args(["--node", &node.name, "--node-address", &node.address.to_string()])
            .args(["--operator", &operators])
            .arg("--run-dir")
            .arg(&folder)
            .arg("--state-dir")
            .arg(folder.join("state"))
            .arg("--bpffs")
            .arg(&node.bpffs)
            // Each node has a loopback of its own; so has the operator.
            .args(["--metrics-listen", AGENT_METRICS])
            // A lab is where failures are tried.
            .arg("--allow-faults")
            .args(&logs)
            .envs(&settings);
        credentials(&mut command, &dir, &node.name);
        let log = dir.join(format!("{}.log", node.name));
        node.process = Some(observed(&node.netns, command, &log)?);
    }
    lab.save()?;
    for node in lab.nodes.iter().filter(|node| nodes.contains(&node.name)) {
        if let Some(process) = node.process {
            serving(&node.agent_socket, process)?;
        }
    }
    Ok(())
}

/// Has the built-in servers listen on what the record says now; starts their process unless it runs.
pub(crate) fn servers(lab: &mut Held) -> Result<()> {
    if lab.server.is_none_or(|server| !server.goes_on()) {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["lab", "serve", "--name", &lab.name]);
        // What it does is no part of the fabric.
        command.env("OTEL_SDK_DISABLED", "true");
        let log = lab.dir().join("server.log");
        let process = process::start(&lab.underlay(), command, &log)?;
        lab.server = Some(process);
        lab.save()?;
        serving(&serve::socket(lab), process)?;
    }
    for problem in serve::Control::of(lab)?.ask(&serve::Order::Reload)? {
        note!("warning: {problem}");
    }
    Ok(())
}

/// Starts the commands of pods that run one, those that do not run.
pub(crate) fn commands(lab: &mut Held) -> Result<()> {
    let root = lab.dir().join("root");
    let dir = lab.dir();
    for pod in lab.pods.iter_mut().filter(|pod| !pod.command.is_empty()) {
        if pod.process.is_some_and(ProcessId::goes_on) {
            continue;
        }
        // What an earlier command of this pod left running.
        process::end(&process::inside(std::slice::from_ref(&pod.netns)), Duration::ZERO)?;
        fs::create_dir_all(&root)?;
        let host = pod.name.rsplit('/').next().unwrap_or_default();
        let host: String = host.chars().take(64).collect();
        let command = contain::command(&root, &host, &pod.command)?;
        let log = dir.join(format!("pod-{}.log", pod.name.replace('/', "-")));
        pod.process = Some(process::start(&pod.netns, command, &log)?);
    }
    lab.save()
}

/// Starts an agent or operator. Where the environment names a collector, its spans go there from the namespace that this command
/// runs in: a node of a lab reaches nothing outside. The namespace is its standard input, which needs no path and ends with it.
pub(crate) fn observed(namespace: &str, mut command: Command, log: &Path) -> Result<ProcessId> {
    // The name that somebody gave this command is not the agents'.
    command.env_remove("OTEL_SERVICE_NAME");
    if !otlp::is_on() {
        return process::start(namespace, command, log);
    }
    let here = File::open("/proc/thread-self/ns/net").context("open this network namespace")?;
    command.arg("--otlp-netns=/proc/self/fd/0");
    process::start_with(namespace, command, here.into(), log)
}

pub(crate) fn credentials(command: &mut Command, dir: &Path, process: &str) {
    let keys = certificates::paths(dir, process);
    command
        .arg("--ca")
        .arg(&keys.ca)
        .arg("--cert")
        .arg(&keys.certificate)
        .arg("--key")
        .arg(&keys.key);
}

/// Waits until something listens at a socket.
pub(crate) fn serving(socket: &Path, process: ProcessId) -> Result<()> {
    let serves = interrupt::poll(PATIENCE, || {
        if UnixStream::connect(socket).is_ok() {
            return Ok(true);
        }
        anyhow::ensure!(process.runs(), "its process ended");
        Ok(false)
    });
    serves
        .and_then(|serves| serves.then_some(()).context("nothing listens there"))
        .with_context(|| format!("wait for {}", socket.display()))
}

/// Every node's name.
pub(crate) fn all(lab: &Lab) -> Vec<String> {
    lab.nodes.iter().map(|node| node.name.clone()).collect()
}
