//! `weft policy`: what policies say, computed offline or asked of a running fabric.

use crate::{
    commands::{policy_explain, policy_list, policy_matrix, policy_validate, policy_wait},
    output::Outcome,
};

/// Subcommands of `weft policy`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Matrix(policy_matrix::Matrix),
    Explain(policy_explain::Explain),
    List(policy_list::Arguments),
    /// Check manifests as the API server would: a line an error, exit 1 when there is one.
    ///
    /// Example: weft policy validate -f docs/examples/shop.yaml
    Validate(policy_validate::Validate),
    /// Wait until every node's kernel enforces a revision; exit 1 when one does not in time.
    ///
    /// Example: weft policy wait --timeout 10s && echo enforced everywhere
    Wait(policy_wait::Arguments),
}

/// Runs one.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Matrix(command) => policy_matrix::run(&command),
        Command::Explain(command) => policy_explain::run(&command),
        Command::List(arguments) => policy_list::run(&arguments),
        Command::Validate(command) => policy_validate::run(&command),
        Command::Wait(arguments) => policy_wait::run(&arguments),
    }
}
