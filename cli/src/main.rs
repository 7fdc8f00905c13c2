//! The weft command: admin commands, flows, the lab. One file a subcommand; no work here.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line's output is its product"
)]

mod commands;
mod grid;
mod lab;
mod output;
mod target;

use clap::Parser;
use std::process::ExitCode;

/// Inspect and operate a Weft fabric, and run one on this machine.
#[derive(Parser)]
#[command(name = "weft", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Compute, explain, check and await policies.
    #[command(subcommand)]
    Policy(commands::policy::Command),
    /// The pods that are plugged.
    #[command(subcommand)]
    Endpoint(commands::endpoint::Command),
    /// Health and revisions of agents and operators; exit 1 when something is wrong.
    Status(commands::status::Arguments),
    /// A whole cluster on this machine, without Kubernetes, Docker or images.
    #[command(subcommand)]
    Lab(lab::Command),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Policy(command) => commands::policy::run(command),
        Command::Endpoint(command) => commands::endpoint::run(command),
        Command::Status(arguments) => commands::status::run(&arguments),
        Command::Lab(command) => lab::run(command),
    };
    output::exit_code(result)
}
