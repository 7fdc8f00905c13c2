//! `weft status`: health of agents and operators.

use crate::{
    output::{self, Format, Outcome, say},
    target::{Server, Target, ask, ask_any},
};
use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::{Value, json};
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

/// An agent's answer, or what became of the question.
type Told = (Server, Result<Status>);

/// Exit 1 when an agent says that it is not healthy, or says nothing.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let mut agents: Vec<Told> = Vec::new();
    for server in arguments.target.agents()? {
        let told = status(&server);
        agents.push((server, told));
    }
    if agents.iter().all(|(_, told)| told.is_err())
        && let Some((server, Err(error))) = agents.pop()
    {
        return Err(error.context(format!("ask for the status of {}", server.name)));
    }
    match arguments.output {
        Format::Json => json(&agents, &arguments.target)?,
        Format::Table => table(&agents, &arguments.target)?,
    }
    let well = |(_, told): &Told| told.as_ref().is_ok_and(|status| status.healthy);
    Ok(if agents.iter().all(well) { Outcome::Done } else { Outcome::No })
}

fn status(server: &Server) -> Result<Status> {
    match ask(server, Request::Status, Duration::ZERO)? {
        Answer::Status(status) => Ok(status),
        _ => bail!("it answered something else; is it of another version?"),
    }
}

/// An object an agent, then one of the operator; of one that is away, who it is and why. `kind` tells them apart.
fn json(agents: &[Told], target: &Target) -> Result<()> {
    let agent = |(server, told): &Told| match told {
        Ok(status) => row("agent", status),
        Err(error) => row(
            "agent",
            &json!({"node": server.name, "healthy": false, "problems": [format!("{error:#}")]}),
        ),
    };
    let mut rows = agents.iter().map(agent).collect::<Result<Vec<_>>>()?;
    rows.push(match operator(target) {
        Ok(status) => row("operator", &status)?,
        Err(error) => row("operator", &json!({"problems": [format!("{error:#}")]}))?,
    });
    say(&format!("{}\n", serde_json::to_string_pretty(&rows)?))?;
    Ok(())
}

fn row(kind: &str, status: &impl Serialize) -> Result<Value> {
    let mut row = serde_json::to_value(status)?;
    if let Value::Object(fields) = &mut row {
        fields.insert("kind".to_owned(), kind.into());
    }
    Ok(row)
}

/// A line an agent, what is wrong with each, and the operator, which may well be out of reach from here, on another
/// machine: whether it is there for the agents they say themselves.
fn table(agents: &[Told], target: &Target) -> Result<()> {
    let headings = ["NODE", "HEALTH", "RECEIVED", "REALISED", "EPOCH", "OPERATOR", "VERSION"];
    output::columns(headings, agents, |(server, told)| match told {
        Ok(agent) => [
            agent.node.clone(),
            if agent.healthy { "ok".to_owned() } else { "degraded".to_owned() },
            agent.received.clone(),
            agent.realised.clone(),
            agent.epoch.to_string(),
            agent.operator.clone().unwrap_or_else(|| "none".to_owned()),
            agent.version.clone(),
        ],
        Err(_) => [server.name.as_str(), "away", "", "", "", "", ""].map(str::to_owned),
    })?;
    for (server, told) in agents {
        match told {
            Ok(agent) => {
                let degraded = (!agent.healthy).then(|| agent.problems.join("; "));
                for line in degraded.iter().chain(&agent.notices) {
                    say(&format!("\n{}: {line}\n", agent.node))?;
                }
            }
            Err(error) => drop(say(&format!("\n{}: {error:#}\n", server.name))?),
        }
    }
    let line = operator(target).map_or_else(|error| format!("operator: {error:#}"), |it| line(&it));
    say(&format!("\n{line}\n"))?;
    Ok(())
}

fn operator(target: &Target) -> Result<operator::Status> {
    match ask_any(&target.operators()?, Duration::ZERO, |_| operator::Request::Status)? {
        operator::Answer::Status(status) => Ok(status),
        other => bail!("ask an operator for its status: it answered {other:?}"),
    }
}

/// The operator's state in a line.
fn line(status: &operator::Status) -> String {
    let behind: Vec<&str> = status
        .nodes
        .iter()
        .filter(|node| node.acknowledged != Some(status.revision))
        .map(|node| node.node.as_str())
        .collect();
    let behind =
        if behind.is_empty() { String::new() } else { format!("; behind: {}", behind.join(", ")) };
    format!(
        "operator: revision {}, store {}, {} nodes, {} identities, {} workloads, {} endpoints, {} policies{behind}",
        status.revision,
        status.store,
        status.nodes.len(),
        status.identities,
        status.workloads,
        status.endpoints,
        status.policies,
    )
}
