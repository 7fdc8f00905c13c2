//! `weft endpoint`: the pods that are plugged.

use crate::{
    output::{self, Format, Outcome},
    target::{Target, ask_all},
};
use weft_api::agent::{Answer, Request};

/// Subcommands of `weft endpoint`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Every endpoint with its identity and the revision its kernel state is of.
    ///
    /// Example: weft endpoint list --node node-0 -o json
    List {
        #[command(flatten)]
        target: Target,
        /// For people or for programs.
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
    },
}

/// Runs one.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    let Command::List { target, output } = command;
    let rows =
        ask_all(&target, &Request::Endpoints, "list the endpoints", |answer| match answer {
            Answer::Endpoints(rows) => Some(rows),
            _ => None,
        })?;
    let headings = ["NODE", "ID", "POD", "ADDRESS", "IDENTITY", "POLICY", "STATE", "REVISION"];
    output::rows(output, headings, &rows, |row| {
        [
            row.node.clone(),
            row.id.to_string(),
            row.pod.clone(),
            row.address.to_string(),
            row.identity.to_string(),
            row.policy.clone(),
            row.state.clone(),
            row.realised.clone(),
        ]
    })
}
