//! `weft lab up`: namespaces, processes, pods, policies.

use super::{
    desired, down, group, interrupt, link, netns,
    pods::{self, Commands},
    process,
    record::{self, Held, Lab},
    start::{self, GATEWAY},
};
use crate::{
    manifests::Labels,
    output::{Outcome, Usage, note, told},
};
use anyhow::{Context, Result, anyhow};
use nix::mount::{MsFlags, mount};
use std::{fs, net::Ipv4Addr, path::PathBuf};
use weft_manifests::Manifests;
use weft_process::logs::Format;
use weft_types::{LabelFilter, NodeName, Object};

/// Arguments of `weft lab up`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Manifests: files, folders, or - for standard input.
    #[arg(short, long = "filename", num_args = 1.., value_name = "FILE")]
    file: Vec<PathBuf>,
    /// The lab's name.
    #[arg(long, visible_alias = "lab", default_value = "lab", value_parser = lab_name)]
    name: String,
    /// How many nodes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=200))]
    nodes: u8,
    /// How many operators; several are a group, which needs --store etcd.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=7))]
    operators: u8,
    /// Where operators keep what must not be lost: a file of the only one, or an etcd, which several share.
    #[arg(long, value_enum, default_value = "file")]
    store: Store,
    /// How packets go from node to node: native routes (vxlan is not supported yet).
    #[arg(long, default_value = "native", value_parser = routing)]
    routing: String,
    /// Run the commands of the manifests, without privileges and in namespaces of their own; the lab's own
    /// servers answer otherwise.
    #[arg(long)]
    run_commands: bool,
    #[command(flatten)]
    labels: Labels,
    /// What agents and operators log: error, warn, info, debug or trace, or by part.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = weft_process::logs::level)]
    log_level: String,
}

/// What operators keep in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Store {
    /// A file.
    File,
    /// An etcd: one member, or three for several operators.
    Etcd,
}

fn routing(text: &str) -> Result<String, String> {
    only(text, "native", ("vxlan", "it comes with fabrics whose network routes no pods' addresses"))
}

/// The one choice there is so far; `later` is one that the interface names already, and what it comes with.
fn only(text: &str, now: &str, later: (&str, &str)) -> Result<String, String> {
    match text {
        text if text == now => Ok(text.to_owned()),
        text if text == later.0 => {
            Err(format!("{text} is not supported yet, {now} is: {}", later.1))
        }
        _ => Err(format!("neither {now} nor {}", later.0)),
    }
}

fn lab_name(text: &str) -> Result<String, String> {
    record::checked(text).map(str::to_owned).map_err(|error| error.to_string())
}

/// Brings a lab up; whatever fails, and at Ctrl-C, nothing is left.
pub(crate) fn run(arguments: &Arguments, log_format: Format) -> Result<Outcome> {
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "a lab needs root: run `sudo weft lab up`");
    let name = &arguments.name;
    let filter = arguments.labels.or(LabelFilter::default());
    let mut manifests = desired::read(&arguments.file, &filter)?;
    if arguments.operators > 1 && arguments.store == Store::File {
        let problem = format!(
            "--operators {}: several operators need a store that they share; add --store etcd",
            arguments.operators
        );
        return Err(Usage(problem).into());
    }
    let mut lab = plan(name, arguments.nodes, (arguments.operators, arguments.store));
    lab.labels = filter.added().to_vec();
    lab.log_flags =
        vec![format!("--log-format={log_format}"), format!("--log-level={}", arguments.log_level)];
    let commands = if arguments.run_commands { Commands::Run } else { Commands::Ignore };
    pods::schedule(&mut lab, &mut manifests, commands)?;
    interrupt::watch()?;
    let mut lab = Held::found(lab)?;
    if let Err(error) = build(&mut lab, manifests) {
        return Err(taken_down(&lab, &error));
    }
    note!("lab {name} is up: {} nodes, {} pods", lab.nodes.len(), lab.pods.len());
    Ok(Outcome::Done)
}

/// Takes away what there is of a lab that did not come up; why it did not, and what is left.
fn taken_down(lab: &Lab, error: &anyhow::Error) -> anyhow::Error {
    let (why, logs) = match interrupt::came() {
        true => ("interrupted".to_owned(), String::new()),
        false => (told(error), logs(lab)),
    };
    let left = match down::remove(lab) {
        Ok(()) => "nothing of it is left".to_owned(),
        Err(left) => {
            format!("{left:#}\n`weft lab down --lab {}` tries again to take it down", lab.name)
        }
    };
    anyhow!("bring lab {} up: {why}{logs}\n{left}", lab.name)
}

/// The last lines of all logs, for an error: they go with the lab.
fn logs(lab: &Lab) -> String {
    let entries = fs::read_dir(lab.dir()).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let logs = paths.filter(|path| path.extension().is_some_and(|kind| kind == "log"));
    logs.map(|path| format!("\n{}", process::tail(&path))).collect()
}

/// What the lab will be made of.
fn plan(name: &str, nodes: u8, (operators, store): (u8, Store)) -> Lab {
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
        operators: group::plan(&dir, operators),
        etcd: match (store, operators) {
            (Store::File, _) => Vec::new(),
            (Store::Etcd, 1) => vec![None],
            (Store::Etcd, _) => vec![None; 3],
        },
        nodes: (1..=nodes).map(node).collect(),
        pods: Vec::new(),
        server: None,
        log_flags: Vec::new(),
        settings: start::said(),
        labels: Vec::new(),
    }
}

fn build(lab: &mut Held, manifests: Manifests) -> Result<()> {
    let mut objects = manifests.objects;
    objects.extend(lab.nodes.iter().map(|node| {
        Object::Node(weft_types::Node {
            name: NodeName(node.name.clone()),
            address: node.address,
            pod_cidrs: vec![node.pod_cidr],
        })
    }));
    note!("making {} nodes", lab.nodes.len());
    underlay(lab)?;
    group::certificates(lab)?;
    match lab.operators.len() {
        1 => note!("starting the operator and {} agents", lab.nodes.len()),
        operators => note!("starting {operators} operators and {} agents", lab.nodes.len()),
    }
    group::start(lab, None)?;
    desired::submit(lab, objects)?;
    let nodes = start::all(lab);
    start::agents(lab, &nodes)?;
    interrupt::check()?;
    note!("plugging {} pods", lab.pods.len());
    pods::plug(lab)?;
    start::servers(lab)?;
    start::commands(lab)?;
    desired::wait(lab)?;
    Ok(interrupt::check()?)
}

/// The underlay's bridge and the nodes' namespaces.
fn underlay(lab: &Lab) -> Result<()> {
    netns::create(&lab.underlay())?;
    let nodes: Vec<(String, String)> =
        lab.nodes.iter().map(|node| (format!("v{}", node.name), node.netns.clone())).collect();
    for node in &lab.nodes {
        interrupt::check()?;
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
