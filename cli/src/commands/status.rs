//! `weft status`: health of agents and operators.

use crate::{
    output::{self, Format, Outcome},
    target::{Target, ask, ask_all},
};
use anyhow::bail;
use std::time::Duration;
use weft_api::{
    agent::{Answer, Request, Status},
    operator,
};

/// What `weft status` can be told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// For people or for programs.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// Exit 1 when an agent says that it is not healthy, or says nothing.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let take = |answer| match answer {
        Answer::Status(status) => Some(vec![status]),
        _ => None,
    };
    let agents: Vec<Status> =
        ask_all(&arguments.target, &Request::Status, "ask for the status", take)?;
    let operator = operator(&arguments.target);
    let headings = ["NODE", "HEALTH", "RECEIVED", "REALISED", "EPOCH", "OPERATOR", "VERSION"];
    output::rows(arguments.output, headings, &agents, |agent| {
        [
            agent.node.clone(),
            if agent.healthy { "ok".to_owned() } else { "degraded".to_owned() },
            agent.received.clone(),
            agent.realised.clone(),
            agent.epoch.to_string(),
            agent.operator.clone().unwrap_or_else(|| "none".to_owned()),
            agent.version.clone(),
        ]
    })?;
    // The rows of JSON are the agents'. An operator may well be out of reach from here, on another machine:
    // whether it is there for the agents they say themselves.
    if arguments.output == Format::Table {
        for agent in agents.iter().filter(|agent| !agent.healthy) {
            output::say(&format!("\n{}: {}\n", agent.node, agent.problems.join("; ")))?;
        }
        let line = operator.unwrap_or_else(|error| format!("operator: {error:#}"));
        output::say(&format!("\n{line}\n"))?;
    }
    let all = agents.len() == arguments.target.agents()?.len();
    Ok(if all && agents.iter().all(|agent| agent.healthy) { Outcome::Done } else { Outcome::No })
}

/// The operator's state in a line.
fn operator(target: &Target) -> anyhow::Result<String> {
    let socket = target.operator()?;
    let status = match ask(&socket, operator::Request::Status, Duration::ZERO)? {
        operator::Answer::Status(status) => status,
        other => bail!("ask {} for its status: it answered {other:?}", socket.display()),
    };
    let behind: Vec<&str> = status
        .nodes
        .iter()
        .filter(|node| node.acknowledged != Some(status.revision))
        .map(|node| node.node.as_str())
        .collect();
    let behind =
        if behind.is_empty() { String::new() } else { format!("; behind: {}", behind.join(", ")) };
    Ok(format!(
        "operator: revision {}, store {}, {} nodes, {} identities, {} workloads, {} endpoints, {} policies{behind}",
        status.revision,
        status.store,
        status.nodes.len(),
        status.identities,
        status.workloads,
        status.endpoints,
        status.policies,
    ))
}
