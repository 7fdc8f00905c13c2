//! `weft map`: the eBPF maps of the nodes.

use crate::{commands::listing::Listing, output::Outcome};
use weft_api::agent::{Answer, Request};

/// Subcommands of `weft map`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Every map of every node: who writes it, how full it is, what had to be mended in it.
    ///
    /// Example: weft map list --node node1
    List(Listing),
    /// The entries of one map, in words.
    ///
    /// Example: weft map dump addresses4 --node node1
    Dump {
        /// The map, with or without `weft_`.
        name: String,
        #[command(flatten)]
        listing: Listing,
    },
}

/// Runs one.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::List(listing) => list(&listing),
        Command::Dump { name, listing } => dump(name, &listing),
    }
}

fn list(listing: &Listing) -> anyhow::Result<Outcome> {
    let rows = listing.ask(&Request::Maps, "list the maps", |answer| match answer {
        Answer::Maps(rows) => Some(rows),
        _ => None,
    })?;
    let headings = ["NODE", "MAP", "WRITTEN BY", "ENTRIES", "CAPACITY", "MENDED", "PROBLEM"];
    listing.print(headings, &rows, |row| {
        [
            row.node.clone(),
            row.name.clone(),
            row.written_by.clone(),
            row.entries.to_string(),
            row.capacity.to_string(),
            row.mended.to_string(),
            row.problem.clone().unwrap_or_default(),
        ]
    })
}

fn dump(name: String, listing: &Listing) -> anyhow::Result<Outcome> {
    let what = format!("dump the map {name}");
    let rows = listing.ask(&Request::MapDump { name }, &what, |answer| match answer {
        Answer::MapDump(rows) => Some(rows),
        _ => None,
    })?;
    listing.print(["NODE", "KEY", "VALUE"], &rows, |row| {
        [row.node.clone(), row.key.clone(), row.value.clone()]
    })
}
