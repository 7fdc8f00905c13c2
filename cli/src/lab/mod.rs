//! `weft lab`: a whole cluster on this machine.

use crate::output::Outcome;

/// Subcommands of `weft lab`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {}

/// Runs one.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {}
}
