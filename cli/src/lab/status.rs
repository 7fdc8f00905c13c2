//! `weft lab status`: what a lab is made of, and whether all of it lives.

use super::{
    netns,
    process::ProcessId,
    record::{self, Lab},
};
use crate::{
    output::{self, Format, Outcome},
    target::{Server, ask},
};
use anyhow::Result;
use serde::Serialize;
use std::{net::Ipv4Addr, time::Duration};
use weft_api::{agent, operator};

/// Arguments of `weft lab status`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which lab; the only one by default.
    #[arg(long, visible_alias = "lab")]
    name: Option<String>,
    /// For people or for programs.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Serialize)]
struct Report {
    name: String,
    processes: Vec<Process>,
    pods: Vec<Pod>,
}

#[derive(Serialize)]
struct Process {
    /// `operator1`, `node1`, `servers`.
    name: String,
    /// Its address, when it has one of its own.
    address: Option<Ipv4Addr>,
    pid: Option<i32>,
    /// `runs` or `ended`.
    state: &'static str,
    /// What it has in its kernel, or as its newest.
    revision: Option<String>,
    /// What is wrong with it.
    problem: Option<String>,
    /// Pods that are on it.
    pods: usize,
    netns: String,
}

#[derive(Serialize)]
struct Pod {
    name: String,
    node: String,
    address: Option<Ipv4Addr>,
    ports: Vec<String>,
    netns: String,
    /// `runs` or `ended`, of its command; none when it has none.
    command: Option<&'static str>,
    /// What is wrong with it.
    problem: Option<&'static str>,
}

/// Exit 1 when something does not run or says that it is not well.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let lab = record::find(arguments.name.as_deref())?;
    let report = report(&lab);
    let well = report.processes.iter().all(|p| p.state == RUNS && p.problem.is_none())
        && report.pods.iter().all(|pod| pod.problem.is_none());
    match arguments.output {
        Format::Json => {
            output::say(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
        }
        Format::Table => {
            let headings = ["PROCESS", "ADDRESS", "PID", "STATE", "REVISION", "PODS", "PROBLEM"];
            output::columns(headings, &report.processes, |process| {
                [
                    process.name.clone(),
                    text(process.address),
                    text(process.pid),
                    process.state.to_owned(),
                    process.revision.clone().unwrap_or_default(),
                    process.pods.to_string(),
                    process.problem.clone().unwrap_or_default(),
                ]
            })?;
            output::say("\n")?;
            let headings = ["POD", "NODE", "ADDRESS", "PORTS", "NETWORK NAMESPACE", "PROBLEM"];
            output::columns(headings, &report.pods, |pod| {
                [
                    pod.name.clone(),
                    pod.node.clone(),
                    text(pod.address),
                    pod.ports.join(" "),
                    pod.netns.clone(),
                    text(pod.problem),
                ]
            })?;
        }
    }
    Ok(if well { Outcome::Done } else { Outcome::No })
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

const RUNS: &str = "runs";

fn state(process: Option<ProcessId>) -> &'static str {
    if process.is_some_and(ProcessId::runs) { RUNS } else { "ended" }
}

fn report(lab: &Lab) -> Report {
    let mut processes = Vec::new();
    for operator in &lab.operators {
        let told = (state(operator.process) == RUNS).then(|| {
            ask(&Server::operator(lab, operator), operator::Request::Status, Duration::ZERO)
        });
        let (revision, problem) = match told {
            None => (None, None),
            Some(Ok(operator::Answer::Status(status))) => (Some(status.revision.to_string()), None),
            Some(Ok(other)) => (None, Some(format!("answered {other:?}"))),
            Some(Err(error)) => (None, Some(format!("{error:#}"))),
        };
        processes.push(process(lab, &operator.name, operator.process, revision, problem));
    }
    for node in &lab.nodes {
        let told = (state(node.process) == RUNS)
            .then(|| ask(&Server::agent(lab, node), agent::Request::Status, Duration::ZERO));
        let (revision, problem) = match told {
            None => (None, None),
            Some(Ok(agent::Answer::Status(status))) => {
                let problems = (!status.healthy).then(|| status.problems.join("; "));
                (Some(status.realised), problems)
            }
            Some(Ok(other)) => (None, Some(format!("answered {other:?}"))),
            Some(Err(error)) => (None, Some(format!("{error:#}"))),
        };
        let row = process(lab, &node.name, node.process, revision, problem);
        processes.push(Process { address: Some(node.address), netns: node.netns.clone(), ..row });
    }
    processes.push(process(lab, "servers", lab.server, None, None));
    let pods = lab.pods.iter().map(|pod| Pod {
        name: pod.name.clone(),
        node: pod.node.clone(),
        address: pod.address,
        ports: pod.declared().iter().map(|(protocol, port)| format!("{protocol}/{port}")).collect(),
        netns: pod.netns.clone(),
        command: (!pod.command.is_empty()).then(|| state(pod.process)),
        problem: problem(pod),
    });
    Report { name: lab.name.clone(), processes, pods: pods.collect() }
}

fn problem(pod: &record::Pod) -> Option<&'static str> {
    if pod.address.is_none() {
        Some("not plugged")
    } else if netns::inode(&pod.netns).is_none() {
        Some("its network namespace is gone")
    } else if !pod.command.is_empty() && state(pod.process) != RUNS {
        Some("its command ended")
    } else {
        None
    }
}

fn process(
    lab: &Lab,
    name: &str,
    process: Option<ProcessId>,
    revision: Option<String>,
    problem: Option<String>,
) -> Process {
    Process {
        name: name.to_owned(),
        address: None,
        pid: process.map(|process| process.pid),
        state: state(process),
        revision,
        problem,
        pods: lab.pods.iter().filter(|pod| pod.node == name).count(),
        netns: lab.underlay(),
    }
}
