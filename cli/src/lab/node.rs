//! `weft lab agent`, `operator` and `node`: a lab's processes killed and started, commands on its nodes.

use super::{
    exec, group,
    process::ProcessId,
    record::{self, Held, Lab},
    start,
};
use crate::output::{Outcome, note};
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use std::{path::Path, time::Duration};

/// Which lab.
#[derive(clap::Args)]
pub(crate) struct Which {
    /// Which lab; the only one by default.
    #[arg(long, visible_alias = "lab")]
    pub(crate) name: Option<String>,
}

/// Subcommands of `weft lab agent`.
#[derive(clap::Subcommand)]
pub(crate) enum Agent {
    /// End an agent at once (SIGKILL), as a crash does; its pods go on.
    ///
    /// Example: weft lab agent kill --node node1
    Kill(Agents),
    /// Start an agent that ended; returns when it answers.
    ///
    /// Example: weft lab agent start --node node1
    Start(Agents),
}

/// Which agents.
#[derive(clap::Args)]
pub(crate) struct Agents {
    #[command(flatten)]
    lab: Which,
    /// The agent of this node; all agents by default.
    #[arg(long)]
    node: Option<String>,
}

impl Agents {
    fn nodes(&self, lab: &Lab) -> Result<Vec<String>> {
        match &self.node {
            Some(node) => Ok(vec![lab.node(node)?.name.clone()]),
            None => Ok(start::all(lab)),
        }
    }
}

/// Which operators.
#[derive(clap::Args)]
pub(crate) struct Operators {
    #[command(flatten)]
    lab: Which,
    /// This operator, as operator2; all of them by default.
    #[arg(long, value_name = "OPERATOR")]
    operator: Option<String>,
}

impl Operators {
    /// Whether one is meant.
    fn means(&self, operator: &record::Operator) -> bool {
        self.operator.as_ref().is_none_or(|name| *name == operator.name)
    }

    /// Refuses a name that none has.
    fn check(&self, lab: &Lab) -> Result<()> {
        let known: Vec<&str> = lab.operators.iter().map(|o| o.name.as_str()).collect();
        match &self.operator {
            Some(name) if !known.contains(&name.as_str()) => {
                bail!("find operator {name} of lab {}: it has {}", lab.name, known.join(", "))
            }
            _ => Ok(()),
        }
    }
}

/// Subcommands of `weft lab operator`.
#[derive(clap::Subcommand)]
pub(crate) enum Operator {
    /// End the operator at once (SIGKILL), as a crash does; the fabric goes on.
    ///
    /// Example: weft lab operator kill
    Kill(Operators),
    /// Start the operator after it ended; returns when it answers.
    ///
    /// Example: weft lab operator start
    Start(Operators),
}

/// Subcommands of `weft lab node`.
#[derive(clap::Subcommand)]
pub(crate) enum Node {
    /// Run a command in a node's network namespace.
    ///
    /// Example: weft lab node exec node1 -- ip route
    Exec {
        /// The node.
        node: String,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<String>,
        #[command(flatten)]
        lab: Which,
    },
}

/// Kills or starts agents.
pub(crate) fn agent(command: &Agent) -> Result<Outcome> {
    match command {
        Agent::Kill(which) => {
            let lab = Held::of(which.lab.name.as_deref())?;
            for name in which.nodes(&lab)? {
                kill(lab.node(&name)?.process, &format!("the agent of {name}"))?;
            }
        }
        Agent::Start(which) => {
            let mut lab = Held::of(which.lab.name.as_deref())?;
            let nodes = which.nodes(&lab)?;
            let dir = lab.dir();
            start::agents(&mut lab, &nodes).with_context(|| logs_in(&dir))?;
            note!("serving: the agent of {}", nodes.join(", "));
        }
    }
    Ok(Outcome::Done)
}

/// Kills or starts operators.
pub(crate) fn operator(command: &Operator) -> Result<Outcome> {
    match command {
        Operator::Kill(which) => {
            let lab = Held::of(which.lab.name.as_deref())?;
            which.check(&lab)?;
            for operator in lab.operators.iter().filter(|operator| which.means(operator)) {
                kill(operator.process, &operator.name)?;
            }
        }
        Operator::Start(which) => {
            let mut lab = Held::of(which.lab.name.as_deref())?;
            which.check(&lab)?;
            let dir = lab.dir();
            let only = which.operator.as_deref();
            group::start(&mut lab, only).with_context(|| logs_in(&dir))?;
            note!("serving: {}", only.unwrap_or("the operator"));
        }
    }
    Ok(Outcome::Done)
}

/// Runs a command on a node.
pub(crate) fn node(command: &Node) -> Result<Outcome> {
    let Node::Exec { node, command, lab } = command;
    let lab = super::record::find(lab.name.as_deref())?;
    exec::inside(&lab.node(node)?.netns, command)
}

fn logs_in(dir: &Path) -> String {
    format!("start it; its log is in {}", dir.display())
}

/// Ends a process at once.
pub(super) fn kill(process: Option<ProcessId>, whose: &str) -> Result<()> {
    match process.filter(|process| process.runs()) {
        Some(process) => {
            process.signal(Signal::SIGKILL);
            let ended = process.ended_within(Duration::from_secs(5));
            anyhow::ensure!(ended, "kill {whose}: process {} survived SIGKILL", process.pid);
            note!("killed: {whose} (process {})", process.pid);
        }
        None => note!("not running: {whose}"),
    }
    Ok(())
}
