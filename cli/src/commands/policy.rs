//! `weft policy`: what policies say, computed offline or asked of a running fabric.

use crate::output::Outcome;

/// Subcommands of `weft policy`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {}

/// Runs one.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {}
}
