//! `weft node`: the nodes of the cluster.

use crate::{commands::listing::Listing, output::Outcome};
use std::collections::BTreeMap;
use weft_api::agent::{Answer, NodeRow, Request};

/// Subcommands of `weft node`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Every node that an agent knows, with its address and the prefixes of its pods.
    ///
    /// Example: weft node list
    List(Listing),
}

/// Runs one.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    let Command::List(listing) = command;
    let rows = listing.ask(&Request::Nodes, "list the nodes", |answer| match answer {
        Answer::Nodes(rows) => Some(rows),
        _ => None,
    })?;
    let rows = rows.into_iter().map(|row| ((row.name.clone(), row.address), row));
    let rows: Vec<NodeRow> = rows.collect::<BTreeMap<_, _>>().into_values().collect();
    listing.print(["NODE", "ADDRESS", "POD CIDRS"], &rows, |row| {
        [row.name.clone(), row.address.to_string(), row.pod_cidrs.join(" ")]
    })
}
