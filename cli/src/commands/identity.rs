//! `weft identity`: the numbers that label sets have.

use crate::{
    commands::listing::Listing,
    output::{Outcome, note},
};
use anyhow::{Result, bail};
use serde::Serialize;
use std::collections::BTreeMap;
use weft_api::{
    agent::{self, IdentityRow},
    operator::{self, IdentityState},
};

/// Subcommands of `weft identity`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Every identity, its labels, and who refers to it: pods that are to have it, and addresses on nodes. One label set has one
    /// number everywhere.
    ///
    /// An identity is unused when nobody refers to it, and after a while it is retiring: agents forget it, then its number may be
    /// given to other labels. With --node, what that node knows.
    ///
    /// Example: weft identity list -o json
    List(Listing),
}

/// An identity, as it is listed.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    identity: u32,
    labels: Vec<String>,
    #[serde(flatten)]
    references: Option<References>,
}

/// Who refers to it, as operators know.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct References {
    state: IdentityState,
    pods: usize,
    endpoints: usize,
}

/// Runs one.
pub(crate) fn run(command: Command) -> Result<Outcome> {
    let Command::List(listing) = command;
    match listing.target().node() {
        Some(_) => print_of_agents(&listing, &of_agents(&listing)?),
        None => match of_operators(&listing) {
            Ok(rows) => print_of_operators(&listing, &rows),
            Err(why) => {
                let rows = of_agents(&listing)?;
                note!("weft: warning: {why:#}; these are the identities that agents know");
                print_of_agents(&listing, &rows)
            }
        },
    }
}

/// Agents know nobody's references but their own.
fn print_of_agents(listing: &Listing, rows: &[Row]) -> Result<Outcome> {
    listing
        .print(["IDENTITY", "LABELS"], rows, |row| [row.identity.to_string(), row.labels.join(" ")])
}

fn print_of_operators(listing: &Listing, rows: &[Row]) -> Result<Outcome> {
    listing.print(["IDENTITY", "STATE", "PODS", "ENDPOINTS", "LABELS"], rows, |row| {
        let of = |cell: fn(&References) -> String| row.references.as_ref().map(cell);
        [
            row.identity.to_string(),
            of(|it| it.state.as_str().to_owned()).unwrap_or_default(),
            of(|it| it.pods.to_string()).unwrap_or_default(),
            of(|it| it.endpoints.to_string()).unwrap_or_default(),
            row.labels.join(" "),
        ]
    })
}

fn of_operators(listing: &Listing) -> Result<Vec<Row>> {
    match listing.ask_operators(&operator::Request::Identities)? {
        operator::Answer::Identities(rows) => Ok(rows.into_iter().map(Row::from).collect()),
        other => bail!("an operator answered {other:?}; is it of another version?"),
    }
}

fn of_agents(listing: &Listing) -> Result<Vec<Row>> {
    let request = agent::Request::Identities;
    let rows = listing.ask(&request, "list the identities", |answer| match answer {
        agent::Answer::Identities(rows) => Some(rows),
        _ => None,
    })?;
    Ok(folded(rows))
}

impl From<operator::IdentityRow> for Row {
    fn from(row: operator::IdentityRow) -> Self {
        let operator::IdentityRow { identity, labels, state, pods, endpoints } = row;
        Self { identity, labels, references: Some(References { state, pods, endpoints }) }
    }
}

/// Each once, by number. Two nodes that disagree about a number both stay: that is to be seen.
fn folded(rows: Vec<IdentityRow>) -> Vec<Row> {
    let rows: BTreeMap<_, _> =
        rows.into_iter().map(|row| ((row.identity, row.labels), ())).collect();
    let row = |(identity, labels)| Row { identity, labels, references: None };
    rows.into_keys().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_nodes_say_is_said_once() {
        let row = |identity, label: &str| IdentityRow { identity, labels: vec![label.to_owned()] };
        let rows = folded(vec![row(9, "a"), row(3, "b"), row(9, "a"), row(9, "c")]);
        let rows: Vec<(u32, String)> =
            rows.into_iter().map(|row| (row.identity, row.labels.concat())).collect();
        assert_eq!(rows, [(3, "b".to_owned()), (9, "a".to_owned()), (9, "c".to_owned())]);
    }
}
