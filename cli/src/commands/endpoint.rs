//! `weft endpoint`: the pods that are plugged.

use crate::{commands::listing::Listing, output::Outcome};
use weft_api::agent::{Answer, Request};

/// Subcommands of `weft endpoint`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Every endpoint with its identity and the revision its kernel state is of.
    ///
    /// Example: weft endpoint list --node node-0 -o json
    List(Listing),
}

/// Runs one.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    let Command::List(listing) = command;
    let rows = listing.ask(&Request::Endpoints, "list the endpoints", |answer| match answer {
        Answer::Endpoints(rows) => Some(rows),
        _ => None,
    })?;
    let headings = ["NODE", "ID", "POD", "ADDRESS", "IDENTITY", "POLICY", "STATE", "REVISION"];
    listing.print(headings, &rows, |row| {
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
