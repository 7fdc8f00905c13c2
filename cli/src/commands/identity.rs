//! `weft identity`: the numbers that label sets have.

use crate::{commands::listing::Listing, output::Outcome};
use std::collections::BTreeMap;
use weft_api::agent::{Answer, IdentityRow, Request};

/// Subcommands of `weft identity`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Every identity that a node knows, with its labels. One label set has one number everywhere.
    ///
    /// Example: weft identity list -o json
    List(Listing),
}

/// Runs one.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    let Command::List(listing) = command;
    let rows = listing.ask(&Request::Identities, "list the identities", |answer| match answer {
        Answer::Identities(rows) => Some(rows),
        _ => None,
    })?;
    let rows: Vec<IdentityRow> = folded(rows);
    listing.print(["IDENTITY", "LABELS"], &rows, |row| {
        [row.identity.to_string(), row.labels.join(" ")]
    })
}

/// Each once, by number. Two nodes that disagree about a number both stay: that is to be seen.
fn folded(rows: Vec<IdentityRow>) -> Vec<IdentityRow> {
    let rows = rows.into_iter().map(|row| ((row.identity, row.labels.clone()), row));
    rows.collect::<BTreeMap<_, _>>().into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_nodes_say_is_said_once() {
        let row = |identity, label: &str| IdentityRow { identity, labels: vec![label.to_owned()] };
        let rows = folded(vec![row(9, "a"), row(3, "b"), row(9, "a"), row(9, "c")]);
        assert_eq!(rows, [row(3, "b"), row(9, "a"), row(9, "c")]);
    }
}
