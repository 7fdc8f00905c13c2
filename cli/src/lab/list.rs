//! `weft lab list`: the labs that are there.

use super::record::{self, Lab};
use crate::output::{self, Format, Outcome, say};
use anyhow::Result;
use serde::Serialize;

/// Arguments of `weft lab list`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For people, a name a line, or for programs.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Serialize)]
struct Row {
    name: String,
    /// None where the record cannot be read.
    nodes: Option<usize>,
    pods: Option<usize>,
}

/// Lists them by name.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let names = record::names()?;
    if arguments.output == Format::Table {
        say(&names.iter().map(|name| format!("{name}\n")).collect::<String>())?;
        return Ok(Outcome::Done);
    }
    let row = |name: String| {
        let lab = Lab::load(&name).ok();
        let count = |what: fn(&Lab) -> usize| lab.as_ref().map(what);
        Row { nodes: count(|lab| lab.nodes.len()), pods: count(|lab| lab.pods.len()), name }
    };
    let rows: Vec<Row> = names.into_iter().map(row).collect();
    output::rows(Format::Json, [], &rows, |_| [])
}
