//! `weft lab up` and `apply`: namespaces, processes, pods, policies.

use super::{
    certificates, down, link, netns, pods, process,
    record::{self, Lab},
};
use crate::output::Outcome;
use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};
use weft_api::{
    operator::{Answer, Request},
    transport::{Client, Options},
};
use weft_types::{NodeName, Object, Revision};

/// The underlay's gateway; operators listen there. Labs do not share namespaces, so all may use it.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
const OPERATOR_PORT: u16 = 4900;
/// How long a process may take to serve, and a policy to be enforced.
const PATIENCE: Duration = Duration::from_secs(20);

/// Arguments of `weft lab up`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Manifests: files, folders, or - for standard input.
    #[arg(short)]
    file: Vec<PathBuf>,
    /// The lab's name.
    #[arg(long, visible_alias = "lab", default_value = "lab")]
    name: String,
    /// How many nodes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=200))]
    nodes: u8,
    /// How many operators; one is supported so far.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=1))]
    operators: u8,
}

/// Brings a lab up; whatever fails, nothing is left.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "a lab needs root: run `sudo weft lab up`");
    let name = record::checked(&arguments.name)?;
    if record::exists(&record::dir(name)) {
        bail!("lab {name} is up already: take it down with `weft lab down --name {name}`");
    }
    let objects = read(&arguments.file)?;
    let mut lab = plan(name, arguments.nodes);
    let built = build(&mut lab, objects);
    if let Err(error) = built {
        let logs: Vec<String> = fs::read_dir(lab.dir())
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "log"))
            .map(|path| process::tail(&path))
            .collect();
        let removed = down::remove(&lab);
        let more = removed.err().map(|e| format!("\nand: {e:#}")).unwrap_or_default();
        bail!("{error:#}\n{}{more}", logs.join("\n"));
    }
    eprintln!("lab {name} is up: {} nodes, {} pods", lab.nodes.len(), lab.pods.len());
    Ok(Outcome::Done)
}

/// Adds objects to a running lab and waits until they are enforced.
pub(crate) fn apply(files: &[PathBuf], name: Option<&str>) -> Result<Outcome> {
    let mut lab = record::find(name)?;
    let mut objects = read(files)?;
    pods::schedule(&mut lab, &mut objects)?;
    lab.save()?;
    let revision = submit(&lab, objects)?;
    pods::plug(&mut lab, &program("weft-cni")?)?;
    serve(&mut lab)?;
    wait(&lab, Some(revision))?;
    eprintln!("revision {revision} is enforced on every node");
    Ok(Outcome::Done)
}

fn read(files: &[PathBuf]) -> Result<Vec<Object>> {
    let manifests = weft_manifests::read(files).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the manifests cannot be used:\n  {}", lines.join("\n  "))
    })?;
    for (kind, count) in &manifests.skipped {
        eprintln!("skipped {count} of kind {kind}: the lab does not use them");
    }
    for warning in &manifests.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(manifests.objects)
}

/// What the lab will be made of.
fn plan(name: &str, nodes: u8) -> Lab {
    let dir = record::dir(name);
    let node = |number: u8| record::Node {
        name: format!("node{number}"),
        address: Ipv4Addr::new(172, 30, 0, 10_u8.saturating_add(number)),
        pod_cidr: ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, 244, number, 0), 24),
        netns: format!("weft-{name}-node{number}"),
        agent_socket: dir.join(format!("node{number}/agent.sock")),
        bpffs: dir.join(format!("node{number}/bpf")),
        process: None,
    };
    Lab {
        version: 1,
        name: name.to_owned(),
        operators: vec![record::Operator {
            name: "operator1".to_owned(),
            admin_socket: dir.join("operator.sock"),
            process: None,
        }],
        nodes: (1..=nodes).map(node).collect(),
        pods: Vec::new(),
        server: None,
    }
}

fn build(lab: &mut Lab, mut objects: Vec<Object>) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(lab.dir())?;
    pods::schedule(lab, &mut objects)?;
    lab.save()?;
    eprintln!("making {} nodes", lab.nodes.len());
    underlay(lab)?;
    let mut processes = vec![("operator".to_owned(), "operator.weft".to_owned())];
    processes.extend(lab.nodes.iter().map(|n| (n.name.clone(), format!("{}.node.weft", n.name))));
    certificates::make(&lab.dir(), &lab.name, &processes)?;
    eprintln!("starting the operator and {} agents", lab.nodes.len());
    start_operator(lab)?;
    let nodes: Vec<Object> = lab
        .nodes
        .iter()
        .map(|node| {
            Object::Node(weft_types::Node {
                name: NodeName(node.name.clone()),
                address: node.address,
                pod_cidrs: vec![node.pod_cidr],
            })
        })
        .collect();
    objects.extend(nodes);
    let revision = submit(lab, objects)?;
    start_agents(lab)?;
    eprintln!("plugging {} pods", lab.pods.len());
    pods::plug(lab, &program("weft-cni")?)?;
    serve(lab)?;
    wait(lab, Some(revision))?;
    // The pods' addresses came after it.
    wait(lab, None)
}

