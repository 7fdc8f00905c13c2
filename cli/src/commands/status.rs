//! `weft status`: health of agents and operators.

use crate::{
    output::{self, Format, Outcome},
    target::{Target, ask},
};
use anyhow::bail;
use std::time::Duration;
use weft_api::agent::{Answer, Request, Status};

/// What `weft status` can be told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// For people or for programs.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// Exit 1 when an agent says that it is not healthy.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let mut agents: Vec<Status> = Vec::new();
    for socket in arguments.target.agents()? {
        match ask(&socket, Request::Status, Duration::ZERO)? {
            Answer::Status(status) => agents.push(status),
            other => bail!("ask {} for its status: it answered {other:?}", socket.display()),
        }
    }
    let headings = ["NODE", "HEALTH", "RECEIVED", "REALISED", "EPOCH", "OPERATOR", "VERSION"];
    output::rows(arguments.output, headings, &agents, |agent| {
        [
            agent.node.clone(),
            if agent.healthy { "ok".to_owned() } else { agent.problems.join("; ") },
            agent.received.clone(),
            agent.realised.clone(),
            agent.epoch.to_string(),
            agent.operator.clone().unwrap_or_else(|| "none".to_owned()),
            agent.version.clone(),
        ]
    })?;
    Ok(if agents.iter().all(|agent| agent.healthy) { Outcome::Done } else { Outcome::No })
}
