//! `weft identity`: the numbers that label sets have.

use crate::{
    output::{self, Format, Outcome},
    target::{Target, ask_all},
};
use std::collections::BTreeMap;
use weft_api::agent::{Answer, IdentityRow, Request};

/// Subcommands of `weft identity`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Every identity that a node knows, with its labels. One label set has one number everywhere.
    ///
    /// Example: weft identity list -o json
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
        ask_all(&target, &Request::Identities, "list the identities", |answer| match answer {
            Answer::Identities(rows) => Some(rows),
            _ => None,
        })?;
    let rows: Vec<IdentityRow> = folded(rows);
    output::rows(output, ["IDENTITY", "LABELS"], &rows, |row| {
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