/// The underlay's bridge and the nodes' namespaces.
fn underlay(lab: &Lab) -> Result<()> {
    netns::create(&lab.underlay())?;
    let nodes: Vec<(String, String)> =
        lab.nodes.iter().map(|node| (format!("v{}", node.name), node.netns.clone())).collect();
    for node in &lab.nodes {
        netns::create(&node.netns)?;
        fs::create_dir_all(&node.bpffs)?;
        mount(Some("bpf"), &node.bpffs, Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mount a bpffs at {}", node.bpffs.display()))?;
    }
    netns::inside(&lab.underlay(), move || {
        link::with(|handle| async move {
            link::bridge(&handle, "br0", GATEWAY).await?;
            for (port, namespace) in &nodes {
                link::plug_node(&handle, "br0", port, namespace).await?;
            }
            Ok(())
        })
    })?;
    for node in &lab.nodes {
        let address = node.address;
        netns::inside(&node.netns, move || {
            link::with(|handle| async move { link::address_node(&handle, address, GATEWAY).await })
        })?;
    }
    Ok(())
}

fn start_operator(lab: &mut Lab) -> Result<()> {
    let (dir, underlay) = (lab.dir(), lab.underlay());
    let keys = certificates::paths(&dir, "operator");
    let mut command = Command::new(program("weft-operator")?);
    command
        .args(["--cluster", &lab.name, "--listen", &format!("{GATEWAY}:{OPERATOR_PORT}")])
        .arg("--state-dir")
        .arg(dir.join("operator"))
        .arg("--admin-socket")
        .arg(dir.join("operator.sock"));
    credentials(&mut command, &keys);
    let process = process::start(&underlay, command, &dir.join("operator.log"))?;
    if let Some(operator) = lab.operators.first_mut() {
        operator.process = Some(process);
    }
    lab.save()?;
    serving(&dir.join("operator.sock"), process)
}

fn start_agents(lab: &mut Lab) -> Result<()> {
    let dir = lab.dir();
    for node in &mut lab.nodes {
        let folder = dir.join(&node.name);
        let mut command = Command::new(program("weft-agent")?);
        command
            .args(["--node", &node.name, "--node-address", &node.address.to_string()])
            .args(["--operator", &format!("{GATEWAY}:{OPERATOR_PORT}")])
            .arg("--run-dir")
            .arg(&folder)
            .arg("--state-dir")
            .arg(folder.join("state"))
            .arg("--bpffs")
            .arg(&node.bpffs)
            // A lab is where failures are tried.
            .arg("--allow-faults");
        credentials(&mut command, &certificates::paths(&dir, &node.name));
        let log = dir.join(format!("{}.log", node.name));
        node.process = Some(process::start(&node.netns, command, &log)?);
    }
    lab.save()?;
    for node in &lab.nodes {
        if let Some(process) = node.process {
            serving(&node.agent_socket, process)?;
        }
    }
    Ok(())
}

fn credentials(command: &mut Command, keys: &certificates::Credentials) {
    command
        .arg("--ca")
        .arg(&keys.ca)
        .arg("--cert")
        .arg(&keys.certificate)
        .arg("--key")
        .arg(&keys.key);
}

/// The process that answers on the pods' ports, over all pods there are now.
fn serve(lab: &mut Lab) -> Result<()> {
    if let Some(server) = lab.server.take() {
        process::end(&[server], Duration::from_secs(2))?;
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["lab", "serve", "--name", &lab.name]);
    let log = lab.dir().join("server.log");
    lab.server = Some(process::start(&lab.underlay(), command, &log)?);
    lab.save()
}

/// Waits until something listens at a socket.
fn serving(socket: &Path, process: process::ProcessId) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        anyhow::ensure!(process.runs(), "the process of {} ended", socket.display());
        anyhow::ensure!(Instant::now() < until, "nothing serves at {}", socket.display());
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn ask(lab: &Lab, request: Request) -> Result<Answer> {
    let operator = lab.operators.first().context("the lab has no operator")?;
    Ok(Client::connect(&operator.admin_socket, PATIENCE)?
        .call(request, Options::within(PATIENCE * 2))?)
}

fn submit(lab: &Lab, objects: Vec<Object>) -> Result<Revision> {
    match ask(lab, Request::Apply { objects })? {
        Answer::Accepted { revision, .. } => Ok(revision),
        other => bail!("the operator answered apply with {other:?}"),
    }
}

fn wait(lab: &Lab, revision: Option<Revision>) -> Result<()> {
    let timeout_ms = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
    match ask(lab, Request::Wait { revision, timeout_ms, node: None })? {
        Answer::Waited(waited) if waited.enforced => Ok(()),
        Answer::Waited(waited) => {
            let behind: Vec<String> = waited.behind.into_iter().map(|node| node.node).collect();
            bail!("revision {} is not enforced on {}", waited.revision, behind.join(", "))
        }
        other => bail!("the operator answered wait with {other:?}"),
    }
}

/// A program of ours, beside this one.
fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(path.exists(), "{} is not there: run `make build`", path.display());
    Ok(path)
}
